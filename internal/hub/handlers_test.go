package hub

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestHandlersAreWaitedForUntilTheLastOneReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const deadline = time.Second
		var h handlers
		// waits checks how long two calls wait together, to the nanosecond, and what they return.
		waits := func(want time.Duration, stuck int) {
			t.Helper()
			begin, other := time.Now(), make(chan int)
			go func() { other <- h.wait(deadline) }()
			if n, m := h.wait(deadline), <-other; n != stuck || m != stuck || time.Since(begin) != want {
				t.Errorf("wait returns %d and %d after %v, want %d after %v", n, m, time.Since(begin), stuck, want)
			}
		}
		waits(0, 0)
		h.add(1, 0)
		h.add(1, 0)
		time.AfterFunc(100*time.Millisecond+1, func() { h.add(-1, 1) })
		time.AfterFunc(200*time.Millisecond+1, func() { h.add(-1, 0) })
		time.AfterFunc(300*time.Millisecond+1, func() { h.add(0, -1) })
		waits(300*time.Millisecond+1, 0)
		waits(0, 0)
		h.add(1, 2)
		waits(deadline, 2)
		h.add(-1, 0)
		h.add(0, -2)
		waits(0, 0)
	})
}
