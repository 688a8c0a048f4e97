// Package tiered keeps some groups on disk and some in memory, as their policies say, in one log:
// one order of ids, one position, one answer to whether there is a gap.
//
// The log on disk has the order. It gives each message its id, and those of groups that are kept in
// memory to the log there, before it makes them known. Whoever reads gets the messages of both,
// merged. When the process ends, what was in memory is gone: that is a gap in those groups alone,
// for the log on disk remembers which they were.
//
// A policy that is changed holds for what comes: what a group has stays where it is until the
// policy evicts it there.
package tiered
