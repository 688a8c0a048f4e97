package watchbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
)

// Message is one that a client has sent, or wants to send.
type Message struct {
	ID    string // "" before it is published, and for one to the program alone
	Group string // "" for one to the program alone
	UID   string // the sender's session; "" if it has none
	Event string
	Time  time.Time
	Data  []byte // as it was sent: text, bytes, or a JSON value

	json bool // Data is a JSON value
	hub  *Hub
}

// Text returns the message as text: that of a JSON string, or Data as it is.
func (m Message) Text() string {
	var s *string
	if m.json && json.Unmarshal(m.Data, &s) == nil && s != nil {
		return *s
	}
	return string(m.Data)
}

// Decode stores the message in what v points to: a JSON value as encoding/json does, text in a
// string, and anything in a []byte.
func (m Message) Decode(v any) error {
	switch to := v.(type) {
	case *[]byte:
		*to = bytes.Clone(m.Data)
		return nil
	case *string:
		*to = m.Text()
		return nil
	}
	if err := json.Unmarshal(m.Data, v); err != nil {
		return fmt.Errorf("watchbox: message %s to %q: %w", m.ID, m.Group, err)
	}
	return nil
}

// Set replaces what is sent, as Publish takes it, for a hook that rewrites messages.
func (m *Message) Set(v any) error {
	kind, data, err := encode(v)
	if err != nil {
		return fmt.Errorf("watchbox: %w", err)
	}
	m.Data, m.json = data, kind == hub.JSON
	return nil
}

// Reply sends to the session that has sent the message. It returns ErrNoSession if there was none.
func (m Message) Reply(ctx context.Context, v any) (id string, err error) {
	if m.hub == nil {
		return "", errors.New("watchbox: a reply to a message that no hub has given to the program")
	}
	return m.hub.Send(ctx, m.UID, v)
}

// encodeFor is encode, where there is a context.
func encodeFor(ctx context.Context, v any) (hub.Kind, []byte, error) {
	if ctx == nil {
		return 0, nil, errors.New("the context is nil")
	}
	return encode(v)
}

// encode turns what a program sends into a body: a string is text, a []byte is bytes, and anything
// else is its JSON.
func encode(v any) (hub.Kind, []byte, error) {
	switch v := v.(type) {
	case string:
		return hub.Bytes, []byte(v), nil
	case []byte:
		return hub.Bytes, v, nil
	}
	data, err := json.Marshal(v)
	return hub.JSON, data, err
}

// ErrNoSession says that a session is neither here nor lost a moment ago.
var ErrNoSession = session.ErrUnknown

// Session is a client that listens, however many streams it has.
type Session struct{ UID string }

// Reason says why a session has gone.
type Reason = session.Reason

// The reasons.
const (
	ReasonClosed    = session.Closed    // it closed the connection
	ReasonTimeout   = session.Timeout   // it did not acknowledge what it was sent
	ReasonHeartbeat = session.Heartbeat // it promised heartbeats and sent none
	ReasonSlow      = session.Slow      // it did not read, and the policy ends those
	ReasonEnded     = session.Ended     // it ended its session itself
	ReasonKicked    = session.Kicked    // its session was ended
	ReasonShutdown  = session.Shutdown  // the hub was closed
)
