// Package cursor keeps positions of readers in the log that outlive their readers, and the process if the log does.
//
// A position is small: what a reader selects, up to where it is done, and what is unacknowledged of that which it has
// read. The messages stay in the log. A reader that returns goes on from its position.
//
// # Promises
//
//   - C1 a position that is read after a crash was saved before it, whole: a reader that goes on from there may
//     get again what it acknowledged since, and skips nothing
//   - C2 what was saved more than Interval before a crash is not repeated, nor what was saved before a Flush that
//     returned nil, or before Close, unless the log refused it
//   - C3 a position is kept for its Expiry after its reader left, across restarts, and is gone soon afterwards
//   - C4 with a log that several hubs share, one hub at a time has a position. Claim returns the newest version
//     that another hub saved, unless that hub does not live any more. A hub that has lost a position cannot save it
//   - C5 Save, Get and Remove never wait for the log. A write that fails is tried again, or, if the log refuses the position as
//     too large, when the position changes. Until then the log has an older version. The next Claim of such a position finds none
//   - C6 the number of positions and the memory that they take are bounded
//   - C7 a position that depends on others is kept while one of them names it, and is gone soon after the last one is
//     and its reader has left, also if these were at other hubs
//
// # Format
//
// A position is the note cursor/KEY. Its value is
//
//	version (1 byte: 1)
//	hub that wrote it        length, bytes; empty if the hub is alone
//	epoch                    length, bytes; empty: claimed by a reader that has not saved it yet
//	Done, Read-Done          2 numbers
//	Expiry, Away             2 signed numbers: in ms, -1 for ever; Unix time in ms, 0 while the reader is there
//	filters                  count; each: length, bytes, length of the options, bytes
//	window                   count; each: seq as the signed difference to the one before (first: to Done), tag, state (1 byte)
//	Data                     the rest
//
// Lengths, counts and numbers are varints of encoding/binary.
package cursor
