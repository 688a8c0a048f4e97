// Package tiered keeps some groups on disk and some in memory, as their policies say, in one log:
// one order of ids, one position, and one set of gaps.
//
// The log on disk decides the order. It gives each message its id, and hands messages of groups that are
// kept in memory to the log in memory before it publishes them. A read merges the messages of both. When the
// process ends, the messages in memory are lost. The log on disk remembers their groups, so that only
// those have a gap.
//
// A policy that moves a group applies to new messages. Older ones stay where they are until the policy
// evicts them there.
package tiered
