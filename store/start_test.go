package store_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// awayStore is a store that is away for a while.
type awayStore struct {
	store.Store
	back time.Time
	err  error // of SetPolicy until then
}

func (s *awayStore) SetPolicy(group.Filter, store.Policy) error {
	if time.Now().Before(s.back) {
		time.Sleep(5 * time.Second)
		return s.err
	}
	return nil
}

func (s *awayStore) Err() error { return store.ErrAway }
func (s *awayStore) Unblock()   {}

// TestAHubThatStartsWaitsForALogThatIsAway sets a policy of its configuration while the servers have no leader for a while, or for good.
func TestAHubThatStartsWaitsForALogThatIsAway(t *testing.T) {
	for _, err := range []error{store.ErrAway, store.ErrUnknownOutcome} {
		synctest.Test(t, func(t *testing.T) {
			set := func(away time.Duration) error {
				return store.SetAtStart(&awayStore{back: time.Now().Add(away), err: err}, group.Exact("g"), store.Policy{})
			}
			if err := set(20 * time.Second); err != nil {
				t.Errorf("the servers were back in time: %v", err)
			}
			switch err := set(time.Hour); {
			case err == nil:
				t.Error("a policy is not stored, and nobody is told")
			case !strings.Contains(err.Error(), "cannot be reached") || strings.Contains(err.Error(), "idempotency"):
				t.Errorf("an operator cannot act on: %v", err)
			}
		})
	}
}
