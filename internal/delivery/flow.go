package delivery

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Flow control is one rule: a publisher waits while a shard, or a stream that waits for a turn, has more
// ready work than it can do in a few tens of milliseconds. Work that has been ready for holdAfter will
// take about as long again. Ready means that a socket would accept it now: a full socket delays no
// publisher. A burst then slows down the answers to publishers, instead of adding seconds of latency for
// clients that read.
const (
	holdAfter = 10 * time.Millisecond
	holdMost  = 500 * time.Millisecond // the longest wait: publishing goes on even if delivery stays behind
)

// A busy shard pauses after each round for as long as the round took, within bounds. That leads to half as
// many writes of twice the size, and leaves the CPU to readers and publishers: more messages are
// delivered, and sooner (docs/PERFORMANCE.md).
const (
	pauseLeast = time.Millisecond
	pauseMost  = 10 * time.Millisecond
)

// pause waits after a round that took the time worked, if more messages have been appended already. A
// message for an idle shard does not wait.
func (sh *shard) pause(worked time.Duration) {
	if _, newest := sh.set.log.Bounds(); worked >= pauseLeast && newest.Seq > store.Seq(sh.pos.Load()) {
		time.Sleep(min(worked, pauseMost))
	}
}

// idle is the value of shard.fresh while the shard has no ready work.
const idle = math.MaxInt64

// Hold returns when no shard is behind, after holdMost, or when ctx ends.
func (s *Set) Hold(ctx context.Context) {
	if !s.behind() {
		return
	}
	s.stats.held.Add(1)
	s.stats.holding.Add(1)
	defer s.stats.holding.Add(-1)
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

// gate is where publishers wait until a shard has caught up.
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

// open wakes all waiting publishers, which then look again. If none wait it costs one load.
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
