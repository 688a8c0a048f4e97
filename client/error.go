package client

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/watchbox-go/watchbox/internal/remote"
	"github.com/watchbox-go/watchbox/sse"
)

// Error is a hub's refusal.
type Error struct {
	Status     int           // the HTTP status; 0 if the hub ended the stream with a reason
	Code       string        // stable, such as too-many-filters; "" if the answer has none
	Detail     string        // says what is wrong
	RetryAfter time.Duration // how long the hub asks to wait before a retry; 0 if it does not
}

// Error returns the detail and the code.
func (e *Error) Error() string { return "watchbox: " + (*remote.Refusal)(e).Error() }

func (e *Error) temporary() bool { return (*remote.Refusal)(e).Temporary() }

// uncertain reports whether the hub may have done what was requested, though this is not the answer to it: a proxy may
// have lost that. No proxy answers 4xx or 501 after the hub has done something.
func (e *Error) uncertain() bool { return e.Status/100 != 4 && e.Status != http.StatusNotImplemented }

// refusal returns the error that an answer is.
func refusal(status int, header http.Header, body []byte) *Error {
	return (*Error)(remote.NewRefusal(status, header, body))
}

// streamError is an error of the stream as the user gets it.
func streamError(err error) error {
	if refused, ok := errors.AsType[*sse.StatusError](err); ok {
		return refusal(refused.Code, refused.Header, refused.Body)
	}
	return fmt.Errorf("watchbox: %w", err)
}

// final reports whether an answer ends what it answers.
func (c *Client) final(e *Error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return (*remote.Refusal)(e).Final(c.met)
}

// meet notes that the hub has answered.
func (c *Client) meet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.met = true
}
