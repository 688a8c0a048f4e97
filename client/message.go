package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// Message is a message from the hub.
type Message struct {
	ID    string // position in the hub's log
	Group string
	UID   string // uid of the sender's session; "" for none
	Event string // event name; "" for none
	Time  time.Time

	// Meta has pairs of a name and a value that the sender added, in its order. Names that begin with $ come from
	// the hub. Callbacks that get the same message share it.
	Meta [][2]string

	// Expires is the time at which the message expires; zero for never.
	Expires time.Time

	// Retained is set if this is the group's retained message from before the join.
	Retained bool

	// Data is the payload: text, bytes, or JSON. Callbacks that get the same message share it.
	Data []byte

	msg json.RawMessage // Data as a JSON value
}

// Text returns the payload as text.
func (m Message) Text() string { return string(m.Data) }

// Decode stores the payload in the value that v points to. A *string or a *[]byte takes any payload. For other
// types the payload is decoded as JSON, even if it was sent as text or bytes.
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

// Gap reports messages that can no longer be delivered.
type Gap struct {
	Filter string // the joined filter that misses messages
	After  string // the missed messages come after this id
	Oldest string // id of the oldest message that is still stored; "" for none
	Reason string // evicted, epoch (the hub has a new log) or slow
}

// wireMessage is the JSON of a message on the stream.
type wireMessage struct {
	ID, Group, UID, Event, Encoding string
	Meta                            [][2]string
	Time, Expires                   time.Time
	Retain                          bool // it became the group's retained message when it was published
	Retained                        bool // this is the retained message, sent because of a join
	Msg                             json.RawMessage
}

func parseMessage(data []byte) (w wireMessage, m Message, err error) {
	if err := json.Unmarshal(data, &w); err != nil {
		return w, m, err
	}
	m = Message{
		ID: w.ID, Group: w.Group, UID: w.UID, Event: w.Event, Meta: w.Meta, Time: w.Time, Expires: w.Expires,
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
