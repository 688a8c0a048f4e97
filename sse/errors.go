package sse

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrEventTooLarge says that an event was skipped because it is larger than MaxEventSize.
	ErrEventTooLarge = errors.New("sse: the event is too large")

	// ErrMediaType says that a response is no event stream. It is final.
	ErrMediaType = errors.New("sse: the response is not of type " + ContentType)

	// ErrRequest says that the Client's URL or Method is none. It is final.
	ErrRequest = errors.New("sse: no such request can be made")

	// ErrLastEventID says that the last event id cannot be sent, for it holds a control character
	// that no HTTP header may have. The stream is asked for without.
	ErrLastEventID = errors.New("sse: the last event id cannot be sent")

	// ErrIdle says that nothing came for as long as IdleTimeout.
	ErrIdle = errors.New("sse: nothing was heard for too long")

	// ErrRestarted says that Restart was called.
	ErrRestarted = errors.New("sse: restarted")
)

const (
	// errorBody is how much of the body of a response that is no stream is kept, in bytes,
	errorBody = 16 << 10

	// and errorWait is how long it may take to come.
	errorWait = 5 * time.Second
)

// StatusError is a response with another status than 200.
type StatusError struct {
	Code   int
	Header http.Header
	Body   []byte // its first 16 KiB: application/problem+json, say
}

// Error gives the status.
func (e *StatusError) Error() string {
	status := strings.TrimSpace(strconv.Itoa(e.Code) + " " + http.StatusText(e.Code))
	return "sse: the server answered " + status
}

// Final reports whether there is no use in trying again. 408, 425, 429 and 5xx are for now.
func (e *StatusError) Final() bool {
	switch e.Code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return e.Code < 500
}

// final reports whether an attempt that ended so is the last.
func final(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Final()
	}
	return errors.Is(err, ErrMediaType) || errors.Is(err, ErrRequest)
}

// retryAfter returns how long the server that answered so wants to be left alone (RFC 9110,
// 10.2.3: seconds, or a date).
func retryAfter(err error) time.Duration {
	status, ok := errors.AsType[*StatusError](err)
	if !ok {
		return 0
	}
	value := status.Header.Get("Retry-After")
	if s, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return time.Until(at)
	}
	return 0
}

// check returns an error, and closes the body, if the response is no event stream. Of its media
// type the parameters do not matter, not even broken ones (WHATWG HTML, 9.2.3).
func check(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		timer := time.AfterFunc(errorWait, func() { _ = resp.Body.Close() })
		defer timer.Stop()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBody)) // as much as comes
		return &StatusError{Code: resp.StatusCode, Header: resp.Header, Body: body}
	}
	given := resp.Header.Get("Content-Type")
	essence, _, _ := strings.Cut(given, ";")
	if !strings.EqualFold(strings.TrimSpace(essence), ContentType) {
		_ = resp.Body.Close()
		return fmt.Errorf("%w: it is %q", ErrMediaType, given)
	}
	return nil
}
