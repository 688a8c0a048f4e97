package memory

import (
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// run is a series of messages that are adjacent in a chunk and in the source.
type run struct {
	c        *chunk
	from, to int // slots
}

// source yields messages by rising seq, under the log's lock.
type source interface {
	// next returns the next messages up to end. It returns false if there are none, or if the reader
	// has no steps left.
	next(end store.Seq) (run, bool)

	// reached returns the position up to which all messages were examined.
	reached() store.Seq
}

// reader is the state of a Read. It is kept as the batch's scratch, to be reused by the next read.
type reader struct {
	query store.Query
	now   time.Time
	left  int       // steps in this hold of the lock
	from  store.Seq // no message up to here matches

	survey
	unpacked unpacked
	merge    merge
	scan     scan
}

func readerOf(b *store.Batch) *reader {
	r, ok := b.Scratch.(*reader)
	if !ok {
		r = &reader{}
		b.Scratch = r
	}
	return r
}

func (r *reader) begin(q store.Query, now time.Time) {
	r.query, r.now, r.from = q, now, q.After
	r.survey.reset()
}

// source returns the source of the messages that the query selects: the rings of the groups if they are
// named or were surveyed, else the order of all messages.
func (l *Log) source(r *reader) source {
	q := &r.query
	set, ok := q.Select.(group.Set)
	switch {
	case ok && !set.Wild():
		r.merge.reset()
		for i, f := range set {
			if ring := l.rings[f.String()]; ring != nil && !slices.Contains(set[:i], f) {
				r.merge.add(ring, q, r.from)
			}
		}
		r.merge.heap.sort()
		return &r.merge
	case r.surveyed && !r.tooMany:
		r.merge.reset()
		for _, ring := range r.rings {
			r.merge.add(ring, q, r.from)
		}
		r.merge.heap.sort()
		return &r.merge
	}
	o := l.order
	if q.Retained {
		o = l.retained
	}
	r.scan = scan{l: l, r: r, at: r.from, walk: o.after(r.from), live: q.Live || q.Retained, sel: selection{sel: q.Select}}
	return &r.scan
}

// merge yields the messages of several rings.
type merge struct {
	cursors []cursor
	heap    mergeHeap // by the seqs of the cursors
}

func (m *merge) reset() { m.cursors, m.heap = m.cursors[:0], m.heap[:0] }

// add adds the messages of a ring after a position.
func (m *merge) add(r *ring, q *store.Query, after store.Seq) {
	chunks := r.chunks
	if q.Retained {
		if chunks = nil; r.retained != nil {
			chunks = []*chunk{r.retained}
		}
	}
	if c := newCursor(chunks, after, q.Live || q.Retained); !c.done() {
		m.heap = append(m.heap, mergeItem{c.seq, len(m.cursors)})
		m.cursors = append(m.cursors, c)
	}
}

func (m *merge) next(end store.Seq) (run, bool) {
	if m.reached() >= end {
		return run{}, false
	}
	c := &m.cursors[m.heap[0].cursor]
	found := c.run(min(end+1, m.heap.second()))
	m.heap.raise(c.seq)
	return found, true
}

func (m *merge) reached() store.Seq {
	if len(m.heap) == 0 {
		return noSeq
	}
	return m.heap[0].key - 1
}

// scan yields the messages of an order that the query selects.
type scan struct {
	l    *Log
	r    *reader
	at   store.Seq // all messages up to here were examined
	walk walk
	live bool
	sel  selection
}

func (s *scan) next(end store.Seq) (run, bool) {
	for s.r.left > 0 {
		seq, at, ok := s.walk.next()
		if !ok || seq > end {
			s.at = end
			return run{}, false
		}
		s.r.left--
		s.at = seq
		c := s.l.chunks[at.chunk]
		if !s.live && at.slot < c.evicted || !s.sel.has(c.ring) {
			continue
		}
		r := run{c, at.slot, at.slot + 1}
		for s.walk.follows(place{at.chunk, r.to}, end) {
			r.to++
		}
		s.at = c.seq(r.to - 1)
		return r, true
	}
	return run{}, false
}

func (s *scan) reached() store.Seq { return s.at }

// selection caches which rings a selector selects, since a selector may have many filters.
type selection struct {
	sel    store.Selector
	recent [64]struct {
		ring *ring
		has  bool
	}
}

func (s *selection) has(r *ring) bool {
	x := &s.recent[r.no%uint32(len(s.recent))]
	if x.ring != r {
		x.ring, x.has = r, s.sel.Match(r.name)
	}
	return x.has
}
