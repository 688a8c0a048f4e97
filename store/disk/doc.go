// Package disk keeps the log on disk, in an embedded engine.
//
//	m seq           → header, frame       the messages, in the order of the log
//	x group, seq    → size, time, expiry  what eviction needs of them, group by group
//	r seq           → header, frame       the retained ones
//	e expiry, seq   → group               those of both that expire, in the order in which they do
//	g group         → counters            what is held of a group, and the newest that is not
//	p filter, n key, a fact               policies, notes of the hub, facts about the log
//
// One goroutine, the committer, changes the log. In a turn it takes all waiting appends, policies and
// purges and what is due by age or expiry, computes which messages that evicts, and writes everything in
// one commit with one fsync. Then it publishes the turn, under a lock that is never held for I/O, and
// answers the POSTs. Therefore a reader sees nothing that a crash could take back, and a group's record
// always agrees with its messages.
//
// The newest messages are also in memory, in the tail. Live listeners are served from there, and reading
// old history does not push anything out of it. There is no index in memory: memory grows with the number
// of groups, not of messages.
//
// An evicted message is deleted one turn after its eviction was committed. A reader looks up gaps after
// it has read the disk, so it finds either the message or its gap. A message that has expired is no gap,
// and is deleted at once.
//
// No id is given out above a ceiling that is on disk. A log that was not closed goes on above its
// ceiling, so that an id never names two contents, whatever the crash took. That alone is no gap: ids
// are not dense.
//
// # Which ends tell a gap
//
// A store that was not closed tells all groups of a gap where acknowledged messages may be missing:
//
//   - It was last open with another --fsync than always, and the machine may have stopped.
//   - The engine's newest log is damaged: valid records lie behind one that is not valid, or the file
//     ends inside a record and not at a sector (torn.go).
//   - The folder has less than the file ids says: the log is of an earlier life, or a log that was
//     closed does not reach to the id at which it was closed.
//
// It tells none where only the process was killed, or the power failed under --fsync always: what is
// cut off then was not acknowledged. A file whose end was removed later, at a sector or between two
// records, looks the same and is not noticed.
//
// # The engine
//
// Pebble, measured against bbolt (bench/disk; docs/PERFORMANCE.md has the figures): with 256
// committers it takes as many durable messages a second as the bare disk with one fsync for all
// that wait, where bbolt takes 0.6 of that; it gives space back, where a bbolt file only grows; its
// memory is bounded by an option, where bbolt's is the page cache; and it brings a file system for tests
// that loses what was not synced. It costs 8 MB of binary and 18 modules. Only engine.go depends on it,
// and guard.go and torn.go on its files.
package disk
