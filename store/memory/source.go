package memory

import (
	"math"
	"slices"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// run is messages that lie next to each other in a chunk and follow each other in the source.
type run struct {
	c        *chunk
	from, to int // slots
}

// source yields messages by rising seq, under the log's lock.
type source interface {
	// next returns the next messages up to end, or false if there is none.
	next(end store.Seq) (run, bool)
}

// reader is a batch's scratch: what would be garbage after each read.
type reader struct {
	unpacked unpacked
	merge    merge
	scan     scan
}

func scratch(b *store.Batch) *reader {
	r, ok := b.Scratch.(*reader)
	if !ok {
		r = &reader{}
		b.Scratch = r
	}
	return r
}

// source returns the way through the messages that q selects: by the rings of the groups where
// they are named, by the order where there are patterns.
func (l *Log) source(q store.Query, r *reader) source {
	set, ok := q.Select.(group.Set)
	if !ok || set.Wild() || q.Retained {
		o := l.order
		if q.Retained {
			o = l.retained
		}
		r.scan = scan{l: l, walk: o.after(q.After), live: q.Live || q.Retained, sel: selection{sel: q.Select}}
		return &r.scan
	}
	r.merge = r.merge[:0]
	for i, f := range set {
		if ring := l.rings[f.String()]; ring != nil && !slices.Contains(set[:i], f) {
			r.merge = append(r.merge, ring.after(q.After, q.Live))
		}
	}
	return &r.merge
}

// merge yields the messages of a few rings.
type merge []cursor

func (m *merge) next(end store.Seq) (run, bool) {
	least, below, at := store.Seq(math.MaxUint64), end+1, -1
	for i := range *m {
		switch s := (*m)[i].seq; {
		case s < least:
			least, below, at = s, min(below, least), i
		case s < below:
			below = s
		}
	}
	if least > end {
		return run{}, false
	}
	return (*m)[at].run(below), true
}

// scan yields the messages of an order whose group is selected.
type scan struct {
	l    *Log
	walk walk
	live bool
	sel  selection
}

func (s *scan) next(end store.Seq) (run, bool) {
	for {
		seq, at, ok := s.walk.next()
		if !ok || seq > end {
			return run{}, false
		}
		c := s.l.chunks[at.chunk]
		if !s.live && at.slot < c.gone || !s.sel.has(c.ring) {
			continue
		}
		r := run{c, at.slot, at.slot + 1}
		for s.walk.follows(place{at.chunk, r.to}, end) {
			r.to++
		}
		return r, true
	}
}

// selection asks a selector about rings, and remembers the answers for the next messages of them:
// a selector may go through many filters.
type selection struct {
	sel    store.Selector
	recent [64]struct {
		ring *ring
		has  bool
	}
}

func (s *selection) has(r *ring) bool {
	x := &s.recent[r.no%len(s.recent)]
	if x.ring != r {
		x.ring, x.has = r, s.sel.Match(r.name)
	}
	return x.has
}
