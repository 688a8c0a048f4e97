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
	// ErrEventTooLarge reports that an event was skipped because it is larger than MaxEventSize.
	ErrEventTooLarge = errors.New("sse: the event is too large")

	// ErrMediaType reports that a response is not an event stream.
	ErrMediaType = errors.New("sse: the response is not of type " + ContentType)

	// ErrRequest reports that the Client's URL or Method is not valid. It is final.
	ErrRequest = errors.New("sse: the URL or method is not valid")

	// ErrLastEventID reports that the last event id contains a control character, which an HTTP header must
	// not contain. The request is sent without the id.
	ErrLastEventID = errors.New("sse: the last event id cannot be sent")

	// ErrIdle reports that no byte was received for IdleTimeout.
	ErrIdle = errors.New("sse: the stream was silent for too long")

	// ErrNoAnswer reports that AnswerTimeout or FirstEventTimeout ended an attempt.
	ErrNoAnswer = errors.New("sse: the server does not answer")

	// ErrRestarted reports that Restart was called.
	ErrRestarted = errors.New("sse: restarted")
)

const (
	// errorBody is how many bytes are kept of the body of an error response.
	errorBody = 16 << 10

	// errorWait is how long receiving that body may take.
	errorWait = 5 * time.Second
)

// StatusError is a response with another status than 200.
type StatusError struct {
	Code   int
	Header http.Header
	Body   []byte // its first 16 KiB, for example of an application/problem+json
}

// Error gives the status.
func (e *StatusError) Error() string {
	status := strings.TrimSpace(strconv.Itoa(e.Code) + " " + http.StatusText(e.Code))
	return "sse: the server answered " + status
}

// Final reports whether the status means that trying again is useless. 408, 425, 429 and 5xx are temporary.
func (e *StatusError) Final() bool {
	switch e.Code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return e.Code < 500
}

// definite reports whether the status is final and the server itself sent it, not a proxy or a network.
func (e *StatusError) definite() bool {
	switch e.Code {
	case http.StatusNoContent, http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return e.Final() && essence(e.Header) == "application/problem+json"
}

// retryAfter returns the wait that the response's Retry-After asks for, or 0 (RFC 9110, section 10.2.3:
// seconds, or a date).
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

// check returns an error, and closes the body, if the response is not an event stream. It ignores the
// parameters of the media type, even invalid ones (WHATWG HTML, 9.2.3).
func check(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		timer := time.AfterFunc(errorWait, func() { _ = resp.Body.Close() })
		defer timer.Stop()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBody)) // an incomplete body is better than none
		return &StatusError{Code: resp.StatusCode, Header: resp.Header, Body: body}
	}
	if essence(resp.Header) != ContentType {
		_ = resp.Body.Close()
		return fmt.Errorf("%w: it is %q", ErrMediaType, resp.Header.Get("Content-Type"))
	}
	return nil
}

// essence returns the media type of a body, without parameters and in lower case.
func essence(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}
