package store

import (
	"errors"
	"fmt"
)

// What Append may refuse with. None of them leaves a trace in the log.
var (
	ErrFull          = errors.New("the store has no room for it")
	ErrTooManyGroups = errors.New("the store holds as many groups as it may")
	ErrReadOnly      = errors.New("the store takes no more messages")
	ErrClosed        = errors.New("the store is closed")
)

// ErrTooManyPolicies is what SetPolicy returns for one more than MaxPolicies.
var ErrTooManyPolicies = fmt.Errorf("the store holds %d policies, which is the limit: remove one, or set one for a pattern instead of many for single groups", MaxPolicies)

// ErrCorrupt is what a store cannot make sense of.
var ErrCorrupt = errors.New("the store is corrupt")
