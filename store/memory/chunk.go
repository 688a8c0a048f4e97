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
	maxMsg   = math.MaxUint16 // the farthest from its frame's start that a msg may begin
)

// chunk is a stretch of one group's frames, as doc.go draws it.
type chunk struct {
	ring     *ring // nil once it is freed
	no       int   // its number in the log's table
	mem      piece
	base     store.Seq
	baseTime int64 // milliseconds since 1970
	n        int   // slots
	end      int   // bytes of frames
	gone     int   // slots evicted by policy
	head     int   // slots removed: at most gone
	packed   int   // bytes that the frames were compressed to; 0: they are not

	mortal  int   // slots of messages with an expiry
	expires int64 // the latest of these, ms
	due     int64 // where it is in the queue of chunks that expire: when it is looked at
	dueAt   int
}

// live returns how many messages the policy keeps, and their bytes.
func (c *chunk) live() (n, bytes int) { return c.n - c.gone, c.end - c.ends(c.gone-1) }

type slot struct {
	seq        store.Seq
	time       int64
	start, end int // of the frame among the frames' bytes
	msg        int // from the frame's start
	flags      store.Flags
}

// fits reports whether a frame of n bytes can be added. A slot has 16 bits for where a frame
// ends, so that one that is larger has a chunk to itself.
func (c *chunk) fits(n int, seq store.Seq, time int64) bool {
	return c.size(n) <= len(c.mem.data) && c.takes(n, seq, time)
}

// takes reports whether a frame of n bytes could be added if there were memory for it.
func (c *chunk) takes(n int, seq store.Seq, time int64) bool {
	return c.packed == 0 && (c.n == 0 || c.size(n) <= blockSize) &&
		uint64(seq-c.base) < 1<<seqBits && time-c.baseTime <= math.MaxUint32
}

// size returns the bytes needed with a frame of n bytes more.
func (c *chunk) size(n int) int { return c.end + n + (c.n+1)*slotSize }

// add writes the entry's frame, which fits.
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

// move takes the chunk to other memory, which has room.
func (c *chunk) move(to piece) (from piece) {
	copy(to.data, c.mem.data[:c.end])
	copy(to.data[len(to.data)-c.n*slotSize:], c.mem.data[len(c.mem.data)-c.n*slotSize:])
	from, c.mem = c.mem, to
	return from
}

// slotBytes are a slot as doc.go draws it.
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

// ends returns where a slot's frame ends. Slot -1 ends where the first begins.
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
