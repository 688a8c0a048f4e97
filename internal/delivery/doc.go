// Package delivery knows where each stream is in the log, and moves it on.
//
// What a subscription means stands in follow.go: read behind my position, write, until there is
// nothing more. A shard (shard.go) is the same for many streams at once that are all at the end:
// it reads the log once and writes the same bytes to every stream that they match.
//
// A stream is at any time in one of two states, and has one owner:
//
//	following   owned by the goroutine that runs follow
//	parked      owned by its shard, at the shard's position
//
// A shard has an owner, too: the one who holds its lock. That is its goroutine or, for messages to
// a few streams, the publisher (inline.go). Both do the same work.
//
// It begins as following, wherever it starts. It parks by sending itself to its shard's inbox. A
// socket that does not take all it is given, and one that can only be written by a goroutine that
// may wait, is sent back to following. What joins the two is one comparison: a shard delivers a
// message to a stream only if its seq is above the stream's position.
//
// Gaps are born in one place: Log.Read says what was evicted, follow makes events of it.
package delivery
