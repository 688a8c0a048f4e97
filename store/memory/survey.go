package memory

import (
	"slices"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// maxMerged is the most rings that a read merges. If more groups match, it scans the messages of all
// groups instead.
const maxMerged = 1024

// survey is the result of a walk over the groups for a reader.
type survey struct {
	surveyed bool
	since    uint64      // losses after this time are not in it
	lost     []store.Seq // by selector: the newest lost message that the reader does not know
	rings    []*ring     // those that match and have messages after the position
	tooMany  bool        // rings is incomplete
}

func (s *survey) reset() {
	clear(s.rings)
	*s = survey{lost: s.lost[:0], rings: s.rings[:0]}
}

// worthSurvey reports whether a survey of the groups is cheaper than a scan of that many messages. There
// are no more retained messages than groups, so that a survey pays only if a prefix excludes most
// groups.
func (l *Log) worthSurvey(r *reader, messages store.Seq) bool {
	set, ok := r.query.Select.(group.Set)
	switch {
	case !ok || !set.Wild():
		return false
	case r.query.Retained:
		return !slices.ContainsFunc(set, func(f group.Filter) bool { return f.Prefix() == "" })
	}
	return store.Seq(len(l.rings)) < messages
}

// survey examines all groups that the query may select.
func (l *Log) survey(r *reader) {
	q, kind := &r.query, lossKind(r.query.Live)
	r.surveyed, r.since = true, l.opts.Losses.Now()
	set, ok := q.Select.(group.Set)
	if !ok {
		r.tooMany = true
		r.lost = append(r.lost, l.surveyLost(q.Select, q, kind))
		return
	}
	for i, f := range set {
		lost := store.Seq(0)
		l.eachRing(f, func(ring *ring) {
			n := ring.loss(kind).News(q)
			useful := !r.tooMany && ring.hasAfter(r.from, q.Retained)
			if n <= lost && !useful || !f.Match(ring.name) {
				return
			}
			lost = max(lost, n)
			if useful && !set[:i].Match(ring.name) {
				r.rings = append(r.rings, ring)
				r.tooMany = len(r.rings) > maxMerged
			}
		})
		r.lost = append(r.lost, lost)
	}
}

func (l *Log) surveyLost(sel store.Selector, q *store.Query, kind int) (lost store.Seq) {
	l.eachNamed("", func(ring *ring) {
		if n := ring.loss(kind).News(q); n > lost && sel.Match(ring.name) {
			lost = n
		}
	})
	return lost
}

// hasAfter reports whether the ring may have messages after a position.
func (r *ring) hasAfter(after store.Seq, retained bool) bool {
	if retained {
		return r.retained != nil && r.retained.base > after
	}
	t := r.tail()
	return t != nil && t.seq(t.n-1) > after
}

// eachRing yields the rings that a filter may match, a bounded number per hold of the lock. Rings that
// are added or dropped meanwhile may be missed.
func (l *Log) eachRing(f group.Filter, yield func(*ring)) {
	if f.Wild() {
		l.eachNamed(f.Prefix(), yield)
		return
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if r := l.rings[f.String()]; r != nil {
		yield(r)
	}
}

// eachNamed is eachRing for the rings whose names have a prefix.
func (l *Log) eachNamed(prefix string, yield func(*ring)) {
	for after, more := "", true; more; more = after != "" {
		l.mu.RLock()
		after = l.names.Walk(after, prefix, maxHoldSteps/4, func(_ string, r *ring) { yield(r) })
		l.mu.RUnlock()
		l.noteHold(maxHoldSteps / 4)
	}
}
