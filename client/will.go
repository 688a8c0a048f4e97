package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// SetWill sets a message that the hub publishes if this session ends without Close: when the session is gone or
// delay after it was lost, if that is earlier. The value is sent in the same way as by Publish. The options Event, Meta, TTL
// and Retain apply. The will replaces an earlier one and is set again each time the stream is resumed. If no stream
// is open, it is set with the next one.
func (c *Client) SetWill(ctx context.Context, group string, v any, delay time.Duration, opts ...PublishOption) error {
	r := &request{query: url.Values{}}
	for _, o := range opts {
		o(r)
	}
	w, err := newWireDraft(group, v, r)
	if err != nil {
		return err
	}
	if delay > 0 {
		w.Delay = delay.String()
	}
	c.mu.Lock()
	c.will = w
	open := c.state == StateOpen
	c.mu.Unlock()
	if !open {
		return nil
	}
	return c.sendWill(ctx)
}

// ClearWill removes the will.
func (c *Client) ClearWill(ctx context.Context) error {
	c.mu.Lock()
	c.will = nil
	hasSession := c.hasSession
	c.mu.Unlock()
	if !hasSession {
		return nil
	}
	return c.sendWill(ctx)
}

// sendWill sends the current will to the hub, one call at a time, so that an older will cannot replace a newer
// one.
func (c *Client) sendWill(ctx context.Context) error {
	done, err := c.acquire(ctx, c.willLock)
	if err != nil {
		return err
	}
	defer done()
	c.mu.Lock()
	w := c.will
	c.mu.Unlock()
	if w == nil {
		return c.callOwn(ctx, &request{method: http.MethodDelete, path: c.sessionPath("/will")})
	}
	body, err := toJSON(w)
	if err == nil {
		err = c.callOwn(ctx, &request{
			method: http.MethodPut, path: c.sessionPath("/will"), mediaType: "application/json", body: body,
		})
	}
	return err
}
