package memory

import (
	"encoding/binary"
	"math"
	"sort"

	"github.com/watchbox-go/watchbox/store"
)

const (
	slotSize = 12
	seqBits  = 32 - store.FlagBits
	maxMsg   = math.MaxUint16 // the largest offset of a msg in its frame
)

// chunk is a part of a group's frames, in the format of doc.go.
type chunk struct {
	ring     *ring // nil if the chunk was freed
	mem      piece
	base     store.Seq
	baseTime int64 // milliseconds since 1970
	n        int   // slots
	end      int   // bytes of frames
	evicted  int   // slots evicted by the policy
	removed  int   // slots removed, at most those evicted
	no       int32 // its index in the log's table
	packed   int32 // size of the compressed frames; 0: not compressed

	withExpiry int32 // messages that have an expiry
	dueAt      int32 // its place in the queue of chunks that expire,
	due        int64 // and its key there, ms
	expires    int64 // the latest expiry, ms
}

// live returns the number of messages that are not evicted, and their bytes.
func (c *chunk) live() (n, bytes int) { return c.n - c.evicted, c.end - c.ends(c.evicted-1) }

type slot struct {
	seq        store.Seq
	time       int64
	start, end int // of the frame in the chunk
	msg        int // offset in the frame
	flags      store.Flags
}

// fits reports whether a frame of n bytes can be added. A slot has 16 bits for the end of its frame,
// so that a larger frame needs a chunk of its own.
func (c *chunk) fits(n int, seq store.Seq, time int64) bool {
	return c.size(n) <= len(c.mem.data) && c.takes(n, seq, time)
}

// takes reports whether a frame of n bytes could be added if the chunk had memory for it.
func (c *chunk) takes(n int, seq store.Seq, time int64) bool {
	return c.packed == 0 && (c.n == 0 || c.size(n) <= blockSize) &&
		uint64(seq-c.base) < 1<<seqBits && time-c.baseTime <= math.MaxUint32
}

// size returns the size of the chunk with another frame of n bytes.
func (c *chunk) size(n int) int { return c.end + n + (c.n+1)*slotSize }

// add writes the entry's frame, which must fit.
func (c *chunk) add(e *store.Entry, id store.ID, time int64) {
	frame, msg := e.AppendFrame(c.mem.data[c.end:c.end], id)
	c.end += len(frame)
	b := c.at(c.n)
	binary.LittleEndian.PutUint32(b[0:], uint32(id.Seq-c.base)<<store.FlagBits|uint32(e.Flags()))
	binary.LittleEndian.PutUint32(b[4:], uint32(time-c.baseTime))
	binary.LittleEndian.PutUint16(b[8:], uint16(c.end))
	binary.LittleEndian.PutUint16(b[10:], uint16(msg))
	c.n++
}

// move copies the chunk to larger memory, and returns the old memory.
func (c *chunk) move(to piece) (from piece) {
	copy(to.data, c.mem.data[:c.end])
	copy(to.data[len(to.data)-c.n*slotSize:], c.mem.data[len(c.mem.data)-c.n*slotSize:])
	from, c.mem = c.mem, to
	return from
}

// slotBytes is a slot in the format of doc.go.
type slotBytes [slotSize]byte

func (b *slotBytes) seq() store.Seq {
	return store.Seq(binary.LittleEndian.Uint32(b[0:]) >> store.FlagBits)
}
func (b *slotBytes) flags() store.Flags { return store.Flags(b[0] & (1<<store.FlagBits - 1)) }
func (b *slotBytes) time() int64        { return int64(binary.LittleEndian.Uint32(b[4:])) }
func (b *slotBytes) end() int           { return int(binary.LittleEndian.Uint16(b[8:])) }
func (b *slotBytes) msg() int           { return int(binary.LittleEndian.Uint16(b[10:])) }

func (c *chunk) at(i int) *slotBytes {
	return (*slotBytes)(c.mem.data[len(c.mem.data)-(i+1)*slotSize:])
}

func (c *chunk) seq(i int) store.Seq { return c.base + c.at(i).seq() }
func (c *chunk) time(i int) int64    { return c.baseTime + c.at(i).time() }

// ends returns the end of a slot's frame. Slot -1 ends where the first frame begins.
func (c *chunk) ends(i int) int {
	switch {
	case i < 0:
		return 0
	case i == c.n-1:
		return c.end
	}
	return c.at(i).end()
}

func (c *chunk) slot(i int) slot {
	b := c.at(i)
	return slot{c.base + b.seq(), c.baseTime + b.time(), c.ends(i - 1), c.ends(i), b.msg(), b.flags()}
}

// search returns the first slot whose seq is above after.
func (c *chunk) search(after store.Seq) int {
	return sort.Search(c.n, func(i int) bool { return c.seq(i) > after })
}

// describable reports whether a slot can describe an entry's frame of n bytes.
func describable(e *store.Entry, n int) bool { return n-len(e.Tail)+e.Msg <= maxMsg }
