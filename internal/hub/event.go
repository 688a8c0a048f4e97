package hub

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/watchbox-go/watchbox/sse"
)

// maxEvent is the longest event name, in bytes.
const maxEvent = 128

// EventError says why an event name cannot be.
type EventError struct{ Name, Why string }

func (e *EventError) Error() string { return fmt.Sprintf("the event name %.140q %s", e.Name, e.Why) }

// CheckEvent returns an *EventError for what cannot be the name of an event; "" is none.
func CheckEvent(name string) error {
	why := ""
	switch {
	case len(name) > maxEvent:
		why = fmt.Sprintf("is longer than %d bytes", maxEvent)
	case !utf8.ValidString(name) || !sse.ValidField(name):
		why = "has a line break or a NUL in it, or is not UTF-8"
	case slices.Contains([]string{"session", "gap", "bye"}, name):
		why = "is a name that only the server uses"
	default:
		return nil
	}
	return &EventError{name, why}
}
