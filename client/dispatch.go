package client

import "context"

// call is a pending call of a callback. One of its fields is set.
type call struct {
	message    *Message
	to         []*Subscription // the subscriptions that get the message
	direct     *Message
	gap        *Gap
	disconnect error
	reconnect  bool
	state      *State
}

// dispatch is the goroutine that calls the callbacks. It ends when the client is closed.
func (c *Client) dispatch() {
	for {
		calls := c.calls.take(context.Background())
		if len(calls) == 0 {
			return
		}
		for i := range calls {
			if calls[i].state == nil && c.calls.dropped() {
				continue // the client has been closed
			}
			c.make(&calls[i])
		}
	}
}

func (c *Client) make(t *call) {
	switch {
	case t.message != nil:
		for _, sub := range t.to {
			c.mu.Lock()
			left := sub.left
			c.mu.Unlock()
			if !left {
				sub.f(*t.message)
			}
		}
	case t.direct != nil:
		invoke(c.onDirect, *t.direct)
	case t.gap != nil:
		invoke(c.onGap, *t.gap)
	case t.disconnect != nil:
		invoke(c.onDisconnect, t.disconnect)
	case t.reconnect:
		if c.onReconnect != nil {
			c.onReconnect()
		}
	case t.state != nil:
		invoke(c.onState, *t.state)
	}
}

func invoke[T any](f func(T), v T) {
	if f != nil {
		f(v)
	}
}
