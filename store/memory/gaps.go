package memory

import (
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// The kinds of loss. Live readers still get messages that are evicted but not removed.
const (
	evicted = iota // the policy no longer keeps the message
	removed        // its bytes were freed
)

func lossKind(live bool) int {
	if live {
		return removed
	}
	return evicted
}

// loss is the newest message that a ring lost. Rings with losses are in a list sorted by the time of the
// loss, the latest first, so that a reader examines only those with losses since its last read.
type loss struct {
	store.Loss
	later, earlier *ring
}

// loss returns the newest loss of a kind. Its Seq is 0 if there is none.
func (r *ring) loss(kind int) store.Loss {
	if r.lost == nil {
		return store.Loss{}
	}
	return r.lost[kind].Loss
}

// recordLoss records that a ring lost a message now. Later ones may be lost already: LoseGroup is told of messages that were never here.
func (l *Log) recordLoss(r *ring, kind int, seq store.Seq) {
	if r.lost == nil {
		r.lost = new([2]loss)
	}
	x := &r.lost[kind]
	x.Loss = store.Loss{Seq: max(seq, x.Seq), At: l.opts.Losses.Tick()}
	l.lostMax[kind] = max(l.lostMax[kind], seq)
	if l.lost[kind] == r {
		return
	}
	l.unlistLoss(r, kind)
	if x.earlier = l.lost[kind]; x.earlier != nil {
		x.earlier.lost[kind].later = r
	}
	l.lost[kind] = r
}

// unlistLoss removes a ring from the list.
func (l *Log) unlistLoss(r *ring, kind int) {
	if r.lost == nil {
		return
	}
	x := &r.lost[kind]
	if x.later != nil {
		x.later.lost[kind].earlier = x.earlier
	} else if l.lost[kind] == r {
		l.lost[kind] = x.earlier
	}
	if x.earlier != nil {
		x.earlier.lost[kind].later = x.later
	}
	x.later, x.earlier = nil, nil
}

// gaps adds the gaps to the batch. It returns false if too many groups have losses to look at each: then a survey is
// needed first.
func (l *Log) gaps(r *reader, b *store.Batch) (complete bool) {
	q := &r.query
	if l.lostMax[lossKind(q.Live)] <= q.After || l.opts.Losses.Now() <= q.Reported {
		return true // as in most reads
	}
	i := 0
	complete = true
	b.AppendGaps(q, func(sel store.Selector) store.Seq {
		seq, ok := l.lostOf(sel, r, i)
		complete = complete && ok
		i++
		return seq
	})
	return complete
}

// lostOf returns the newest message that the selected groups, or groups that were dropped, lost and
// that the reader does not know. The selector is the i-th of the query. It returns false if there are
// too many groups to examine.
func (l *Log) lostOf(sel store.Selector, r *reader, i int) (lost store.Seq, ok bool) {
	q, kind := &r.query, lossKind(r.query.Live)
	if f, ok := sel.(group.Filter); ok && !f.Wild() {
		if ring := l.rings[f.String()]; ring != nil {
			return max(ring.loss(kind).News(q), l.missing.News(q)), true
		}
		return max(l.forgotten.News(q), l.missing.News(q)), true
	}
	lost, since := max(l.forgotten.News(q), l.missing.News(q)), q.Reported
	if r.surveyed {
		lost, since = max(lost, r.lost[i]), max(since, r.since)
	}
	for ring := l.lost[kind]; ring != nil && ring.lost[kind].At > since; ring = ring.lost[kind].earlier {
		if r.left--; r.left < 0 && !r.surveyed {
			return 0, false
		}
		if n := ring.lost[kind].News(q); n > lost && sel.Match(ring.name) {
			lost = n
		}
	}
	return lost, true
}
