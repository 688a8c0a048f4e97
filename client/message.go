package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// Message is one that a stream has brought.
type Message struct {
	ID    string // its position in the hub's log
	Group string
	UID   string // the sender's session; "" if it has none
	Event string // as which it was published; "" for none
	Time  time.Time

	// Expires is when the hub forgets it; zero if that is not said.
	Expires time.Time

	// Retained is set if the message was there before the join, as the group's value.
	Retained bool

	// Data is the payload: text, bytes, or JSON. Callbacks that get the same message share it.
	Data []byte

	msg json.RawMessage // Data as a JSON value
}

// Text returns the payload as text.
func (m Message) Text() string { return string(m.Data) }

// Decode stores the payload in what v points to: JSON as encoding/json does, also if it was sent as
// text or bytes; anything in a string or a []byte.
func (m Message) Decode(v any) error {
	switch to := v.(type) {
	case *[]byte:
		*to = bytes.Clone(m.Data)
		return nil
	case *string:
		*to = m.Text()
		return nil
	}
	err := json.Unmarshal(m.msg, v)
	if err != nil && json.Unmarshal(m.Data, v) != nil {
		return fmt.Errorf("watchbox: message %s to %q: %w", m.ID, m.Group, err)
	}
	return nil
}

// Gap says that messages can no longer be had.
type Gap struct {
	Filter string // of the join that misses them
	After  string // the id behind which they lay
	Oldest string // the id of the first that follows; "" if there is none
	Reason string // evicted, epoch (the hub has another log than before), or slow
}

// wireMessage is a message as the stream has it.
type wireMessage struct {
	ID, Group, UID, Event, Encoding string
	Time, Expires                   time.Time
	Retain                          bool // it became the group's value
	Retained                        bool // and this is that value, once more
	Msg                             json.RawMessage
}

func parseMessage(data []byte) (w wireMessage, m Message, err error) {
	if err := json.Unmarshal(data, &w); err != nil {
		return w, m, err
	}
	m = Message{
		ID: w.ID, Group: w.Group, UID: w.UID, Event: w.Event, Time: w.Time, Expires: w.Expires,
		Retained: w.Retained, Data: w.Msg, msg: w.Msg,
	}
	var text *string
	if json.Unmarshal(w.Msg, &text) == nil && text != nil {
		m.Data = []byte(*text)
	}
	if w.Encoding == "base64" {
		m.Data, err = base64.StdEncoding.AppendDecode(nil, m.Data)
	}
	return w, m, err
}
