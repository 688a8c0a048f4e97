package hub

import (
	"testing"
	"testing/synctest"
)

func TestTakeBodyNowDoesNotOvertakeARequestThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hub{budget: newBudget(16 << 20)}
		const half = 3 << 20 // of the large lane
		if !h.TakeBodyNow(half) || !h.TakeBodyNow(FreeBytes) {
			t.Fatal("nothing was taken")
		}
		waited := make(chan error, 1)
		go func() { waited <- h.TakeBody(t.Context(), half+1) }()
		synctest.Wait()
		if h.TakeBodyNow(1 << 20) {
			t.Error("it has overtaken a request that waits")
		}
		if !h.TakeBodyNow(SmallBytes) {
			t.Error("small requests wait for large ones")
		}
		h.GiveBody(half)
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		h.GiveBody(half + 1)
		h.GiveBody(SmallBytes)
		if n := h.budget.held(); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
	})
}
