package hub

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/watchbox-go/watchbox/sse"
)

// maxEvent is the longest event name, in bytes.
const maxEvent = 128

// EventError reports an invalid event name.
type EventError struct{ Name, Why string }

func (e *EventError) Error() string { return fmt.Sprintf("the event name %.140q %s", e.Name, e.Why) }

// reserved lists the names of the server's own events and of the events that an EventSource fires
// itself. A message with such a name would call a page's onopen or onerror.
var reserved = []string{"session", "gap", "bye", "open", "error"}

// EventName checks an event name that a client sent. An empty name is an error.
func EventName(name string) (string, error) {
	if name == "" {
		return "", &EventError{Name: name, Why: "is empty; leave it out"}
	}
	return name, CheckEvent(name)
}

// CheckEvent returns an *EventError if name is not a valid event name. "" means no event name, and is valid.
func CheckEvent(name string) error {
	why := ""
	switch {
	case len(name) > maxEvent:
		why = fmt.Sprintf("is longer than %d bytes", maxEvent)
	case !utf8.ValidString(name) || !sse.ValidField(name):
		why = "contains a line break or NUL, or is not UTF-8"
	case slices.Contains(reserved, name):
		why = "is reserved: the server or the browser fires " + strings.Join(reserved, ", ") + " itself"
	default:
		return nil
	}
	return &EventError{name, why}
}
