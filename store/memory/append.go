package memory

import (
	"context"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Append implements store.Log.
func (l *Log) Append(_ context.Context, entries []store.Entry) (store.ID, error) {
	return l.place(entries, nil)
}

// Place appends entries with the given seqs, which rise and are above all that were used. It stores
// all or none. A log is used either with Place or with Append.
//
// With Options.Behind it fails only after Close: entries without room are spilled, and those that were placed
// before are ignored.
func (l *Log) Place(entries []store.Entry, seqs []store.Seq) error {
	if l.opts.Behind {
		return l.placeAll(entries, seqs)
	}
	_, err := l.place(entries, seqs)
	return err
}

func (l *Log) place(entries []store.Entry, seqs []store.Seq) (store.ID, error) {
	id, full, err := l.append(entries, seqs)
	if err != nil {
		return store.ID{}, err
	}
	l.wakes.Wake()
	for _, c := range full {
		l.pack(c)
	}
	return id, nil
}

// tidySteps is how many steps of work that is due an append does beside its own. The timer does the
// rest.
const tidySteps = 256

// append returns the first id, and the full chunks that should be compressed. Without seqs it uses the
// next ones.
func (l *Log) append(entries []store.Entry, seqs []store.Seq) (first store.ID, full []*chunk, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = store.ID{Epoch: l.life.Load().epoch, Seq: l.last() + 1}
	if seqs != nil {
		first.Seq = seqs[0]
	}
	id := first
	if err := l.admit(entries, first); err != nil {
		return first, nil, err
	}
	at := time.Now()
	now := at.UnixMilli()
	for i := range entries {
		r := l.targets[i]
		if seqs != nil {
			id.Seq = seqs[i]
		}
		if c := l.push(r, &entries[i], id, now); c != nil {
			full = append(full, c)
		}
		l.enforce(r, now, maxHoldSteps)
		if r.lingers {
			l.reclaim(r, now-linger, tidySteps)
		}
		l.stamps.Note(id.Seq, at)
		id.Seq++
	}
	l.life.Load().newest.Store(uint64(id.Seq) - 1)
	l.tidy(now, tidySteps)
	l.schedule(now)
	return first, full, nil
}

// push stores one entry. It returns the previous chunk if that is now full and should be compressed.
func (l *Log) push(r *ring, e *store.Entry, id store.ID, now int64) (full *chunk) {
	l.clock = max(l.clock, min(e.Time.UnixMilli(), now))
	n := e.FrameLen(id)
	l.order.reserve(id.Seq, l.alloc)
	before := r.tail()
	c := l.open(r, n, id.Seq)
	l.order.add(id.Seq, place{int(c.no), c.n})
	c.add(e, id, l.clock)
	l.noteExpiry(c, e)
	r.messages++
	r.bytes += int64(n)
	l.messages++
	l.bytes += int64(n)
	r.rate.Count(now)
	if r.messages == 1 && r.policy.MaxAge > 0 {
		l.fixAge(r)
	}
	if e.Retain {
		l.retain(r, e, id, n)
	}
	if r.policy.Compress == store.Yes && before != nil && before != c && before.ring == r {
		return before
	}
	return nil
}

// open returns a last chunk of the ring that has room for a frame of n bytes. The allocation may evict
// messages of the same ring, even that chunk.
func (l *Log) open(r *ring, n int, seq store.Seq) *chunk {
	if c := r.tail(); c != nil {
		if c.fits(n, seq, l.clock) {
			return c
		}
		// A chunk with evicted messages is not copied, but followed by a new one.
		if size := roundUp(c.size(n)); size <= r.maxChunkSize() && c.evicted == 0 && c.takes(n, seq, l.clock) {
			mem := l.alloc(size, history)
			if c.ring == r {
				r.memory += int64(len(mem.data) - len(c.mem.data))
				l.arena.release(c.move(mem))
				l.bySize.fix(r)
				return c
			}
			l.arena.release(mem)
		}
	}
	return l.extend(r, n, seq)
}

// extend adds a chunk to a ring that has room for a frame of n bytes.
func (l *Log) extend(r *ring, n int, seq store.Seq) *chunk {
	mem := l.alloc(max(n+slotSize, r.newChunkSize()), history)
	c := l.newChunk(r, mem, seq)
	r.chunks = append(r.chunks, c)
	r.memory += int64(len(mem.data))
	l.bySize.fix(r)
	return c
}

func (l *Log) newChunk(r *ring, mem piece, seq store.Seq) *chunk {
	c := &chunk{ring: r, mem: mem, base: seq, baseTime: l.clock}
	if no, ok := pop(&l.unused); ok {
		c.no = int32(no)
		l.chunks[no] = c
		return c
	}
	c.no = int32(len(l.chunks))
	l.chunks = append(l.chunks, c)
	return c
}

func (l *Log) freeChunk(c *chunk) {
	l.byExpiry.remove(c)
	l.arena.release(c.mem)
	l.chunks[c.no] = nil
	l.unused = append(l.unused, int(c.no))
	c.ring = nil
}
