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
)

// ndjson is the media type of a batch.
const ndjson = "application/x-ndjson"

// PublishOption sets one property of what is sent.
type PublishOption func(*request)

// Event names the event as which the message is sent.
func Event(name string) PublishOption {
	return func(r *request) { r.query.Set("event", name) }
}

// TTL has the message be forgotten after d, a millisecond or more.
func TTL(d time.Duration) PublishOption {
	return func(r *request) { r.query.Set("ttl", d.String()) }
}

// Retain keeps the message as the group's value, for whoever joins later. An empty one, "" or an
// empty []byte, clears it.
func Retain() PublishOption {
	return func(r *request) { r.query.Set("retain", "true") }
}

// IdempotencyKey has what is sent be appended once, however often it is sent under the key, 1 to
// 128 visible ASCII characters: by a program that was started anew with the same secret, say.
// Without it, each call has a key of its own.
func IdempotencyKey(key string) PublishOption {
	return func(r *request) { r.key = key }
}

// Publish sends to a group: a string as text, a []byte as bytes, anything else as its JSON. It
// tries until it is certain that the hub has the message, once, and returns its id; or until the
// hub refuses it, with an *Error; or until ctx ends: then it may have it or not. It needs no
// stream.
//
// Calls that run at once are sent together when several wait. Each still has its own id or error.
//
// A hub that is started anew without a store on disk has forgotten what it has, and which keys
// it knew.
func (c *Client) Publish(ctx context.Context, group string, v any, opts ...PublishOption) (id string, err error) {
	r, err := encode("/v1/groups/"+escape(group), v, opts)
	if err != nil {
		return "", err
	}
	return c.send(&post{ctx: ctx, group: group, req: r})
}

// SendTo sends to one session, as Publish does to a group. Its OnDirect gets it.
func (c *Client) SendTo(ctx context.Context, uid string, v any, opts ...PublishOption) (id string, err error) {
	return c.post(ctx, "/v1/sessions/"+url.PathEscape(uid), v, opts)
}

// Send sends to the program that hosts the hub, and to nobody else. It returns when the program has
// it, or waits its turn there; and an *Error with the code nobody-listens where no program does. The
// message is in no log: its id is the key under which it was sent.
func (c *Client) Send(ctx context.Context, v any, opts ...PublishOption) (id string, err error) {
	r, err := encode("/v1/server", v, opts)
	if err == nil {
		_, err = c.call(ctx, r)
	}
	if err != nil {
		return "", err
	}
	return r.key, nil
}

// PublishBatch publishes messages to several groups: next to each other in the log, all of them or
// none. It returns the ids of the first and the last. It tries as Publish does, under one key; of the
// options only IdempotencyKey applies.
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
	answer, err := c.receipt(ctx, newPost("/v1/messages", ndjson, body, opts))
	return answer.First, answer.ID, err
}

func (c *Client) post(ctx context.Context, path string, v any, opts []PublishOption) (id string, err error) {
	r, err := encode(path, v, opts)
	if err != nil {
		return "", err
	}
	answer, err := c.receipt(ctx, r)
	return answer.ID, err
}

// receipt is what the hub says of what it has appended.
type receipt struct{ ID, First string }

func (c *Client) receipt(ctx context.Context, r *request) (got receipt, err error) {
	answer, err := c.call(ctx, r)
	if err != nil {
		return got, err
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return got, fmt.Errorf("watchbox: the hub's answer: %w", err)
	}
	return got, nil
}

// encode returns the request that sends v.
func encode(path string, v any, opts []PublishOption) (*request, error) {
	switch v := v.(type) {
	case string:
		return newPost(path, "text/plain; charset=utf-8", []byte(v), opts), nil
	case []byte:
		return newPost(path, "application/octet-stream", v, opts), nil
	}
	body, err := toJSON(v)
	return newPost(path, "application/json", body, opts), err
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

// toJSON returns v as JSON. Bytes would become base64 that nobody takes for bytes again.
func toJSON(v any) ([]byte, error) {
	if _, ok := v.([]byte); ok {
		return nil, errors.New("watchbox: a []byte is no JSON value; a json.RawMessage is")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("watchbox: %w", err)
	}
	return b, nil
}
