package disk

import (
	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// gaps reports what the reader has lost for good.
func (r *reading) gaps() {
	now := &r.l.now
	newest := now.lostMax
	if r.q.Live {
		newest = now.removedMax
	}
	if newest <= r.q.After || r.l.opts.Losses.Now() <= r.q.Told {
		return // as it mostly is, and then it takes no walk over all groups
	}
	r.b.AppendGaps(r.q, r.lost)
}

// lost returns the newest message lost, and not told, of the groups selected, or of one that was
// forgotten.
func (r *reading) lost(sel store.Selector) store.Seq {
	l, q := r.l, r.q
	if f, ok := sel.(names.Filter); ok && !f.Wild() {
		if g := l.groups[f.String()]; g != nil {
			return g.now.lost(q.Live).News(q)
		}
		return l.now.forgotten.News(q)
	}
	lost := l.now.forgotten.News(q)
	for _, g := range l.groups {
		if n := g.now.lost(q.Live).News(q); n > lost && sel.Match(g.name) {
			lost = n
		}
	}
	return lost
}
