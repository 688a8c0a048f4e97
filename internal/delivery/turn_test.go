package delivery_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// gatedLog is a log whose reads wait until gate is closed.
type gatedLog struct {
	store.Store
	entered atomic.Int64
	gate    chan struct{}
}

func (g *gatedLog) Read(q store.Query, b *store.Batch) error {
	g.entered.Add(1)
	<-g.gate
	return g.Store.Read(q, b)
}

// TestAnEndedStreamTakesNoTurn has many streams wait for their turn to read. Streams whose client leaves, or
// that the server ends, do not read any more: the next listener waits only for the reads in progress.
func TestAnEndedStreamTakesNoTurn(t *testing.T) {
	for name, over := range map[string]func(*listener){
		"the client left":    func(l *listener) { l.hangUp() },
		"the server ends it": func(l *listener) { l.stream.End("kicked") },
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, memory.Options{}, false)
			r.say("a", "held")
			log := &gatedLog{Store: r.log, gate: make(chan struct{})}
			r.set.Close("")
			r.set = delivery.NewSet(log, false, 1<<30)
			var all []*listener
			for range 40 {
				l := r.make(filters("none"), start(delivery.Start{Held: true}))
				all = append(all, l)
				go r.run(l)
			}
			turns := int64(2 * runtime.GOMAXPROCS(0))
			synctest.Wait()
			if n := log.entered.Load(); n != turns {
				t.Errorf("%s: %d streams read at once, want %d", name, n, turns)
			}
			next := r.make(filters("a"), start(delivery.Start{Held: true}))
			for _, l := range all {
				over(l)
			}
			close(log.gate)
			for _, l := range all {
				l.ended(t)
			}
			if n := log.entered.Load(); n != turns {
				t.Errorf("%s: %d reads, want only those of the %d streams that had a turn", name, n, turns)
			}
			if !r.run(next) {
				t.Fatal("the set is closed")
			}
			next.awaitSeq(t, r.at(1))
		})
	}
}
