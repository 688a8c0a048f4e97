package memory

import (
	"math"
	"sort"

	"github.com/watchbox-go/watchbox/store"
)

// cursor is a way through one ring, valid under the log's lock.
type cursor struct {
	r     *ring
	chunk int
	slot  int
	live  bool
	seq   store.Seq // of the next message; the highest there is at the end
}

// after returns the cursor behind a position.
func (r *ring) after(seq store.Seq, live bool) cursor {
	i := sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].base > seq }) - 1
	c := cursor{r: r, chunk: max(i, 0), live: live}
	if i >= 0 {
		c.slot = r.chunks[i].search(seq)
	}
	c.settle()
	return c
}

// settle moves on to the next message that the cursor may see.
func (c *cursor) settle() {
	for ; c.chunk < len(c.r.chunks); c.chunk, c.slot = c.chunk+1, 0 {
		ch := c.r.chunks[c.chunk]
		from := ch.gone
		if c.live {
			from = ch.head
		}
		if c.slot = max(c.slot, from); c.slot < ch.n {
			c.seq = ch.seq(c.slot)
			return
		}
	}
	c.seq = math.MaxUint64
}

// run takes the messages below a seq, as far as they lie in one chunk. The next one is below it.
func (c *cursor) run(below store.Seq) run {
	ch, from := c.r.chunks[c.chunk], c.slot
	to := ch.n
	if ch.seq(to-1) >= below {
		for to = from + 1; ch.seq(to) < below; to++ {
		}
	}
	c.slot = to
	c.settle()
	return run{ch, from, to}
}
