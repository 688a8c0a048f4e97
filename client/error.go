package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/sse"
)

// Error is a hub's refusal.
type Error struct {
	Status int    // the HTTP status; 0 if the hub ended the stream with a reason
	Code   string // stable, such as too-many-filters; "" if the answer has none
	Detail string // says what is wrong

	retryAfter time.Duration
}

// Error returns the detail and the code.
func (e *Error) Error() string {
	if e.Code == "" {
		return "watchbox: " + e.Detail
	}
	return fmt.Sprintf("watchbox: %s (%s)", e.Detail, e.Code)
}

// temporary reports whether a retry may succeed.
func (e *Error) temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusInternalServerError:
		return e.Code != "program-failed" // BeforePublish panicked: it would again
	case http.StatusNotImplemented, http.StatusInsufficientStorage:
		return false
	}
	return e.Status >= 500
}

// uncertain reports whether the hub may have done what was requested, though this is not the answer to it: a proxy may
// have lost that. No proxy answers 4xx or 501 after the hub has done something.
func (e *Error) uncertain() bool { return e.Status/100 != 4 && e.Status != http.StatusNotImplemented }

// refusal returns the error that an answer is: a problem (RFC 9457) of the hub, or what something
// between us and the hub says.
func refusal(status int, header http.Header, body []byte) *Error {
	e := &Error{Status: status}
	var p struct{ Code, Detail string }
	if mediaType(header) == "application/problem+json" && json.Unmarshal(body, &p) == nil {
		e.Code, e.Detail = p.Code, p.Detail
	}
	switch location := header.Get("Location"); {
	case e.Detail != "":
	case status >= 300 && status <= 399 && location != "":
		e.Detail = fmt.Sprintf("the answer is a redirect to %s: use the address that it leads to", location)
	case status >= 200 && status <= 299 && status != http.StatusNoContent:
		e.Detail = fmt.Sprintf("the answer is %d with %q and not a hub's: is the address right?", status, mediaType(header))
	default:
		e.Detail = fmt.Sprintf("the answer is %d %s", status, http.StatusText(status))
	}
	if s, err := strconv.ParseUint(header.Get("Retry-After"), 10, 16); err == nil {
		e.retryAfter = time.Duration(s) * time.Second
	}
	return e
}

// mediaType returns the type of a body, without parameters and in lower case.
func mediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// streamError is an error of the stream as the user gets it.
func streamError(err error) error {
	if refused, ok := errors.AsType[*sse.StatusError](err); ok {
		return refusal(refused.Code, refused.Header, refused.Body)
	}
	return fmt.Errorf("watchbox: %w", err)
}

// final reports whether an answer ends what it answers. Once the hub has answered, another answer that
// is not the hub's own comes from a proxy while the hub is replaced, or from a network that wants a
// login: it is temporary.
func (c *Client) final(e *Error) bool {
	switch e.Status {
	case http.StatusNoContent, http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	if e.temporary() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return e.Code != "" || !c.met
}

// meet notes that the hub has answered.
func (c *Client) meet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.met = true
}
