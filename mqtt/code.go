package mqtt

import (
	"context"
	"errors"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// meaning is what an error means for a client.
type meaning struct {
	is    func(error) bool
	code  packets.Code
	again bool // the same packet may be accepted when it is sent again later
}

// meanings are the errors that clients may see.
var meanings = []meaning{
	{oneOf(access.ErrInvalid, access.ErrExpired, access.ErrRevoked, sessions.ErrOfAnother, hub.ErrForbidden), packets.ErrNotAuthorized, false},
	{oneType[*access.Forbidden], packets.ErrNotAuthorized, false},
	{oneType[*access.Denied], packets.ErrNotAuthorized, false},
	{oneType[*hub.Refusal], packets.ErrImplementationSpecificError, false},
	{oneOf(hub.ErrProgram), packets.ErrImplementationSpecificError, false},
	{oneType[*group.Error], packets.ErrTopicNameInvalid, false},
	{oneType[*hub.BodyError], packets.ErrPayloadFormatInvalid, false},
	{oneType[*hub.MetaError], packets.ErrQuotaExceeded, false},
	{oneType[*hub.SizeError], packets.ErrQuotaExceeded, false},
	{oneOf(store.ErrTooLarge, cursor.ErrTooLarge, sessions.ErrTooLarge), packets.ErrQuotaExceeded, false},
	{oneType[*hub.LimitError], packets.ErrQuotaExceeded, true},
	{oneType[*cursor.LimitError], packets.ErrQuotaExceeded, true},
	{oneOf(store.ErrFull, store.ErrTooManyGroups, hub.ErrOverloaded, hub.ErrTooManyWills), packets.ErrQuotaExceeded, true},
	{oneOf(hub.ErrTooManyStreams, sessions.ErrTooManySessions, sessions.ErrTooManyFilters, delivery.ErrTooManyChanges), packets.ErrQuotaExceeded, true},
	{oneOf(hub.ErrClosed, sessions.ErrClosed, cursor.ErrClosed, store.ErrClosed), packets.ErrServerShuttingDown, true},
	{oneOf(store.ErrAway, store.ErrReadOnly, store.ErrUnknownOutcome, context.Canceled, context.DeadlineExceeded), packets.ErrServerBusy, true},
	{oneOf(hub.ErrHubAway, cursor.ErrElsewhere, sessions.ErrConflict), packets.ErrServerBusy, true},
}

// meaningOf returns what an error means. One that clients should not see is an unspecified error.
func meaningOf(err error) meaning {
	if code, ok := errors.AsType[packets.Code](err); ok {
		return meaning{code: code}
	}
	if errors.Is(err, access.ErrMissing) { // it names what HTTP clients do
		return meaning{code: errNoPassword}
	}
	for _, m := range meanings {
		if m.is(err) {
			return m
		}
	}
	return meaning{code: packets.ErrUnspecifiedError, again: true}
}

// tell returns the code with the text of the error that it means.
func (m *meaning) tell(err error) packets.Code {
	if m.is == nil {
		return m.code
	}
	return packets.Code{Code: m.code.Code, Reason: err.Error()}
}

// codeOf returns the code that tells a client of an error.
func codeOf(err error) packets.Code {
	m := meaningOf(err)
	return m.tell(err)
}

func oneOf(list ...error) func(error) bool {
	return func(err error) bool {
		for _, e := range list {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
}

func oneType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
