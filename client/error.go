package client

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/watchbox-go/watchbox/internal/remote"
	"github.com/watchbox-go/watchbox/sse"
)

// Error is a refusal by the hub.
type Error struct {
	Status     int           // the HTTP status; 0 if the hub ended the stream with a reason
	Code       string        // stable, such as too-many-filters; "" if the answer has none
	Detail     string        // a description of the error
	RetryAfter time.Duration // the wait before a retry that the hub asks for; 0 for none
}

// Error returns the detail and the code.
func (e *Error) Error() string { return "watchbox: " + (*remote.Refusal)(e).Error() }

func (e *Error) temporary() bool { return (*remote.Refusal)(e).Temporary() }

// uncertain reports whether the hub may have executed the request although this answer is an error, because a proxy
// lost the hub's answer. A proxy does not answer 4xx or 501 after the hub has executed a request.
func (e *Error) uncertain() bool { return e.Status/100 != 4 && e.Status != http.StatusNotImplemented }

// refusal returns the error for an answer.
func refusal(status int, header http.Header, body []byte) *Error {
	return (*Error)(remote.NewRefusal(status, header, body))
}

// sessionEnded is the code of the hub's answer to a client that was kicked while it polled.
const sessionEnded = "session-ended"

// sessionUnknown is the code of the hub's answer if there is no such session.
const sessionUnknown = "session-unknown"

// ended returns the error of a client whose session the hub has ended, with the reason of its last event.
func ended(reason string) *Error { return &Error{Code: reason, Detail: "the hub ended the session"} }

// streamError returns an error of the stream in the form that users get.
func streamError(err error) error {
	if refused, ok := errors.AsType[*sse.StatusError](err); ok {
		return refusal(refused.Code, refused.Header, refused.Body)
	}
	return fmt.Errorf("watchbox: %w", err)
}

// final reports whether the call or stream with this answer is not retried.
func (c *Client) final(e *Error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return (*remote.Refusal)(e).Final(c.answered)
}

// noteAnswer records that the hub has answered.
func (c *Client) noteAnswer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = true
}
