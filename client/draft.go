package client

import (
	"encoding/json"
	"net/url"
	"time"
	"unicode/utf8"
)

// Draft is a message to publish.
type Draft struct {
	Group string
	Msg   any           // a string as text, a []byte as bytes, anything else as its JSON
	Event string        // the SSE event name; "" for none
	Meta  [][2]string   // names and values to send with the message
	TTL   time.Duration // the message expires after it; 0 for never

	// Retain makes this the group's retained message. An empty message clears it.
	Retain bool
}

// wireDraft is the JSON of a message to the hub: a line of a batch, or a will.
type wireDraft struct {
	Group    string          `json:"group"`
	Msg      json.RawMessage `json:"msg"`
	Encoding string          `json:"encoding,omitempty"`
	Event    *string         `json:"event,omitempty"`
	Meta     [][2]string     `json:"meta,omitempty"`
	TTL      string          `json:"ttl,omitempty"`
	Retain   bool            `json:"retain,omitempty"`
	Delay    string          `json:"delay,omitempty"` // of a will
}

// wire returns the draft as a line of a batch.
func (d *Draft) wire() (*wireDraft, error) {
	r := &request{query: url.Values{}, meta: d.Meta}
	if d.Event != "" {
		Event(d.Event)(r)
	}
	if d.TTL != 0 {
		TTL(d.TTL)(r)
	}
	if d.Retain {
		Retain()(r)
	}
	return newWireDraft(d.Group, d.Msg, r)
}

// newWireDraft returns a message with the options that are set in a request.
func newWireDraft(group string, v any, r *request) (*wireDraft, error) {
	d := &wireDraft{Group: group}
	d.set(r)
	switch v := v.(type) {
	case string:
		d.setText(v)
	case []byte:
		d.setBytes(v)
	default:
		var err error
		d.Msg, err = toJSON(v)
		return d, err
	}
	return d, nil
}

// set copies the options that are set in a request.
func (d *wireDraft) set(r *request) {
	if r.query.Has("event") {
		name := r.query.Get("event")
		d.Event = &name
	}
	d.Meta = r.meta
	d.TTL = r.query.Get("ttl")
	d.Retain = r.query.Get("retain") == "true"
}

// setText sets text. Text that is not valid UTF-8 is sent as base64, because JSON cannot contain it.
func (d *wireDraft) setText(s string) {
	if !utf8.ValidString(s) {
		d.setBytes([]byte(s))
		return
	}
	d.Msg, _ = json.Marshal(s) // cannot fail for a string
}

func (d *wireDraft) setBytes(b []byte) {
	d.Msg, _ = json.Marshal(append([]byte{}, b...)) // base64; never null
	d.Encoding = "base64"
}
