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

// EventError says why an event name cannot be.
type EventError struct{ Name, Why string }

func (e *EventError) Error() string { return fmt.Sprintf("the event name %.140q %s", e.Name, e.Why) }

// reserved are the names of the server's own events, and of those that an EventSource fires itself:
// a message with such a name would run a page's onopen and onerror.
var reserved = []string{"session", "gap", "bye", "open", "error"}

// EventName checks an event name that a client gave. One that is empty is an error, too.
func EventName(name string) (string, error) {
	if name == "" {
		return "", &EventError{Name: name, Why: "is empty; leave it out"}
	}
	return name, CheckEvent(name)
}

// CheckEvent returns an *EventError for what cannot be the name of an event; "" is none.
func CheckEvent(name string) error {
	why := ""
	switch {
	case len(name) > maxEvent:
		why = fmt.Sprintf("is longer than %d bytes", maxEvent)
	case !utf8.ValidString(name) || !sse.ValidField(name):
		why = "has a line break or a NUL in it, or is not UTF-8"
	case slices.Contains(reserved, name):
		why = "is reserved: the server or the browser fires " + strings.Join(reserved, ", ") + " itself"
	default:
		return nil
	}
	return &EventError{name, why}
}
