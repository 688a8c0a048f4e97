package store

import (
	"sync/atomic"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Clock counts losses, so that a reader gets a gap only for losses that it does not know. Logs that are read
// as one share a clock: a reader that reads the clock first and then a log sees all losses of that
// log up to the clock's time.
type Clock struct{ n atomic.Uint64 }

// Tick returns the time of a new loss. The log records the loss before it releases its lock.
func (c *Clock) Tick() uint64 { return c.n.Add(1) }

// Now returns the time of the newest loss.
func (c *Clock) Now() uint64 { return c.n.Load() }

// Loss is the newest message that was lost, of a group for example. At is the time of the loss by a
// Clock, as are Batch.Reported and Query.Reported.
type Loss struct {
	Seq Seq
	At  uint64
}

// News returns the seq if it is after the query's position and the reader does not know of the loss,
// else 0.
func (x Loss) News(q *Query) Seq {
	if x.Seq <= q.After || x.At <= q.Reported {
		return 0
	}
	return x.Seq
}

// AppendGaps adds the gaps to report to q's reader. It calls lost for each filter, or for the whole
// selector if it is no set of filters; lost returns the newest message lost, or 0 for no gap.
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
