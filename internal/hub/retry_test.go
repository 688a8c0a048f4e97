package hub

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// TestTasksAreTriedAgainUntilThereIsRoom: in order and once. A newer
// note is kept, and any other error is passed on.
func TestTasksAreTriedAgainUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o retries
		var done []string
		var full atomic.Bool
		full.Store(true)
		pay := func(name string, err error) {
			o.do(&task{
				note: name,
				do: func(newer bool) error {
					if full.Load() {
						return store.ErrFull
					}
					if newer {
						name += ", newer"
					}
					done = append(done, name)
					return err
				},
				failed: func(err error) { done = append(done, err.Error()) },
			})
		}
		pay("a", nil)
		pay("b", errors.New("b fails"))
		pay("c", store.ErrClosed)
		for _, err := range []error{store.ErrFull, nil} {
			if got := o.replace("a", func() error { return err }); got != err {
				t.Errorf("a note that ends in %v: %v", err, got)
			}
		}
		pass(time.Minute)
		if len(done) > 0 {
			t.Errorf("%q is done where there is no room", done)
		}
		full.Store(false)
		pass(2 * retryAfter)
		pay("d", nil)
		if want := []string{"a, newer", "b", "b fails", "c", "d"}; !slices.Equal(done, want) {
			t.Errorf("%q is done, want %q", done, want)
		}
		full.Store(true)
		pay("e", nil)
		pass(retryAfter)
		o.close()
		o.close()
		full.Store(false)
		pay("f", nil)
		pass(time.Minute)
		if slices.Contains(done, "e") {
			t.Error("it is done after the end")
		}
	})
}

// TestATaskIsGivenUpAfterAnHour, and its error is passed on.
func TestATaskIsGivenUpAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o retries
		told := make(chan error, 1)
		o.do(&task{do: func(bool) error { return store.ErrFull }, failed: func(err error) { told <- err }})
		pass(retryFor - time.Minute)
		if len(told) > 0 {
			t.Errorf("it was given up early: %v", <-told)
		}
		pass(2 * time.Minute)
		if err := <-told; !errors.Is(err, store.ErrFull) {
			t.Errorf("it was told %v", err)
		}
		o.close()
	})
}

// pass lets time pass in a bubble, and all that is due by then be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
