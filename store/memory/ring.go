package memory

import (
	"math"
	"sort"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// ring holds the messages of one group, in chunks, the oldest first.
type ring struct {
	no      uint32 // differs from those of most other rings
	lingers bool   // it is in the log's list of rings with evicted bytes
	idle    bool   // it is in the log's list of rings that hold nothing in memory

	name   string
	policy keeping
	chunks []*chunk

	messages, bytes int64 // that are not evicted
	memory          int64 // of the chunks

	lost        *[2]loss // by kind; nil: none
	evictedTime int64    // of the newest message evicted

	retained *chunk   // has one frame
	spill    *spilled // nil without Options.Behind

	rate   store.Rate
	due    int64 // when its oldest message becomes too old, ms; set if its policy has a MaxAge
	ageAt  int32 // its places in the queues
	sizeAt int32
}

// keeping is what a ring needs of its policy.
type keeping struct {
	MaxMessages, MaxBytes int64
	MaxAge                time.Duration
	Compress              store.Choice
}

func (r *ring) tail() *chunk {
	if len(r.chunks) == 0 {
		return nil
	}
	return r.chunks[len(r.chunks)-1]
}

// oldest returns the chunk with the oldest message that is not evicted, or nil.
func (r *ring) oldest() *chunk {
	if len(r.chunks) > 0 && r.chunks[0].evicted < r.chunks[0].n {
		return r.chunks[0]
	}
	i := sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].evicted < r.chunks[i].n })
	if i == len(r.chunks) {
		return nil
	}
	return r.chunks[i]
}

// empty reports whether the ring holds nothing in memory.
func (r *ring) empty() bool { return len(r.chunks) == 0 && r.retained == nil }

// expires returns when the oldest message becomes too old, in ms.
func (r *ring) expires() int64 {
	c := r.oldest()
	if c == nil {
		return math.MaxInt64
	}
	return c.time(c.evicted) + r.policy.MaxAge.Milliseconds()
}

// excess reports whether the policy no longer keeps the oldest message, which is in c.
func (r *ring) excess(c *chunk, now int64) bool {
	p := &r.policy
	return p.MaxMessages > 0 && r.messages > p.MaxMessages ||
		p.MaxBytes > 0 && r.bytes > p.MaxBytes ||
		p.MaxAge > 0 && c.time(c.evicted)+p.MaxAge.Milliseconds() <= now
}

// excessAll reports whether the policy no longer keeps any message of c, which has the oldest.
func (r *ring) excessAll(c *chunk, now int64) bool {
	p := &r.policy
	n, bytes := c.live()
	return p.MaxMessages > 0 && r.messages-int64(n) >= p.MaxMessages ||
		p.MaxBytes > 0 && r.bytes-int64(bytes) >= p.MaxBytes ||
		p.MaxAge > 0 && c.time(c.n-1)+p.MaxAge.Milliseconds() <= now
}

const (
	smallRing     = 4 << 10 // a ring of up to this size has one chunk
	chunkParts    = 8       // a ring has about this many chunks, until each has the size of a block
	newChunkParts = 64      // a new chunk has this part of the ring's memory
)

// maxChunkSize returns the size up to which the last chunk grows. Large chunks cost less per message; but the
// unused part of the last one, and the evicted part of the first one, should be small compared to the
// ring.
func (r *ring) maxChunkSize() int {
	return min(max(int(r.memory/chunkParts), smallRing), blockSize)
}

// newChunkSize returns the initial size of a new chunk. It grows with the ring, so that less is copied while
// the chunk grows.
func (r *ring) newChunkSize() int { return min(int(r.memory/newChunkParts), blockSize) }
