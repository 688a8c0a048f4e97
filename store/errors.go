package store

import "errors"

// What Append may refuse with. None of them leaves a trace in the log.
var (
	ErrFull          = errors.New("the store has no room for it")
	ErrTooManyGroups = errors.New("the store holds as many groups as it may")
	ErrReadOnly      = errors.New("the store takes no more messages")
	ErrClosed        = errors.New("the store is closed")
)

// ErrCorrupt is what a store cannot make sense of.
var ErrCorrupt = errors.New("the store is corrupt")
