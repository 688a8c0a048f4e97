package memory

import (
	"slices"
	"sort"

	"github.com/watchbox-go/watchbox/store"
)

// A message that has expired is not read, wherever it lies. Its room is free once all messages of
// its chunk have expired: then the chunk goes, from the midst of its ring, too. That is no loss, and
// so no gap.

// noteExpiry notes when the chunk may go, as the entry is added to it.
func (l *Log) noteExpiry(c *chunk, e *store.Entry) {
	if e.Expires.IsZero() {
		l.byExpiry.remove(c)
		return
	}
	c.mortal++
	at := e.Expires.UnixMilli()
	if c.mortal == 1 || at > c.expires {
		c.expires = at
	}
	if c.mortal == c.n && !l.byExpiry.has(c) {
		c.due = c.expires
		l.byExpiry.add(c)
	}
}

// expire frees chunks of which all messages have expired, in at most so many steps, of which it
// returns how many are left.
func (l *Log) expire(now int64, left int) int {
	for c := l.byExpiry.first(); c != nil && c.due <= now && left > 0; c = l.byExpiry.first() {
		if c.expires > now { // messages were added since
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

// expireChunk frees a chunk of messages that have all expired.
func (l *Log) expireChunk(c *chunk, now int64) {
	r := c.ring
	n, bytes := c.live()
	l.uncount(r, n, bytes)
	for i := c.head; i < c.n; i++ {
		l.order.remove(c.seq(i))
	}
	at := sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].base >= c.base })
	r.chunks = slices.Delete(r.chunks, at, at+1)
	l.dropChunk(r, c)
	l.settle(r, now)
}

// hasExpired reports whether all messages of the chunk have.
func (c *chunk) hasExpired(now int64) bool { return c.mortal == c.n && c.expires <= now }
