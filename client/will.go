package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// will is the session's last will, as the hub wants it.
type will struct {
	Group string          `json:"group"`
	Msg   json.RawMessage `json:"msg"`
	Delay string          `json:"delay,omitempty"`
}

// SetWill has the hub publish a message if this session ends without Close: when it is gone, or so
// long after it was lost, if that is sooner. A string is sent as text, anything else as its JSON. It
// replaces the one that was set before, and is set again whenever the stream is resumed. Where no
// stream is open, it is set with the next.
func (c *Client) SetWill(ctx context.Context, group string, v any, delay time.Duration) error {
	msg, err := toJSON(v)
	if err != nil {
		return err
	}
	w := &will{Group: group, Msg: msg}
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
	return c.tellWill(ctx)
}

// ClearWill takes the will back.
func (c *Client) ClearWill(ctx context.Context) error {
	c.mu.Lock()
	c.will = nil
	known := c.known
	c.mu.Unlock()
	if !known {
		return nil
	}
	return c.tellWill(ctx)
}

// tellWill has the hub know the will as it is now. One call at a time, so that none brings back what
// another has replaced.
func (c *Client) tellWill(ctx context.Context) error {
	done, err := c.alone(ctx, c.willing)
	if err != nil {
		return err
	}
	defer done()
	c.mu.Lock()
	w := c.will
	c.mu.Unlock()
	if w == nil {
		_, err := c.call(ctx, &request{method: http.MethodDelete, path: c.sessionPath("/will")})
		return err
	}
	body, err := toJSON(w)
	if err == nil {
		_, err = c.call(ctx, &request{
			method: http.MethodPut, path: c.sessionPath("/will"), mediaType: "application/json", body: body,
		})
	}
	return err
}
