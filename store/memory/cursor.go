package memory

import (
	"math"
	"sort"

	"github.com/watchbox-go/watchbox/store"
)

// noSeq is above every seq.
const noSeq store.Seq = math.MaxUint64

// cursor is an iteration over the chunks of one ring, valid under the log's lock.
type cursor struct {
	chunks []*chunk
	chunk  int
	slot   int
	live   bool
	seq    store.Seq // of the next message; noSeq at the end
}

// newCursor returns a cursor at the first message after a position.
func newCursor(chunks []*chunk, after store.Seq, live bool) cursor {
	i := sort.Search(len(chunks), func(i int) bool { return chunks[i].base > after }) - 1
	c := cursor{chunks: chunks, chunk: max(i, 0), live: live}
	if i >= 0 {
		c.slot = chunks[i].search(after)
	}
	c.skipHidden()
	return c
}

func (c *cursor) done() bool { return c.seq == noSeq }

// skipHidden moves forward to a message that the reader may see.
func (c *cursor) skipHidden() {
	for ; c.chunk < len(c.chunks); c.chunk, c.slot = c.chunk+1, 0 {
		ch := c.chunks[c.chunk]
		from := ch.evicted
		if c.live {
			from = ch.removed
		}
		if c.slot = max(c.slot, from); c.slot < ch.n {
			c.seq = ch.seq(c.slot)
			return
		}
	}
	c.seq = noSeq
}

// run consumes messages below a seq, as far as they are in one chunk. At least the next one is below it.
func (c *cursor) run(below store.Seq) run {
	ch, from := c.chunks[c.chunk], c.slot
	to := ch.n
	if ch.seq(to-1) >= below {
		for to = from + 1; ch.seq(to) < below; to++ {
		}
	}
	c.slot = to
	c.skipHidden()
	return run{ch, from, to}
}
