// Package jetstream keeps the log in a stream of NATS JetStream, which several hubs share.
//
//	wb.<stream>.m.<group>   messages
//	wb.<stream>.r.<group>   messages with Retain, so that the last one of a group is easy to keep
//	wb.<stream>.t.<group>   messages with an expiry, so that it is known how many of the others there have to be
//	wb.<stream>.s.<group>   messages with Retain and an expiry
//	wb.<stream>.n.<key>     notes: only the newest version of each is kept (Nats-Rollup: sub)
//	wb.<stream>.hub.…       signs of life and calls of the hubs; not in the stream
//
// The levels of a group or key are tokens of its subject. Letters, digits, - and _ stand for themselves, other
// bytes are written =XX. The seq of a message is its sequence in the stream. Notes use up seqs, too, so that
// the ids of messages have holes.
//
// # The tail
//
// Each hub reads the whole stream with one consumer, in order (tail.go), into a log in memory (store/memory) with
// the ids of the stream. Everything that clients read comes from there, so all hubs show one order. Policies, purges
// and evictions are notes, which all hubs apply at the same position. A message for which memory has no room is
// read from the stream (read.go).
//
// An append publishes one message, or an atomic batch. It returns when its own tail has placed it: it is stored
// then, since a consumer delivers only what is, and this hub's readers can see it. The consumer is about 70 µs later than
// the acknowledgement of the server, so the tail takes a single message as received when it is acknowledged, if it
// has everything before it. Otherwise acknowledgements are needed only for errors. A hub sends no marks while its tail has no
// consumer: it makes one only after it has found out whether the stream is still the one that it has read. The servers remember the
// id of an append for a while only. So a hub that has not caught up for a while does so before it appends the answer to an idempotency key.
//
// # A record
//
// A record is the body of a message of the stream. Numbers are little-endian; v marks varints, and a text or
// value is preceded by its length, a varint, unless it is the last one.
//
//	version (1) | flags (1) | log (8) | number of the append (8) | index in the append (2)
//	  message:  time, ms (v) | expiry, ms or 0 (v) | group | event | uid | notes (v) | key, value, … | offset of msg (v) | tail
//	  note:     seq of the version that it replaces (v), or of itself if it is stored again | number of the version (v) | key | value, or why it is removed
//	CRC-32C (4)
//
// The entries of an append are adjacent, and its notes follow. All records but the last of an append have the flag
// hasMore; readers see them together.
//
// # Files
//
//	to open the log         start.go, connect.go, permissions.go, stream.go, bucket.go
//	to append               append.go, publish.go, unsettled.go, record.go, subject.go
//	the tail                tail.go, consumer.go, place.go; notes.go, keep.go and mark.go apply what it reads
//	to read old messages    read.go, window.go, cursor.go, find.go
//	to ask the leader       leader.go, reach.go, away.go
//	what hubs remove        janitor.go, through.go
//	what others remove      holes.go, foreign.go, missing.go; while no hub hears of it: missed.go, telling.go, counts.go
//	another stream          epoch.go, carry.go
//	limits of the stream    room.go, share.go, again.go
//	the other hubs          hubs.go
package jetstream
