// Package memory keeps the log in memory: a ring of encoded frames per group, and one order over all
// of them.
//
//	group home/temp   ring  [chunk 3: frame frame frame … slots] [chunk 9: frame frame …   slots]
//	group home/door   ring  [chunk 5: frame …                                              slots]
//	                              ▲        ▲
//	order             seq 1 ──────┘  seq 2 ┘  3 → (chunk, slot) …          8 bytes a message
//
// Each group has a ring of chunks, so that the messages that a policy evicts, and those that a
// listener to one group missed, are contiguous. Within a chunk, frames grow from the front and
// fixed-size slots from the back:
//
//	chunk   | frame 0 | frame 1 | …  →            ←  … | slot 1 | slot 0 |
//	slot    seq - base (26 bits) · flags (6 bits) · time - base time, ms (4) · end of its frame (2) · msg (2)
//
// All numbers are little-endian. The end of the last frame is that of the chunk and not in its slot,
// so that a frame larger than 64 KiB fits into a chunk of its own. The last chunk of a ring grows by
// being copied, up to an eighth of the ring or 64 KiB; then the ring gets another chunk.
//
// The order is a sequence of pages that map a seq to (chunk, slot). The entries of removed messages
// are blanked, and pages shrink as they empty. A second order, of the same type, has the retained
// messages.
//
// Chunks and pages are allocated from an arena outside the Go heap, so that the garbage collector
// neither scans nor counts them. --max-memory bounds the resident pages of the arena, plus the heap
// memory for each chunk, page and group. When the bound is reached, the oldest chunk of the largest
// group is evicted. In the steady state a message takes about 21 bytes beside its frame in one group,
// and 28 in a thousand groups of 500 messages each: 20 for slot and order entry, the rest for unused
// space in chunks.
//
// A policy evicts messages at once, but their bytes are removed a moment later: a listener that is a
// few milliseconds behind on a group that keeps one message still gets every message (Query.Live).
//
// Expired messages take space until all messages of their chunk have expired. Then the chunk is
// freed, even in the middle of its ring (expire.go).
//
// With Options.Behind, another log holds every message, and this one as many of the newest as it has room
// for. A message that it has no room for is spilled, which is no loss:
//
//	group home/temp   1 … floor │ … horizon │ …
//	                  evicted   │ spilled   │ in memory
//
// All messages of a group after its horizon are in memory, and those up to its floor are evicted. A
// message that memory does not take therefore spills all of its group. Read returns a SpilledError instead of
// skipping a spilled message. The user then reads the log behind up to the position in that error, shows
// what is above Floor, and adds Gaps.
//
// A policy is enforced here only as far as the messages in memory alone exceed it; all spilled messages
// of the group go first. Otherwise the user evicts: Excesses yields the groups, and Evict applies it. Counts
// include spilled messages except those that expire. Retained messages are always in memory, even above
// MaxMemory; Admit keeps them to half of it. Groups whose messages are all spilled lose their names when
// groups take half of MaxMemory (unnamed.go).
//
// Only Log's methods access rings, orders and arena together. They do so under the log's lock, never
// during I/O, and for a bounded number of steps (maxHoldSteps). A read that finds nothing within these
// surveys the groups (survey.go) and merges the rings that match, or returns early. Purges, policy
// changes, max_age and expiry release the lock in between. The store starts no goroutine; one timer
// serves max_age, expiry and the removal of evicted messages.
package memory
