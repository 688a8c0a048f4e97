package mqtt

import (
	"errors"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// codeOf returns the reason code that tells a client of an error. The code's text is that of the error if the client can
// use it.
func codeOf(err error) packets.Code {
	if code, ok := errors.AsType[packets.Code](err); ok {
		return code
	}
	for _, m := range meanings {
		if m.is(err) {
			return packets.Code{Code: m.code.Code, Reason: err.Error()}
		}
	}
	return packets.ErrUnspecifiedError // the log has the error
}

// meanings are the errors that clients may see, with their codes.
var meanings = []struct {
	is   func(error) bool
	code packets.Code
}{
	{oneOf(access.ErrInvalid, access.ErrExpired, access.ErrRevoked), packets.ErrBadUsernameOrPassword},
	{oneOf(access.ErrMissing, sessions.ErrOfAnother), packets.ErrNotAuthorized},
	{oneType[*access.Forbidden], packets.ErrNotAuthorized},
	{oneType[*access.Denied], packets.ErrNotAuthorized},
	{oneType[*hub.Refusal], packets.ErrImplementationSpecificError},
	{oneOf(hub.ErrProgram), packets.ErrImplementationSpecificError},
	{oneType[*group.Error], packets.ErrTopicNameInvalid},
	{oneType[*hub.BodyError], packets.ErrPayloadFormatInvalid},
	{oneType[*hub.SizeError], packets.ErrQuotaExceeded},
	{oneType[*hub.LimitError], packets.ErrQuotaExceeded},
	{oneOf(store.ErrFull, store.ErrTooManyGroups, store.ErrTooLarge, hub.ErrOverloaded, hub.ErrTooManyWills), packets.ErrQuotaExceeded},
	{oneOf(hub.ErrTooManyStreams, sessions.ErrTooManySessions, sessions.ErrTooManyFilters), packets.ErrQuotaExceeded},
	{oneOf(hub.ErrClosed, sessions.ErrClosed, store.ErrAway, store.ErrReadOnly, store.ErrUnknownOutcome), packets.ErrServerUnavailable},
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
