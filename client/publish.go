package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/watchbox-go/watchbox/internal/remote"
)

// ndjson is the media type of a batch.
const ndjson = "application/x-ndjson"

// PublishOption sets one property of a message.
type PublishOption func(*request)

// Event sets the event name of the message.
func Event(name string) PublishOption {
	return func(r *request) { r.query.Set("event", name) }
}

// TTL makes the message expire after d, which is a millisecond or more.
func TTL(d time.Duration) PublishOption {
	return func(r *request) { r.query.Set("ttl", d.String()) }
}

// Retain keeps the message as the group's retained message, for clients that join later. An empty message,
// "" or an empty []byte, clears it.
func Retain() PublishOption {
	return func(r *request) { r.query.Set("retain", "true") }
}

// IdempotencyKey sets a key of 1 to 128 visible ASCII characters. A message that is sent several times under the same
// key and secret is appended once, for example after a restart of the program. By default each call has a key of its
// own.
func IdempotencyKey(key string) PublishOption {
	return func(r *request) { r.key = key }
}

// Publish sends a message to a group: a string as text, a []byte as bytes, anything else as its JSON.
// It retries until the hub has appended the message, which happens once, and returns its id. If the hub refuses the
// message, the error is an *Error. If ctx ends, the hub may or may not have appended it. Publish needs no stream.
//
// Messages of concurrent calls may be sent in one request. Each call still returns its own id or error.
//
// A hub without a store on disk loses its messages and keys in a restart.
func (c *Client) Publish(ctx context.Context, group string, v any, opts ...PublishOption) (id string, err error) {
	r, err := encode("/v1/groups/"+escape(group), v, opts)
	if err != nil {
		return "", err
	}
	return c.send(&post{ctx: ctx, group: group, req: r})
}

// SendTo sends a message to one session, as Publish does to a group. The session's OnDirect gets the message.
func (c *Client) SendTo(ctx context.Context, uid string, v any, opts ...PublishOption) (id string, err error) {
	return c.post(ctx, "/v1/sessions/"+url.PathEscape(uid), v, opts)
}

// Send sends a message only to the program that embeds the hub. It returns when the message is queued for the program's
// OnMessage. Without an OnMessage, the error is an *Error with the code nobody-listens. The message is not stored; its id
// is its idempotency key.
func (c *Client) Send(ctx context.Context, v any, opts ...PublishOption) (id string, err error) {
	r, err := encode("/v1/server", v, opts)
	if err == nil {
		err = c.call(ctx, r)
	}
	if err != nil {
		return "", err
	}
	return r.key, nil
}

// PublishBatch publishes messages to several groups. They are adjacent in the log, and either all or
// none are appended. It returns the ids of the first and the last. It retries as Publish does, under one key. The only
// option that applies is IdempotencyKey.
func (c *Client) PublishBatch(ctx context.Context, batch []Draft, opts ...PublishOption) (first, last string, err error) {
	var body []byte
	for i := range batch {
		d, err := batch[i].wire()
		if err != nil {
			return "", "", fmt.Errorf("watchbox: message %d: %w", i+1, err)
		}
		line, err := toJSON(d)
		if err != nil {
			return "", "", err
		}
		body = append(append(body, line...), '\n')
	}
	got, err := c.receipt(ctx, newPost("/v1/messages", ndjson, body, opts))
	return got.First, got.ID, err
}

func (c *Client) post(ctx context.Context, path string, v any, opts []PublishOption) (id string, err error) {
	r, err := encode(path, v, opts)
	if err != nil {
		return "", err
	}
	got, err := c.receipt(ctx, r)
	return got.ID, err
}

// receipt is the hub's answer to a publish. First is the id of the first message of a batch.
type receipt struct{ ID, First string }

// receipt makes a request that is answered with a receipt. JSON without ids is not from a hub.
func (c *Client) receipt(ctx context.Context, r *request) (got receipt, err error) {
	r.take = func(answer []byte) bool {
		got = receipt{}
		return json.Unmarshal(answer, &got) == nil && got.ID != "" && (got.First != "" || r.mediaType != ndjson)
	}
	if err := c.call(ctx, r); err != nil {
		return receipt{}, err
	}
	return got, nil
}

// encode returns the request that sends v.
func encode(path string, v any, opts []PublishOption) (*request, error) {
	var r *request
	switch v := v.(type) {
	case string:
		r = newPost(path, "text/plain; charset=utf-8", []byte(v), opts)
	case []byte:
		r = newPost(path, "application/octet-stream", v, opts)
	default:
		body, err := toJSON(v)
		if err != nil {
			return nil, err
		}
		r = newPost(path, "application/json", body, opts)
	}
	var err error
	if r.meta, err = remote.MetaInHeaders(r.meta); err != nil {
		return nil, fmt.Errorf("watchbox: %w", err)
	}
	return r, nil
}

func newPost(path, mediaType string, body []byte, opts []PublishOption) *request {
	r := &request{method: http.MethodPost, path: path, query: url.Values{}, mediaType: mediaType, body: body}
	for _, o := range opts {
		o(r)
	}
	r.ownKey = r.key != ""
	r.key = cmp.Or(r.key, rand.Text())
	return r
}

// toJSON returns v as JSON. It refuses a []byte, which would become base64 that no receiver decodes.
func toJSON(v any) ([]byte, error) {
	if _, ok := v.([]byte); ok {
		return nil, errors.New("watchbox: a []byte is not a JSON value; use json.RawMessage")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("watchbox: %w", err)
	}
	return b, nil
}
