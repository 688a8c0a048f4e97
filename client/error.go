package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/watchbox-go/watchbox/sse"
)

// Error is a hub's refusal.
type Error struct {
	Status int    // of HTTP; 0 if the hub ended the stream and said why
	Code   string // stays the same whatever the words are, as too-many-filters; "" if it gave none
	Detail string // what is wrong, for people

	retryAfter time.Duration
}

// Error returns the detail and the code.
func (e *Error) Error() string {
	if e.Code == "" {
		return "watchbox: " + e.Detail
	}
	return fmt.Sprintf("watchbox: %s (%s)", e.Detail, e.Code)
}

// temporary reports whether it may be different the next time.
func (e *Error) temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusInsufficientStorage:
		return false
	}
	return e.Status >= 500
}

// refusal returns the error that an answer is: a problem (RFC 9457) of the hub, or whatever
// something between us and it says.
func refusal(status int, header http.Header, body []byte) *Error {
	e := &Error{Status: status}
	var p struct{ Code, Detail string }
	if json.Unmarshal(body, &p) == nil {
		e.Code, e.Detail = p.Code, p.Detail
	}
	if e.Detail == "" {
		e.Detail = fmt.Sprintf("the answer is %d %s", status, http.StatusText(status))
	}
	if s, err := strconv.ParseUint(header.Get("Retry-After"), 10, 16); err == nil {
		e.retryAfter = time.Duration(s) * time.Second
	}
	return e
}

// streamError is an error of the stream as the user gets it.
func streamError(err error) error {
	if refused, ok := errors.AsType[*sse.StatusError](err); ok {
		return refusal(refused.Code, refused.Header, refused.Body)
	}
	return fmt.Errorf("watchbox: %w", err)
}
