package memory

import (
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// gaps reports what q's listener has lost for good.
func (l *Log) gaps(q *store.Query, b *store.Batch) {
	newest := l.lostMax
	if q.Live {
		newest = l.removedMax
	}
	if newest <= q.After || l.opts.Losses.Now() <= q.Told {
		return // as it mostly is, and then it takes no walk over all groups
	}
	b.AppendGaps(q, func(sel store.Selector) store.Seq { return l.lost(sel, q) })
}

// lost returns the newest message lost, and not told, of the groups selected, or of one that was
// forgotten.
func (l *Log) lost(sel store.Selector, q *store.Query) store.Seq {
	if f, ok := sel.(group.Filter); ok && !f.Wild() {
		if r := l.rings[f.String()]; r != nil {
			return r.lost(q.Live).News(q)
		}
		return l.forgotten.News(q)
	}
	lost := l.forgotten.News(q)
	for _, r := range l.rings {
		if n := r.lost(q.Live).News(q); n > lost && sel.Match(r.name) {
			lost = n
		}
	}
	return lost
}
