package leak

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// TestOnlyAGoroutineThatOutlivesTheWaitIsALeak runs in a synctest bubble, with its own clock.
func TestOnlyAGoroutineThatOutlivesTheWaitIsALeak(t *testing.T) {
	for wait, leaks := range map[time.Duration]bool{30 * time.Second: false, time.Hour: true} {
		synctest.Test(t, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			end := make(chan bool)
			go func() {
				select {
				case <-time.After(wait):
				case <-end:
				}
			}()
			err := Find(before)
			if leaks != (err != nil) {
				t.Errorf("a goroutine that ends after %v: %v", wait, err)
			}
			close(end)
		})
	}
}
