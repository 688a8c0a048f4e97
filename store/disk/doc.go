// Package disk keeps the log on disk, in an embedded engine.
//
//	m seq           → header, frame       the messages, in the order of the log
//	x group, seq    → size, time, expiry  what eviction needs of them, group by group
//	r seq           → header, frame       the retained messages
//	e expiry, seq   → group               messages of both kinds that expire, sorted by expiry
//	g group         → counters            totals of a group, and its newest evicted message
//	p filter, n key, a fact               policies, notes of the hub, facts about the log
//
// One goroutine, the committer, changes the log. In a turn it takes all waiting appends, policies and
// purges and all messages that are due by age or expiry, computes which messages are evicted, and writes
// everything in one commit with one fsync. Then it publishes the turn, under a lock that is never held for I/O, and
// answers the POSTs. Therefore a reader sees no message that a crash could undo, and a group's record
// always agrees with its messages.
//
// The newest messages are also in memory, in the tail. Live listeners are served from there, and reading
// old history does not push anything out of it. There is no index in memory: memory grows with the number
// of groups, not of messages.
//
// An evicted message is deleted one turn after its eviction was committed. A reader looks up gaps after
// it has read the disk, so it finds either the message or its gap. A message that has expired causes no
// gap and is deleted at once.
//
// No id is given out above a ceiling that is on disk. A log that was not closed continues above its
// ceiling, so that an id never names two contents, even if the crash lost messages. The skipped ids
// alone are no gap, since ids are not dense.
//
// # When a restart reports a gap
//
// A store that was not closed reports a gap for all groups if acknowledged messages may be missing:
//
//   - It was last opened with an --fsync other than always, and the machine may have stopped.
//   - The engine's newest log is damaged: valid records follow an invalid one, or the file ends inside a
//     record and not at a sector boundary (torn.go).
//   - The folder holds less than the file ids says: the log is from an earlier run, or a log that was
//     closed ends before the id at which it was closed.
//
// It reports none if only the process was killed, or if the power failed under --fsync always: the records
// that are cut off then were not acknowledged. A file that was truncated later, at a sector boundary or
// between two records, looks the same and is not noticed.
//
// # The engine
//
// Pebble, measured against bbolt (bench/disk; docs/PERFORMANCE.md has the figures): with 256
// committers it stores as many durable messages a second as the bare disk with one fsync for all waiting
// committers, and bbolt 0.6 of that. It gives space back, while a bbolt file only grows. Its memory is
// bounded by an option, while bbolt uses the page cache. It includes a file system for tests that loses
// unsynced data. It costs 8 MB of binary and 18 modules. Only engine.go depends on it,
// and guard.go and torn.go on its files.
package disk
