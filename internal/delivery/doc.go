// Package delivery keeps the position of each stream in the log and moves it forward.
//
// follow.go defines a subscription: read the messages after the position, write them, and repeat until
// there are no more. A shard (shard.go) does the same for many streams that are all at the end of the
// log: it reads the log once and writes the same bytes to every stream whose filters match.
//
// A stream is always in one of two states, and has one owner:
//
//	following   owned by the goroutine that runs follow
//	parked      owned by its shard, at the shard's position
//
// A stream starts as following, at any position. At the end of the log it parks: it sends itself to its
// shard's inbox. The shard sends it back to following when its socket does not accept everything, or when
// only a goroutine that may block can write to it. One comparison keeps the change of owner safe: a shard
// delivers a message to a stream only if the message's seq is above the stream's position.
//
// The owner of a shard is the goroutine that holds its lock: its own goroutine or, for messages to a few
// streams, a publisher (inline.go). Both do the same work.
//
// The client of another protocol has a Codec (codec.go), which renders messages and says when the client takes no more.
// Then the stream waits in its shard, neither parked nor following, until Resume. It waits at a position like any
// other, so nothing is queued for it.
//
// Gaps come from one place: Log.Read reports what was evicted, and follow turns that into events.
package delivery
