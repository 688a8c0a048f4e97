package store

import (
	"sync/atomic"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Clock counts losses, so that a reader can be told of those that are news to it. Logs that are
// read as one share a clock: who reads it, and then a log, sees all of the log's losses up to it.
type Clock struct{ n atomic.Uint64 }

// Tick returns the time of a loss, which is to be seen before the log's lock is free again.
func (c *Clock) Tick() uint64 { return c.n.Add(1) }

// Now returns the time of the newest loss.
func (c *Clock) Now() uint64 { return c.n.Load() }

// Loss is the newest message that is lost of something, and how much its log had lost by then:
// the time of a Clock, as Batch.Told and Query.Told are.
type Loss struct {
	Seq Seq
	At  uint64
}

// News returns the seq if it is behind the query's position and was not told, or 0.
func (x Loss) News(q *Query) Seq {
	if x.Seq <= q.After || x.At <= q.Told {
		return 0
	}
	return x.Seq
}

// AppendGaps adds the gaps that q's reader is to be told of: for each filter, if there are filters,
// the newest message that lost returns for it, unless that is 0.
func (b *Batch) AppendGaps(q *Query, lost func(Selector) Seq) {
	set, ok := q.Select.(group.Set)
	if !ok {
		if seq := lost(q.Select); seq > 0 {
			b.Gaps = append(b.Gaps, Gap{Evicted: seq})
		}
		return
	}
	for _, f := range set {
		if seq := lost(f); seq > 0 {
			b.Gaps = append(b.Gaps, Gap{Filter: f.String(), Evicted: seq})
		}
	}
}
