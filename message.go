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

// Message is a message that a client has sent or, in BeforePublish, is about to send.
type Message struct {
	ID    string // "" before it is published, and for a message to the program alone
	Group string // "" for a message to the program alone
	UID   string // of the sender's session; "" if it has none
	Event string

	Subject string // of the sender's grant; "" without authentication and for messages of Retained

	// Meta has pairs of a name and a value that the sender added, in its order. A name may appear more than once.
	// There are at most 16, of 1 KiB together. Names that begin with $ come from the server: HTTP clients
	// cannot send them.
	Meta [][2]string

	Time time.Time
	Data []byte // the payload as it was sent: text, bytes or a JSON value

	json bool // Data is a JSON value
	hub  *Hub
}

// Text returns the content of a JSON string, or else Data as text.
func (m Message) Text() string {
	var s *string
	if m.json && json.Unmarshal(m.Data, &s) == nil && s != nil {
		return *s
	}
	return string(m.Data)
}

// Decode stores the message in the value that v points to: its Text in a string, its Data in a []byte,
// and JSON in anything else, as encoding/json does.
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

// Set replaces the content of the message, for a hook that rewrites messages. It accepts the same values as
// Publish.
func (m *Message) Set(v any) error {
	kind, data, err := encode(v)
	if err != nil {
		return fmt.Errorf("watchbox: %w", err)
	}
	m.Data, m.json = data, kind == hub.JSON
	return nil
}

// Reply sends a message to the session of the sender. It returns ErrNoSession if the sender has none.
func (m Message) Reply(ctx context.Context, v any) (id string, err error) {
	if m.hub == nil {
		return "", errors.New("watchbox: reply to a message that did not come from a hub")
	}
	return m.hub.Send(ctx, m.UID, v)
}

// encodeFor is encode with a check of the context.
func encodeFor(ctx context.Context, v any) (hub.Kind, []byte, error) {
	if ctx == nil {
		return 0, nil, errors.New("the context is nil")
	}
	return encode(v)
}

// encode returns the body for a value from the program: a string is text, a []byte is bytes, and anything
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

// ErrNoSession is returned if there is no such session, neither connected nor lost for less than the session
// timeout.
var ErrNoSession = session.ErrUnknown

// Session is a client with one or more streams.
type Session struct {
	UID     string
	Subject string // owner of the session; "" without authentication
}

// Reason is the reason why a session is gone.
type Reason = session.Reason

// The reasons.
const (
	ReasonClosed    = session.Closed    // the client closed the connection
	ReasonTimeout   = session.Timeout   // the client did not acknowledge data (TCP)
	ReasonHeartbeat = session.Heartbeat // the client did not send the heartbeats that it had announced
	ReasonSlow      = session.Slow      // the client did not read fast enough, and the policy says disconnect
	ReasonEnded     = session.Ended     // the client ended its session
	ReasonKicked    = session.Kicked    // someone else ended the session
	ReasonShutdown  = session.Shutdown  // the hub was closed
)
