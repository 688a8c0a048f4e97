package session

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// TestEventsOfConcurrentChangesStayOrdered opens and closes streams while sessions are kicked, changed
// and timed out. The timeout is about as short as the operations, so that they meet.
func TestEventsOfConcurrentChangesStayOrdered(t *testing.T) {
	w := newWorld(t)
	w.timeout = 300 * time.Microsecond
	var all sync.WaitGroup
	for n := range 16 {
		r := rand.New(rand.NewPCG(1, uint64(n)))
		all.Go(func() {
			for range 1500 {
				w.useStream(fmt.Sprint("u", r.IntN(4)), r)
			}
		})
	}
	for n := range 4 {
		r := rand.New(rand.NewPCG(2, uint64(n)))
		all.Go(func() {
			for range 1500 {
				w.change(fmt.Sprint("u", r.IntN(4)), r)
			}
		})
	}
	all.Wait()
	w.Close()
	if w.Len() != 0 {
		t.Errorf("%d sessions are left", w.Len())
	}
	for uid, events := range w.events {
		if wrong := checkOrder(events); wrong != "" {
			t.Errorf("%s: %.2000s", uid, wrong)
		}
		if last := events[len(events)-1]; len(last) < 10 || last[:10] != "disconnect" {
			t.Errorf("%s ends with %q", uid, last)
		}
	}
}

// useStream opens a stream, makes a random call about its session and closes it.
func (w *world) useStream(uid string, r *rand.Rand) {
	s := w.open(uid, []string{"", "x", "y", "x y"}[r.IntN(4)], []time.Duration{0, 50 * time.Microsecond}[r.IntN(2)])
	f := group.Exact([]string{"x", "y"}[r.IntN(2)])
	switch r.IntN(5) {
	case 0:
		_ = w.Join(uid, f, 2)
	case 1:
		_ = w.Leave(uid, f)
	case 2:
		_ = w.SignOfLife(uid, "")
	}
	runtime.Gosched()
	s.close(Closed)
}

// change makes a random call about a session as another client would. Each will is unique.
func (w *world) change(uid string, r *rand.Rand) {
	delay := time.Duration(r.IntN(300)) * time.Microsecond
	will := &Will{Msg: fmt.Append(nil, r.Uint64()), Delay: &delay}
	switch r.IntN(6) {
	case 0:
		_ = w.End(uid, Kicked)
	case 1:
		_ = w.End(uid, Ended)
	case 2, 3:
		_ = w.SetWill(uid, will)
	case 4:
		w.list(func(f group.Filter) bool { return f.String() == "x" })
	case 5:
		_, _ = w.Get(uid)
	}
	runtime.Gosched()
}

func TestAConnectedSessionHasNeitherGoroutineNorTimer(t *testing.T) {
	w := newWorld(t)
	before := runtime.NumGoroutine()
	const n = 10_000
	for i := range n {
		w.open(fmt.Sprint(i), "x", 0)
	}
	for s := range w.all() {
		if s.place != 0 {
			t.Fatal("a connected session waits for a time")
		}
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d sessions have %d goroutines", n, after-before)
	}
	w.setWatcher(func(Event) {})
	w.Close()
}
