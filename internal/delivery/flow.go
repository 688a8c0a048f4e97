package delivery

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Flow control is one rule: a publisher waits while some shard, or some follower, has more ready
// than it can do in a few tens of milliseconds: what it has not read for holdAfter it has had for
// that long, and will have for as long again. Ready is what a socket would take now: one that is
// full owes nothing. So a burst becomes slower answers, not seconds of latency for those who do
// read.
const (
	holdAfter = 10 * time.Millisecond
	holdMost  = 500 * time.Millisecond // however much is to be done, publishing goes on
)

// A shard that is busy pauses for as long as it has worked, within bounds, before it takes what has
// come meanwhile. Half as many writes then carry twice as much each, and those who read, and who
// publish, get the machine: more is delivered, and sooner (docs/PERFORMANCE.md).
const (
	pauseLeast = time.Millisecond
	pauseMost  = 10 * time.Millisecond
)

// pause waits after a round that took so long, if there is more to do already. A message that
// comes to a shard that has done its work waits for nothing.
func (sh *shard) pause(worked time.Duration) {
	if _, newest := sh.set.log.Bounds(); worked >= pauseLeast && newest.Seq > store.Seq(sh.pos.Load()) {
		time.Sleep(min(worked, pauseMost))
	}
}

// idle, as the time up to which a shard has read, says that it owes nothing.
const idle = math.MaxInt64

// Hold returns when no shard is behind, when it has waited for long, or when ctx ends.
func (s *Set) Hold(ctx context.Context) {
	if !s.behind() {
		return
	}
	s.stats.held.Add(1)
	most := time.NewTimer(holdMost)
	defer most.Stop()
	for {
		opened := s.gate.wait()
		if !s.behind() {
			return
		}
		select {
		case <-opened:
		case <-most.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (s *Set) behind() bool {
	if s.turns.behind() {
		return true
	}
	late := int64(now().add(-holdAfter))
	for _, sh := range s.shards {
		if sh.fresh.Load() < late {
			return true
		}
	}
	return false
}

// gate is what publishers wait at until somebody has caught up.
type gate struct {
	waits atomic.Bool
	mu    sync.Mutex
	ch    chan struct{}
}

// wait returns a channel that the next open closes.
func (g *gate) wait() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ch == nil {
		g.ch = make(chan struct{})
		g.waits.Store(true)
	}
	return g.ch
}

// open lets all who wait look again. It costs a load where nobody does.
func (g *gate) open() {
	if !g.waits.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ch != nil {
		close(g.ch)
		g.ch = nil
		g.waits.Store(false)
	}
}
