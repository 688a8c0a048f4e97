package mqtt

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAWorkerRunsManyTurnsAndEndsWhenItIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		w := &r.server.workers
		idle := func() int {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.idle)
		}
		turns := func(n int) {
			var all []*conn
			for range n {
				c := newConn(r.server, &scripted{parts: [][]byte{connects[1]}}, "192.0.2.1:1")
				r.server.mu.Lock()
				r.server.conns[c] = true
				r.server.running.Add(1)
				r.server.mu.Unlock()
				c.begin()
				all = append(all, c)
			}
			for _, c := range all {
				<-c.done.reached()
			}
		}
		for range 10 {
			if turns(1); idle() != 1 {
				t.Fatalf("%d workers after turns one after the other, want 1", idle())
			}
		}
		for range 10 { // some are needed all the time
			turns(3)
			time.Sleep(idleFor / 2)
		}
		if n := idle(); n == 0 {
			t.Error("no worker waits for the next turn")
		}
		time.Sleep(3 * idleFor)
		if n := idle(); n != 0 {
			t.Errorf("%d workers still wait, want 0", n)
		}
	})
}

// A call of the timer may begin though the workers have been closed meanwhile.
func TestWorkersEndOnceThoughTheirTimerHasFired(t *testing.T) {
	w := &workers{}
	w.put(make(worker, 1))
	w.thin() // from now on the worker is known to be idle
	w.close()
	w.thin()
}
