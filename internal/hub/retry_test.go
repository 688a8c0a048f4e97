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

// TestTasksAreTriedAgainUntilThereIsRoom checks that each task succeeds once and in order, that a task
// knows of a newer note, and that errors other than a full store are reported.
func TestTasksAreTriedAgainUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o retries
		var done []string
		var full atomic.Bool
		full.Store(true)
		do := func(name string, err error) {
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
		do("a", nil)
		do("b", errors.New("b fails"))
		do("c", store.ErrClosed)
		for _, err := range []error{store.ErrFull, nil} {
			if got := o.replace("a", func() error { return err }); got != err {
				t.Errorf("replace returns %v, want %v", got, err)
			}
		}
		pass(time.Minute)
		if len(done) > 0 {
			t.Errorf("%q ran while the store was full", done)
		}
		full.Store(false)
		pass(2 * retryAfter)
		do("d", nil)
		if want := []string{"a, newer", "b", "b fails", "c", "d"}; !slices.Equal(done, want) {
			t.Errorf("%q ran, want %q", done, want)
		}
		full.Store(true)
		do("e", nil)
		pass(retryAfter)
		o.close()
		o.close()
		full.Store(false)
		do("f", nil)
		pass(time.Minute)
		if slices.Contains(done, "e") {
			t.Error("a task ran after close")
		}
	})
}

// TestATaskIsGivenUpAfterAnHour checks that a task fails with the store's error after an hour, not before.
func TestATaskIsGivenUpAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o retries
		failed := make(chan error, 1)
		o.do(&task{do: func(bool) error { return store.ErrFull }, failed: func(err error) { failed <- err }})
		pass(retryFor - time.Minute)
		if len(failed) > 0 {
			t.Errorf("the task was given up early: %v", <-failed)
		}
		pass(2 * time.Minute)
		if err := <-failed; !errors.Is(err, store.ErrFull) {
			t.Errorf("the task failed with %v, want a full store", err)
		}
		o.close()
	})
}

// pass sleeps in the synctest bubble, and waits until everything due by then has run.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
