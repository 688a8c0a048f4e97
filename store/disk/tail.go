package disk

import (
	"sort"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

const (
	tailParts  = 8        // the part of the memory for history
	smallBlock = 32 << 10 // turns share a block up to this size
	blockParts = 8        // and up to this part of the tail
	recentCost = 96       // bytes that a message takes in the tail in addition to its frame
)

// tail holds the newest messages in memory, evicted ones too, so that live listeners are served without
// reading the disk. It is guarded by the log's mu.
type tail struct {
	base   store.Seq // all messages above it are in the blocks
	blocks []*block
	size   int
	most   int
}

// block has messages with rising seqs, and their frames back to back.
type block struct {
	items []recent
	buf   []byte
	last  store.Seq
}

// recent is a message in a turn, and then in the tail.
type recent struct {
	item
	g        *group
	msg      int
	flags    store.Flags
	end      int  // of its frame, which begins where the previous frame ends
	inMemory bool // the log in memory has it; only its seq is here
	evicted  bool // it was evicted by the turn that appended it
}

func (b *block) size() int { return cap(b.buf) + recentCost*len(b.items) }

// add adds a turn's messages, whose highest seq is last.
func (t *tail) add(from *turn, last store.Seq) {
	if len(from.items) == 0 {
		return
	}
	if k := len(t.blocks); k > 0 && len(t.blocks[k-1].buf)+len(from.buf) <= min(smallBlock, t.most/blockParts) {
		b := t.blocks[k-1]
		t.size -= b.size()
		at := len(b.buf)
		b.buf = append(b.buf, from.buf...)
		for _, m := range from.items {
			m.end += at
			b.items = append(b.items, m)
		}
		b.last = last
		t.size += b.size()
		return
	}
	b := &block{items: from.items, buf: from.buf, last: last}
	t.blocks = append(t.blocks, b)
	t.size += b.size()
}

// trim drops the oldest blocks, except the last, until the rest is small enough. It calls dropped for each
// message.
func (t *tail) trim(dropped func(m *recent, now int64)) {
	now := time.Now().UnixMilli()
	for t.size > t.most && len(t.blocks) > 1 {
		b := t.blocks[0]
		t.blocks[0] = nil
		t.blocks = t.blocks[1:]
		t.size -= b.size()
		t.base = b.last
		for i := range b.items {
			if !b.items[i].inMemory {
				dropped(&b.items[i], now)
			}
		}
	}
}

// after calls yield for each message after a position, until it returns false.
func (t *tail) after(pos store.Seq, yield func(m *recent, frame []byte) bool) {
	from := sort.Search(len(t.blocks), func(i int) bool { return t.blocks[i].last > pos })
	for _, b := range t.blocks[min(from, len(t.blocks)):] {
		i := sort.Search(len(b.items), func(i int) bool { return b.items[i].seq > pos })
		start := 0
		if i > 0 {
			start = b.items[i-1].end
		}
		for ; i < len(b.items); i++ {
			m := &b.items[i]
			if !m.inMemory && !yield(m, b.buf[start:m.end]) {
				return
			}
			start = m.end
		}
	}
}
