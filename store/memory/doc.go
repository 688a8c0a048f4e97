// Package memory keeps the log in memory: rings of encoded frames and one order over them.
//
//	group home/temp   ring  [chunk 3: frame frame frame … slots] [chunk 9: frame frame …   slots]
//	group home/door   ring  [chunk 5: frame …                                              slots]
//	                              ▲        ▲
//	order             seq 1 ──────┘  seq 2 ┘  3 → (chunk, slot) …          8 bytes a message
//
// Bytes live in one ring of chunks per group, so that what a policy evicts is contiguous and what
// a listener to one group has missed is, too. Within a chunk frames grow from the front and
// fixed-size slots from the back:
//
//	chunk   | frame 0 | frame 1 | …  →            ←  … | slot 1 | slot 0 |
//	slot    seq - base (27 bits) · flags (5 bits) · time - base time, ms (4) · end of its frame (2) · msg (2)
//
// All little-endian. The last frame's end is the chunk's, so that a frame larger than 64 KiB has a
// chunk to itself. A ring's last chunk grows with what comes, by being copied, up to an eighth of the
// ring or 64 KiB; then there is a next one.
//
// The order is a sequence of pages of (chunk, slot) by seq; what is evicted is blanked there and
// pages shrink with what they hold. A second order, of the same type, leads to the retained
// messages.
//
// Chunks and pages are taken from an arena outside the Go heap: the garbage collector neither
// walks nor counts them, and --max-memory is a bound on real pages, with what the heap has for
// each chunk, page and group. When it is reached, the oldest chunk of the largest group goes. In
// the steady state a message takes about 21 bytes beside its frame in one group, and 28 in a
// thousand groups of 500 messages each: 20 for slot and entry, the rest for what chunks leave
// unused.
//
// A policy evicts logically at once, but the bytes linger for a moment: a listener that is a few
// milliseconds behind on a group that keeps one message still gets every one (Query.Live).
//
// What has expired takes room until all messages of its chunk have: then the chunk goes, from the
// middle of its ring, too (expire.go).
//
// Only Log's methods touch rings, orders and arena together, under its lock, which is held to
// copy and never for I/O. It is held for a bounded number of steps (holdMost): a read that has found
// nothing by then surveys the groups (survey.go) and merges the rings of those that match, or stops
// early; purges, policies, ages and expiry go on in the next hold. The store starts no goroutine; one
// timer serves ages, expiry and lingering.
package memory
