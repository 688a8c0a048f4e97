package memory

import (
	"math"
	"sort"

	"github.com/watchbox-go/watchbox/store"
)

// ring is what is held of one group: chunks, the oldest first.
type ring struct {
	no     int // rises with each new ring
	name   string
	policy store.Policy
	chunks []*chunk

	messages, bytes int64 // held as far as the policy goes
	memory          int64 // of the chunks

	lost        [2]loss // by kind
	evictedTime int64   // of the newest message evicted

	retained *chunk // of one frame

	rate   store.Rate
	due    int64 // when its oldest message is too old, ms; kept where its policy has a MaxAge
	ageAt  int   // where the heaps have it
	sizeAt int

	lingers bool // it is in the log's list of rings with evicted bytes
	idle    bool // it is in the log's list of rings with nothing in them
}

func (r *ring) tail() *chunk {
	if len(r.chunks) == 0 {
		return nil
	}
	return r.chunks[len(r.chunks)-1]
}

// oldest returns the chunk with the oldest message that the policy keeps, or nil.
func (r *ring) oldest() *chunk {
	if len(r.chunks) > 0 && r.chunks[0].gone < r.chunks[0].n {
		return r.chunks[0]
	}
	i := sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].gone < r.chunks[i].n })
	if i == len(r.chunks) {
		return nil
	}
	return r.chunks[i]
}

func (r *ring) empty() bool { return len(r.chunks) == 0 && r.retained == nil }

// expires returns when the oldest message is too old, in ms.
func (r *ring) expires() int64 {
	c := r.oldest()
	if c == nil {
		return math.MaxInt64
	}
	return c.time(c.gone) + r.policy.MaxAge.Milliseconds()
}

// excess reports whether the policy no longer keeps the oldest message, which is in c.
func (r *ring) excess(c *chunk, now int64) bool {
	p := &r.policy
	return p.MaxMessages > 0 && r.messages > p.MaxMessages ||
		p.MaxBytes > 0 && r.bytes > p.MaxBytes ||
		p.MaxAge > 0 && c.time(c.gone)+p.MaxAge.Milliseconds() <= now
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
	smallSeal = 4 << 10 // up to here even the smallest ring has one chunk
	sealParts = 8       // a ring has about so many chunks, until they are of a block each
	openParts = 64      // and what its last chunk leaves unused is about such a part at most
)

// seal returns the size up to which the last chunk grows. Large chunks cost less for each
// message; but the unused rest of the last, and the evicted part of the first, are to be small
// beside the ring.
func (r *ring) seal() int {
	return min(max(int(r.memory/sealParts), smallSeal), blockSize)
}

// open returns the size that a new chunk begins with: the larger the ring, the less of a chunk is
// copied as it grows.
func (r *ring) open() int { return min(int(r.memory/openParts), blockSize) }
