package disk

import (
	"sync/atomic"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// maxHold is how many groups one hold of the lock examines.
const maxHold = 1024

// The kinds of loss. Live readers still get messages that are evicted but not removed.
const (
	evictedLoss = iota // the policy no longer keeps the message
	removedLoss        // it is no longer among the recent messages either
	lossKinds
)

func lossKind(live bool) int {
	if live {
		return removedLoss
	}
	return evictedLoss
}

// lossLink is a group's place in the list of the groups with losses of one kind. The list is sorted by the
// time of the loss, the latest first, so that a reader examines only the groups with losses since its last
// read.
type lossLink struct{ later, earlier *group }

// listLoss moves a group to the front of a list.
func (l *Log) listLoss(g *group, kind int) {
	if l.lost[kind] == g {
		return
	}
	l.unlistLoss(g, kind)
	if next := l.lost[kind]; next != nil {
		g.links[kind].earlier, next.links[kind].later = next, g
	}
	l.lost[kind] = g
}

// unlistLoss removes a group from a list.
func (l *Log) unlistLoss(g *group, kind int) {
	x := g.links[kind]
	if x.later != nil {
		x.later.links[kind].earlier = x.earlier
	} else if l.lost[kind] == g {
		l.lost[kind] = x.earlier
	}
	if x.earlier != nil {
		x.earlier.links[kind].later = x.later
	}
	g.links[kind] = lossLink{}
}

// survey is the result of a walk over the groups for a reader.
type survey struct {
	done  bool
	since uint64      // it does not include losses after this time
	lost  []store.Seq // by selector: the newest lost message that the reader does not know
}

// survey examines all groups that the query may select, with the lock released in between.
func (r *reading) survey() {
	l, q := r.l, r.q
	r.surveyed = survey{done: true, since: l.opts.Losses.Now()}
	newest := func(prefix string, sel store.Selector) (lost store.Seq) {
		l.eachGroup(prefix, func(g *group) {
			if n := g.now.lost(q.Live).News(q); n > lost && sel.Match(g.name) {
				lost = n
			}
		})
		return lost
	}
	set, ok := q.Select.(names.Set)
	if !ok {
		r.surveyed.lost = append(r.surveyed.lost, newest("", q.Select))
		return
	}
	for _, f := range set {
		lost := store.Seq(0) // lostOf looks up a group without a wildcard
		if f.Wild() {
			lost = newest(f.Prefix(), f)
		}
		r.surveyed.lost = append(r.surveyed.lost, lost)
	}
}

// eachGroup yields the groups whose names have a prefix, a bounded number per hold of the lock. Groups that
// are added or dropped meanwhile may be missed.
func (l *Log) eachGroup(prefix string, yield func(*group)) {
	for after, more := "", true; more; more = after != "" {
		steps := 0
		l.mu.RLock()
		after = l.names.Walk(after, prefix, maxHold, func(_ string, g *group) {
			steps++
			yield(g)
		})
		l.mu.RUnlock()
		l.maxHeld.note(steps)
	}
}

// eachMatch is eachGroup for the groups that a filter matches.
func (l *Log) eachMatch(f names.Filter, yield func(*group)) {
	if f.Wild() {
		l.eachGroup(f.Prefix(), func(g *group) {
			if f.Match(g.name) {
				yield(g)
			}
		})
		return
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if g := l.groups[f.String()]; g != nil {
		yield(g)
	}
}

// most is the highest number noted. Tests check it.
type most struct{ atomic.Int64 }

func (m *most) note(n int) {
	for old := m.Load(); int64(n) > old; old = m.Load() {
		if m.CompareAndSwap(old, int64(n)) {
			return
		}
	}
}

// gaps adds the gaps to the batch. It returns false if too many groups have losses to look at each: then a survey is
// needed first.
func (r *reading) gaps() (complete bool) {
	now := &r.l.now
	newest := now.lostMax
	if r.q.Live {
		newest = now.removedMax
	}
	if newest <= r.q.After || r.l.opts.Losses.Now() <= r.q.Reported {
		return true // as in most reads
	}
	i, left := 0, maxHold
	complete = true
	r.b.AppendGaps(r.q, func(sel store.Selector) store.Seq {
		seq, ok := r.lostOf(sel, i, &left)
		complete = complete && ok
		i++
		return seq
	})
	r.l.maxHeld.note(maxHold - left)
	return complete
}

// lostOf returns the newest message that the selected groups, or groups that were forgotten, lost and that
// the reader does not know. The selector is the i-th of the query. It returns false if there are too many
// groups to examine. After a survey it examines all groups with losses since the survey.
func (r *reading) lostOf(sel store.Selector, i int, left *int) (lost store.Seq, ok bool) {
	l, q, kind := r.l, r.q, lossKind(r.q.Live)
	if f, ok := sel.(names.Filter); ok && !f.Wild() {
		if g := l.groups[f.String()]; g != nil {
			return g.now.lost(q.Live).News(q), true
		}
		return l.now.forgotten.News(q), true
	}
	lost, since := l.now.forgotten.News(q), q.Reported
	if r.surveyed.done {
		lost, since = max(lost, r.surveyed.lost[i]), max(since, r.surveyed.since)
	}
	for g := l.lost[kind]; g != nil && g.now.lost(q.Live).At > since; g = g.links[kind].earlier {
		if *left == 0 && !r.surveyed.done {
			return 0, false
		}
		*left--
		if n := g.now.lost(q.Live).News(q); n > lost && sel.Match(g.name) {
			lost = n
		}
	}
	return lost, true
}
