package access

import (
	"errors"
	"fmt"
)

// Errors for a refused credential. Their texts contain nothing of the token itself.
var (
	ErrMissing = errors.New("a token is needed: send it as Authorization: Bearer TOKEN")
	ErrInvalid = errors.New("the token is not valid here")
	ErrExpired = errors.New("the token has expired: get a new one")
	ErrRevoked = errors.New("the token was revoked: get a new one")
)

// Action is an action that needs a grant.
type Action string

// The actions.
const (
	Subscribe Action = "subscribe"
	Publish   Action = "publish"
	Admin     Action = "admin"
)

// Denied is an error of the embedding program's own authentication. Its text is sent to the client.
type Denied struct{ Err error }

func (e *Denied) Error() string { return e.Err.Error() }
func (e *Denied) Unwrap() error { return e.Err }

// Forbidden reports that a grant does not allow an action.
type Forbidden struct {
	Action Action
	Filter string // the group or filter that the grant would have to cover; "" for Admin
}

func (e *Forbidden) Error() string {
	if e.Action == Admin {
		return "the token does not allow administration"
	}
	return fmt.Sprintf("the token does not allow this caller to %s to %q", e.Action, e.Filter)
}
