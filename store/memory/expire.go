package memory

import (
	"slices"
	"sort"

	"github.com/watchbox-go/watchbox/store"
)

// Readers skip expired messages. The space of a message is freed once all messages of its chunk have
// expired; the chunk may be in the middle of its ring. This is not a loss, and so not a gap.

// noteExpiry updates when the chunk expires, after the entry was added to it.
func (l *Log) noteExpiry(c *chunk, e *store.Entry) {
	if e.Expires.IsZero() {
		l.byExpiry.remove(c)
		return
	}
	c.withExpiry++
	at := e.Expires.UnixMilli()
	if c.withExpiry == 1 || at > c.expires {
		c.expires = at
	}
	if int(c.withExpiry) == c.n && !l.byExpiry.has(c) {
		c.due = c.expires
		l.byExpiry.add(c)
	}
}

// expire frees chunks whose messages have all expired. It takes at most left steps, and returns how many
// remain.
func (l *Log) expire(now int64, left int) int {
	for c := l.byExpiry.first(); c != nil && c.due <= now && left > 0; c = l.byExpiry.first() {
		if c.expires > now { // messages with a later expiry were added
			c.due = c.expires
			l.byExpiry.fix(c)
			left--
			continue
		}
		left -= 1 + c.n
		if c.ring.retained == c {
			l.clearRetained(c.ring)
		} else {
			l.expireChunk(c, now)
		}
	}
	return left
}

// expireChunk frees a chunk whose messages have all expired.
func (l *Log) expireChunk(c *chunk, now int64) {
	r := c.ring
	n, bytes := c.live()
	l.uncount(r, n, bytes)
	for i := c.removed; i < c.n; i++ {
		l.order.remove(c.seq(i))
	}
	at := sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].base >= c.base })
	r.chunks = slices.Delete(r.chunks, at, at+1)
	l.dropChunk(r, c)
	l.updateQueues(r, now)
}

// hasExpired reports whether all messages of the chunk have.
func (c *chunk) hasExpired(now int64) bool { return int(c.withExpiry) == c.n && c.expires <= now }
