package mqtt

import (
	"context"
	"errors"
	"strings"

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

// reasonCodes are the codes that MQTT 5 lists for a packet, by its type. Those of DISCONNECT are a client's.
var reasonCodes = map[byte]string{
	packets.Puback:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	packets.Pubrec:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	packets.Pubrel:     "\x00\x92",
	packets.Pubcomp:    "\x00\x92",
	packets.Suback:     "\x00\x01\x02\x80\x83\x87\x8f\x91\x97\x9e\xa1\xa2",
	packets.Unsuback:   "\x00\x11\x80\x83\x87\x8f\x91",
	packets.Disconnect: "\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99",
}

// hasReason reports whether a packet of a type may have a code.
func hasReason(kind, code byte) bool { return strings.IndexByte(reasonCodes[kind], code) >= 0 }

// codeIn is codeOf for a packet of a type. An error for which it has no code is an unspecified one, with the same text.
func codeIn(kind byte, err error) packets.Code {
	code := codeOf(err)
	if !hasReason(kind, code.Code) {
		code.Code = packets.ErrUnspecifiedError.Code
	}
	return code
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
