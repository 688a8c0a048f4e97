package delivery

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/watchbox-go/watchbox/store"
)

// smallUnsent is how many unsent bytes of a message a stream may keep regardless of the bound. It is about
// the memory of the stream's goroutine.
const smallUnsent = 4 << 10

// unsent is the rest of a message that a socket accepted only in part. The stream has to write it before
// anything else. It is a copy: a slice of the store's memory would keep a whole chunk alive, and the
// message may be evicted before it could be read again.
type unsent struct {
	bytes []byte
	of    *copies
	frame *frameCopy // that bytes lies in; nil: bytes are the stream's own
	last  mark       // of the message that bytes ends
}

// release frees the bytes. The stream does not need them any more.
func (u *unsent) release() {
	switch {
	case u.of == nil:
	case u.frame == nil:
		u.of.size.Add(-int64(len(u.bytes)))
	default:
		u.of.release(u.frame)
	}
	*u = unsent{}
}

// copies keeps the unsent bytes of all streams, within a bound. Streams that have sent a part of the same
// large message share one copy of it.
type copies struct {
	most int64
	size atomic.Int64 // bytes kept

	mu     sync.Mutex // guards what follows
	frames map[frameKey]*frameCopy
}

// frameKey identifies the bytes of a message on the wire.
type frameKey struct {
	seq    store.Seq
	form   form
	common Common // for asCommon
}

type frameCopy struct {
	key     frameKey
	bytes   []byte
	streams int
}

func newCopies(most int64) *copies { return &copies{most: most, frames: map[frameKey]*frameCopy{}} }

// keep keeps the bytes of a parcel from n to the end of its mark i. It returns errSlow if there is no
// room for more than smallUnsent: then the stream has to end, and its client resumes by id.
func (c *copies) keep(p *parcel, n, i int) (unsent, error) {
	begin := 0
	if i > 0 {
		begin = p.marks[i-1].end
	}
	m := p.marks[i]
	if m.form == unshared || m.form == asOwn || n < begin || m.end-begin <= smallUnsent {
		return c.own(p.out[n:m.end])
	}
	return c.share(frameKey{m.seq, m.form, p.common}, p.out[begin:m.end], n-begin)
}

func (c *copies) own(b []byte) (unsent, error) {
	size := int64(len(b))
	if c.size.Add(size) > c.most && size > smallUnsent {
		c.size.Add(-size)
		return unsent{}, errSlow
	}
	return unsent{bytes: bytes.Clone(b), of: c}, nil
}

func (c *copies) share(key frameKey, frame []byte, from int) (unsent, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.frames[key]
	if f == nil {
		size := int64(len(frame))
		if c.size.Add(size) > c.most {
			c.size.Add(-size)
			return unsent{}, errSlow
		}
		f = &frameCopy{key: key, bytes: bytes.Clone(frame)}
		c.frames[key] = f
	}
	if key.common != nil && !bytes.Equal(f.bytes, frame) { // such as a time that the message has left
		return c.own(frame[from:])
	}
	f.streams++
	return unsent{bytes: f.bytes[from:], of: c, frame: f}, nil
}

func (c *copies) release(f *frameCopy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.streams--; f.streams == 0 {
		delete(c.frames, f.key)
		c.size.Add(-int64(len(f.bytes)))
	}
}

// halfFull reports whether more than half of the room is in use.
func (c *copies) halfFull() bool { return c.size.Load() > c.most/2 }
