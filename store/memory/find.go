package memory

import (
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Find implements store.Log.
func (l *Log) Find(filters group.Set, s store.Start) store.Seq {
	now := time.Now().UnixMilli()
	l.age(now)
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case l.closed:
		return 0
	case s.Last > 0:
		if seqs := l.findLast(filters, s.Last, now); len(seqs) > 0 {
			return seqs[0] - 1
		}
		return l.last()
	case !s.Since.IsZero():
		return l.findSince(filters, s.Since.UnixMilli())
	}
	return 0
}

// Last returns the seqs of the newest messages, at most n, by rising seq.
func (l *Log) Last(filters group.Set, n int) []store.Seq {
	now := time.Now().UnixMilli()
	l.age(now)
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil
	}
	return l.findLast(filters, n, now)
}

// findLast is Last under the lock.
func (l *Log) findLast(filters group.Set, n int, now int64) []store.Seq {
	if filters.Wild() {
		return l.scanLast(filters, n, now)
	}
	var seqs []store.Seq
	for _, name := range filters.Names() {
		if r := l.rings[name]; r != nil {
			seqs = l.appendLast(seqs, r, n, now)
		}
	}
	slices.Sort(seqs)
	return seqs[max(0, len(seqs)-n):]
}

// appendLast appends the seqs of a ring's newest messages, at most n.
func (l *Log) appendLast(seqs []store.Seq, r *ring, n int, now int64) []store.Seq {
	var u unpacked
	n += len(seqs)
	for _, c := range slices.Backward(r.chunks) {
		for i := c.n - 1; i >= c.gone; i-- {
			if len(seqs) == n {
				return seqs
			}
			if s := c.slot(i); !l.expired(c, s, now, &u) {
				seqs = append(seqs, s.seq)
			}
		}
	}
	return seqs
}

func (l *Log) scanLast(filters group.Set, n int, now int64) (seqs []store.Seq) {
	var u unpacked
	selected := selection{sel: filters}
	l.order.backward(func(seq store.Seq, at place) bool {
		c := l.chunks[at.chunk]
		if at.slot >= c.gone && selected.has(c.ring) && !l.expired(c, c.slot(at.slot), now, &u) {
			seqs = append(seqs, seq)
		}
		return len(seqs) < n
	})
	slices.Reverse(seqs)
	return seqs
}

// findSince returns the position before the messages of a time or later. Times rise with seqs,
// over all groups, so that the order can be searched. What was evicted of that time is to be
// told: then the position is before it.
func (l *Log) findSince(filters group.Set, since int64) store.Seq {
	first, ok := l.order.first(func(at place) bool { return l.chunks[at.chunk].time(at.slot) >= since })
	if !ok {
		first = l.last() + 1
	}
	pos := first - 1
	if lost := l.forgotten; lost.Seq > 0 && lost.time >= since && l.anyUnknown(filters) {
		pos = min(pos, lost.Seq-1)
	}
	for _, f := range filters {
		if !f.Wild() {
			pos = l.rings[f.String()].before(pos, since)
			continue
		}
		for _, r := range l.rings {
			if f.Match(r.name) {
				pos = r.before(pos, since)
			}
		}
	}
	return pos
}

// before returns the position before the newest message evicted, if it is of a time or later and
// that position is below pos. The ring may be nil.
func (r *ring) before(pos store.Seq, since int64) store.Seq {
	if r == nil || r.evicted == 0 || r.evictedTime < since {
		return pos
	}
	return min(pos, r.evicted-1)
}

// anyUnknown reports whether a filter may select a group that was forgotten.
func (l *Log) anyUnknown(filters group.Set) bool {
	return slices.ContainsFunc(filters, func(f group.Filter) bool { return f.Wild() || l.rings[f.String()] == nil })
}
