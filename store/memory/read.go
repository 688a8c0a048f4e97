package memory

import (
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// maxHoldSteps bounds the work of one hold of the lock, in steps. Examining, copying, evicting or removing
// a message or a group is one step. That many take a fraction of a millisecond.
const maxHoldSteps = 4096

// unpackSteps is how many steps decompressing a chunk counts for.
const unpackSteps = 512

// Read implements store.Log. For one hold of the lock it scans the order of all messages, or merges the
// rings if the query names groups. If that finds nothing, or if too many groups have losses to determine
// the gaps, it surveys the groups and reads again with the result.
//
// If a message that the query may select is spilled, Read returns a *SpilledError instead.
func (l *Log) Read(q store.Query, b *store.Batch) error {
	now := time.Now()
	l.age(now.UnixMilli())
	r := readerOf(b)
	r.begin(q, now)
	done, err := l.read(r, b)
	if err != nil || done {
		return err
	}
	l.survey(r)
	_, err = l.read(r, b)
	return err
}

// read reads for one hold of the lock. It returns false if a survey is needed; the batch is not valid
// then.
func (l *Log) read(r *reader, b *store.Batch) (done bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	q := &r.query
	b.Reset(l.life.Load().epoch)
	b.Reported = l.opts.Losses.Now()
	if l.closed {
		return true, store.ErrClosed
	}
	end := l.last()
	if q.Through > 0 {
		end = min(end, q.Through)
	}
	b.Next = max(end, q.After)
	if q.After >= end {
		// Of messages that would follow the end, a loss is reported with those that do.
		if q.After >= l.last() && l.lostMax[lossKind(q.Live)] > q.After {
			b.Reported = q.Reported
		}
		return true, nil
	}
	if !q.Retained {
		if seq := l.horizon(q.Select, q.After); seq > 0 {
			return true, &SpilledError{seq}
		}
	}
	r.left = maxHoldSteps / 2
	if !q.Retained && !l.gaps(r, b) {
		return false, nil
	}
	spent := maxHoldSteps/2 - r.left
	r.left = maxHoldSteps / 2
	l.fill(r, l.source(r), end, b)
	l.noteHold(spent + maxHoldSteps/2 - r.left)
	if len(b.Frames) > 0 || b.Next >= end || r.surveyed || !l.worthSurvey(r, end-b.Next) {
		return true, nil
	}
	r.from = b.Next
	return false, nil
}

// fill copies messages into the batch until it is full, end is reached, or no steps are left.
func (l *Log) fill(r *reader, src source, end store.Seq, b *store.Batch) {
	for r.left > 0 {
		run, ok := src.next(end)
		if !ok {
			break
		}
		r.left -= run.to - run.from
		if !l.copyRun(r, run, b) {
			return
		}
	}
	if r.left <= 0 {
		b.Next = min(b.Next, src.reached())
	}
}

// copyRun copies the messages of a run, except expired ones, until the batch is full. It copies
// adjacent frames at once.
func (l *Log) copyRun(rd *reader, r run, b *store.Batch) (more bool) {
	c, name, frames := r.c, r.c.ring.name, r.c.mem.data
	if c.packed > 0 {
		if rd.unpacked.chunk != c {
			rd.left -= unpackSteps
		}
		frames = l.frames(c, &rd.unpacked)
	}
	from := c.ends(r.from - 1) // start of the frames to copy at once
	end := from                // and their end
	for i := r.from; i < r.to; i++ {
		head, start := c.at(i), end
		if end = c.end; i < c.n-1 {
			end = head.end()
		}
		if head.flags()&store.HasExpiry != 0 && expired(frames[start:end], head.flags(), head.msg(), rd.now) {
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

// expired reports whether a message has expired.
func expired(frame []byte, flags store.Flags, msg int, now time.Time) bool {
	f := store.Frame{Flags: flags, Msg: msg, Bytes: frame}
	return f.Expired(now)
}

// noteHold records the longest hold of the lock, in steps, for tests.
func (l *Log) noteHold(steps int) {
	for n := l.longestHold.Load(); int64(steps) > n; n = l.longestHold.Load() {
		if l.longestHold.CompareAndSwap(n, int64(steps)) {
			return
		}
	}
}
