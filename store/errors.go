package store

import (
	"errors"
	"fmt"
)

// Errors of Append. If it returns one of them, the log is unchanged.
var (
	ErrFull          = errors.New("the store has no room for the message")
	ErrTooManyGroups = errors.New("the limit of groups is reached: purge groups that are no longer used, or raise the limit")
	ErrReadOnly      = errors.New("the store is read-only")
	ErrClosed        = errors.New("the store is closed")
)

// ErrTooManyPolicies is returned by SetPolicy if there are MaxPolicies already.
var ErrTooManyPolicies = fmt.Errorf("the store holds %d policies, which is the limit: remove one, or set one for a pattern instead of many for single groups", MaxPolicies)

// ErrCorrupt is returned for stored data that cannot be decoded.
var ErrCorrupt = errors.New("the store is corrupt")
