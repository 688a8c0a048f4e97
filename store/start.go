package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// policyPatience is how long a hub that starts tries to set a policy while the shared log is away.
const policyPatience = 30 * time.Second

// policyPause is the time between two attempts.
const policyPause = time.Second

// SetAtStart sets a policy of the configuration of a hub that starts. The servers of a shared log may be electing a leader: it tries
// again for half a minute. Its error is for the operator, who cannot repeat a request as a client can.
func SetAtStart(s Store, f group.Filter, p Policy) error {
	for late := time.Now().Add(policyPatience); ; time.Sleep(policyPause) {
		err := s.SetPolicy(f, p)
		switch {
		case !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrAway) && !errors.Is(err, context.DeadlineExceeded):
			return err
		case time.Now().After(late):
			return fmt.Errorf("the policy of %s is not stored: %w", f, whyAway(s))
		}
	}
}

// whyAway returns why a log cannot be reached.
func whyAway(s Store) error {
	if failing, ok := s.(Failing); ok {
		if err := failing.Err(); err != nil {
			return err
		}
	}
	return ErrAway
}
