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

// Errors of a Shared log.
var (
	// ErrConflict is returned by AppendNoted if a guarded note has another newest version. The log is
	// unchanged.
	ErrConflict = errors.New("the note was changed by another hub meanwhile")

	// ErrUnknownOutcome is returned by Append if the log could not find out in time whether it holds
	// the entries.
	ErrUnknownOutcome = errors.New("it is not known whether the message was stored: send it again with the same idempotency key")

	// ErrAway is returned while the log cannot be reached. The log is unchanged.
	ErrAway = errors.New("the log that the hubs share cannot be reached")

	// ErrWouldWait is returned by Read with Query.NoWait if it would have to wait for another machine.
	ErrWouldWait = errors.New("the messages are not in memory")

	// ErrTooLarge is returned by Append for more entries or bytes than the log takes at once.
	ErrTooLarge = errors.New("the message or batch is larger than the log can take at once: split it")

	// ErrNoHub is returned by Hubs.Call if the hub does not answer because it is gone.
	ErrNoHub = errors.New("there is no such hub")
)

// ErrTooManyPolicies is returned by SetPolicy if there are MaxPolicies already.
var ErrTooManyPolicies = fmt.Errorf("the store holds %d policies, which is the limit: remove one, or set one for a pattern instead of many for single groups", MaxPolicies)

// ErrCorrupt is returned for stored data that cannot be decoded.
var ErrCorrupt = errors.New("the store is corrupt")
