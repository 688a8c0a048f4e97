package memory

import (
	"iter"
	"slices"
	"sort"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Find implements store.Log. Its error is nil.
func (l *Log) Find(filters group.Set, s store.Start) (store.Seq, error) {
	l.age(time.Now().UnixMilli())
	switch {
	case s.Last > 0:
		pos, n := l.last(), 0
		for seq := range l.Backward(filters, s.Last) {
			pos = seq - 1
			n++
		}
		if horizon := l.Horizon(filters, 0); n < s.Last && horizon > 0 {
			pos = min(pos, horizon-1) // older ones are spilled
		}
		return pos, nil
	case !s.Since.IsZero():
		return l.findSince(filters, s.Since.UnixMilli()), nil
	}
	return 0, nil
}

// Backward yields the seqs of the newest messages that match, at most n, the newest first. It holds no lock
// while it yields. For patterns it first scans the order of all messages for one hold of the lock, as Read
// does. Then it merges the rings of the groups that match, unless there are too many. It releases the lock
// in between.
func (l *Log) Backward(filters group.Set, n int) iter.Seq[store.Seq] {
	return func(yield func(store.Seq) bool) {
		s := &backscan{l: l, filters: filters, n: n, below: noSeq, now: time.Now().UnixMilli(), yield: yield}
		l.age(s.now)
		if filters.Wild() && !s.step() {
			return
		}
		for i, f := range filters {
			l.eachRing(f, func(r *ring) {
				if len(s.rings) <= maxMerged && r.messages > 0 && f.Match(r.name) && !filters[:i].Match(r.name) {
					s.rings = append(s.rings, r)
				}
			})
		}
		s.merges = len(s.rings) <= maxMerged
		for s.step() {
		}
	}
}

// backscan is an iteration over the messages that match, the newest first.
type backscan struct {
	l       *Log
	filters group.Set
	n       int       // how many are still wanted
	rings   []*ring   // of the groups that match
	merges  bool      // rings is complete, and is used
	below   store.Seq // the messages from this seq on were examined
	now     int64
	yield   func(store.Seq) bool
	found   []store.Seq // in one hold of the lock
	left    int
	u       unpacked
	cursors []backcursor
	heap    mergeHeap // the newest message in front
}

// step examines messages for one hold of the lock and yields those that match. It reports whether there may
// be more.
func (s *backscan) step() (more bool) {
	s.found = s.found[:0]
	more = s.hold()
	for _, seq := range s.found {
		if !s.yield(seq) {
			return false
		}
	}
	s.n -= len(s.found)
	return more && s.n > 0
}

// hold continues for one hold of the lock, and reports whether there may be more.
func (s *backscan) hold() (more bool) {
	s.l.mu.RLock()
	defer s.l.mu.RUnlock()
	if s.l.closed {
		return false
	}
	s.left = maxHoldSteps
	if s.merges {
		more = s.byRings()
	} else {
		more = s.byOrder()
	}
	s.l.noteHold(maxHoldSteps - s.left)
	return more
}

func (s *backscan) byOrder() (more bool) {
	selected := selection{sel: s.filters}
	s.l.order.backward(s.below, func(seq store.Seq, at place) bool {
		s.below = seq
		c := s.l.chunks[at.chunk]
		more = at.slot < c.evicted || !selected.has(c.ring) || s.take(c, at.slot)
		s.left--
		return more && s.left > 0
	})
	return more && s.left <= 0
}

// byRings merges the rings backward.
func (s *backscan) byRings() (more bool) {
	s.cursors, s.heap = s.cursors[:0], s.heap[:0]
	for _, r := range s.rings {
		if c := r.before(s.below); !c.done() {
			s.heap = append(s.heap, mergeItem{noSeq - c.seq, len(s.cursors)})
			s.cursors = append(s.cursors, c)
		}
	}
	for s.heap.sort(); len(s.heap) > 0; {
		c := &s.cursors[s.heap[0].cursor]
		if s.left--; s.left < 0 || c.done() {
			return s.left < 0
		}
		s.below = c.seq
		if !s.take(c.r.chunks[c.chunk], c.slot) {
			return false
		}
		c.back()
		s.heap.raise(noSeq - c.seq)
	}
	return false
}

// take adds a message to those found, unless it has expired. It reports whether more are wanted.
func (s *backscan) take(c *chunk, i int) (more bool) {
	m := c.slot(i)
	if m.flags&store.HasExpiry != 0 && c.packed > 0 && s.u.chunk != c {
		s.left -= unpackSteps
	}
	if !s.l.expired(c, m, s.now, &s.u) {
		s.found = append(s.found, m.seq)
	}
	return len(s.found) < s.n
}

// backcursor is at a message of a ring that is not evicted.
type backcursor struct {
	r           *ring
	chunk, slot int
	seq         store.Seq // 0 at the end
}

func (c *backcursor) done() bool { return c.seq == 0 }

// before returns the newest message below a seq.
func (r *ring) before(seq store.Seq) backcursor {
	c := backcursor{r: r, chunk: sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].base >= seq }) - 1}
	if c.chunk >= 0 {
		c.slot = r.chunks[c.chunk].search(seq - 1)
		c.back()
	}
	return c
}

// back moves to the previous message.
func (c *backcursor) back() {
	for c.slot--; c.chunk >= 0; {
		if ch := c.r.chunks[c.chunk]; c.slot >= ch.evicted {
			c.seq = ch.seq(c.slot)
			return
		}
		if c.chunk--; c.chunk >= 0 {
			c.slot = c.r.chunks[c.chunk].n - 1
		}
	}
	c.seq = 0
}

// findSince returns the position before the first message of a time or later. Times rise with seqs over
// all groups, so that the order can be searched. The position is also before evicted messages of that
// time, so that a read reports them as a gap.
func (l *Log) findSince(filters group.Set, since int64) store.Seq {
	pos := l.firstSince(filters, since)
	for _, f := range filters {
		l.eachRing(f, func(r *ring) {
			if lost := r.loss(evicted).Seq; lost > 0 && lost-1 < pos && r.evictedTime >= since && f.Match(r.name) {
				pos = lost - 1
			}
			if r.spilled() && r.spill.newest >= since && f.Match(r.name) {
				pos = min(pos, r.spill.oldest-1) // the log behind has the first message of that time
			}
		})
	}
	return pos
}

// firstSince is findSince, except for messages evicted from groups that have a ring.
func (l *Log) firstSince(filters group.Set, since int64) store.Seq {
	l.mu.RLock()
	defer l.mu.RUnlock()
	pos := l.last()
	if first, ok := l.order.first(func(at place) bool { return l.chunks[at.chunk].time(at.slot) >= since }); ok {
		pos = first - 1
	}
	if lost := l.forgotten; lost.Seq > 0 && lost.time >= since && l.anyUnknown(filters) {
		pos = min(pos, lost.Seq-1)
	}
	if u := &l.unnamed; u.horizon > 0 && u.newest >= since && l.anyUnknown(filters) {
		pos = min(pos, u.oldest-1)
	}
	return pos
}

// anyUnknown reports whether a filter may select a group that was dropped.
func (l *Log) anyUnknown(filters group.Set) bool {
	return slices.ContainsFunc(filters, func(f group.Filter) bool { return f.Wild() || l.rings[f.String()] == nil })
}
