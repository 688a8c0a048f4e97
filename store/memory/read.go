package memory

import (
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Read implements store.Log.
func (l *Log) Read(q store.Query, b *store.Batch) error {
	now := time.Now()
	l.age(now.UnixMilli())
	l.mu.RLock()
	defer l.mu.RUnlock()
	b.Reset(l.epoch)
	b.Told = l.opts.Losses.Now()
	if l.closed {
		return store.ErrClosed
	}
	end := l.last()
	if q.Through > 0 {
		end = min(end, q.Through)
	}
	b.Next = max(end, q.After)
	if q.After >= end {
		return nil
	}
	if !q.Retained {
		l.gaps(&q, b)
	}
	l.fill(l.source(q, scratch(b)), end, b, now)
	return nil
}

// fill copies messages into the batch until it is full or end is reached.
func (l *Log) fill(src source, end store.Seq, b *store.Batch, now time.Time) {
	for r, ok := src.next(end); ok; r, ok = src.next(end) {
		if !l.copyRun(r, b, now) {
			return
		}
	}
}

// copyRun copies the messages of a run, but those that expired, until the batch is full. What
// lies back to back is copied at once.
func (l *Log) copyRun(r run, b *store.Batch, now time.Time) (more bool) {
	c, name, frames := r.c, r.c.ring.name, r.c.mem.data
	if c.packed > 0 {
		frames = l.frames(c, &scratch(b).unpacked)
	}
	from := c.ends(r.from - 1) // where what is to be copied at once begins,
	end := from                // and ends
	for i := r.from; i < r.to; i++ {
		head, start := c.at(i), end
		if end = c.end; i < c.n-1 {
			end = head.end()
		}
		if head.flags()&store.HasExpiry != 0 && expired(frames[start:end], head.flags(), head.msg(), now) {
			b.Buf = append(b.Buf, frames[from:start]...)
			from = end
			continue
		}
		if len(b.Buf)+end-from > cap(b.Buf) {
			b.Buf = append(b.Buf, frames[from:start]...)
			from = start
			if !b.Room(end - start) {
				b.Next = c.base + head.seq() - 1
				return false
			}
		}
		at, to := len(b.Buf)+start-from, len(b.Buf)+end-from
		b.Frames = append(b.Frames, store.Frame{
			Seq: c.base + head.seq(), Group: name, Flags: head.flags(), Msg: head.msg(), Bytes: b.Buf[at:to:to], At: at,
		})
	}
	b.Buf = append(b.Buf, frames[from:end]...)
	return true
}

// expired reports whether a message's time to live is over.
func expired(frame []byte, flags store.Flags, msg int, now time.Time) bool {
	f := store.Frame{Flags: flags, Msg: msg, Bytes: frame}
	return f.Expired(now)
}
