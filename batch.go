package watchbox

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
)

// Draft is a message to publish.
type Draft struct {
	Group string
	Msg   any           // a string as text, a []byte as bytes, anything else as its JSON
	Event string        // the SSE event name; "" for none
	Meta  [][2]string   // names and values to send with the message; see Message
	TTL   time.Duration // the message expires after it; 0 for never

	// Retain makes this the group's retained message. An empty message clears it.
	Retain bool
}

// PublishBatch publishes messages to several groups. They are adjacent in the log, and either all or none are
// appended. It returns the ids of the first and the last message when the store holds all of them.
func (h *Hub) PublishBatch(ctx context.Context, batch []Draft) (first, last string, err error) {
	p := hub.Publication{Grant: access.Everything, Kind: hub.Batch, Program: true, Batch: make([]hub.Draft, len(batch))}
	for i, d := range batch {
		kind, data, err := encode(d.Msg)
		if err != nil {
			return "", "", fmt.Errorf("watchbox: publish a batch: message %d: %w", i+1, err)
		}
		p.Batch[i] = hub.Draft{Group: d.Group, Event: d.Event, Kind: kind, Data: data, Meta: d.Meta, TTL: d.TTL, Retain: d.Retain}
	}
	r, err := h.core.PublishBatch(ctx, &p)
	if err != nil {
		return "", "", fmt.Errorf("watchbox: publish a batch: %w", err)
	}
	return r.First.String(), r.ID.String(), nil
}

// Retained returns the retained messages of the groups that a filter matches, oldest first. They do
// not depend on history. It reads them while the loop runs, so there may be many. An error ends the loop.
func (h *Hub) Retained(ctx context.Context, filter string) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		f, err := group.ParseFilter(filter)
		if err == nil {
			err = h.core.Readable(f)
		}
		if err == nil {
			_, err = h.core.Retained(ctx, &hub.Retained{Filters: group.Set{f}}, func(frame *store.Frame) error {
				m, err := h.message(frame)
				if err == nil && !yield(m, nil) {
					err = errEnough
				}
				return err
			})
		}
		if err != nil && err != errEnough {
			yield(Message{}, fmt.Errorf("watchbox: retained messages of %q: %w", filter, err))
		}
	}
}

// errEnough ends the read when the body of the loop has left it.
var errEnough = errors.New("watchbox: the loop was left")

// message returns the message of a frame. A text that was sent as JSON becomes plain text.
func (h *Hub) message(f *store.Frame) (Message, error) {
	var in struct {
		ID, Group, UID, Event, Encoding string
		Time                            time.Time
		Msg                             json.RawMessage
	}
	if err := json.Unmarshal(f.Data(), &in); err != nil {
		return Message{}, err
	}
	m := Message{ID: in.ID, Group: in.Group, UID: in.UID, Event: in.Event, Meta: f.Meta(), Time: in.Time, Data: in.Msg, json: in.Msg[0] != '"', hub: h}
	if m.json {
		return m, nil
	}
	text := store.Unquote(nil, in.Msg)
	if in.Encoding == "" {
		m.Data = text
		return m, nil
	}
	var err error
	m.Data, err = base64.StdEncoding.DecodeString(string(text))
	return m, err
}
