package client

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
)

// Subscription is the result of a Join. It lasts until Leave.
type Subscription struct {
	client *Client
	filter string
	f      func(Message)

	// The client's mutex guards these.
	left   bool
	values map[string]uint64 // by group: seq of the retained message that was delivered, to skip repetitions
}

// Filter returns the filter that was joined.
func (s *Subscription) Filter() string { return s.filter }

// membership is a filter that one or more Subscriptions have joined.
type membership struct {
	subs int
	live bool // the filter is on the stream, or will be when the stream is resumed
}

// Join subscribes to a group, or to all groups that a filter matches, and calls f with each message.
// It returns when the subscription is active. The first Join opens the stream; later ones are added to it. Retained
// messages come first. If the hub cannot be reached, Join waits until ctx ends. A refusal is an *Error
// and does not affect other joins.
func (c *Client) Join(ctx context.Context, filter string, f func(Message)) (*Subscription, error) {
	switch {
	case filter == "":
		return nil, errors.New("watchbox: the filter is empty; # matches all groups")
	case f == nil:
		return nil, errors.New("watchbox: Join needs a function that takes the messages, not nil")
	}
	done, err := c.acquire(ctx, c.joinLock)
	if err != nil {
		return nil, err
	}
	defer done()
	c.calls.relax(1) // otherwise a callback that joins would wait for a stream that waits for the callback
	defer c.calls.relax(-1)
	sub := &Subscription{client: c, filter: filter, f: f, values: map[string]uint64{}}
	s, again, err := c.add(sub)
	if err != nil {
		return nil, err
	}
	if err := c.establish(ctx, s, filter, again); err != nil {
		c.remove(sub)
		return nil, err
	}
	return sub, nil
}

// Leave ends the subscription: its function is not called any more. The last Leave closes the stream. An error means
// that the request to the hub failed. The hub may then send the messages until the stream is resumed.
func (s *Subscription) Leave(ctx context.Context) error {
	c := s.client
	if !c.remove(s) {
		return nil // another join has the filter, or there is no stream
	}
	done, err := c.acquire(ctx, c.joinLock)
	if err != nil {
		return err
	}
	defer done()
	c.mu.Lock()
	needed := c.joined[s.filter] != nil
	c.mu.Unlock()
	if needed {
		return nil // joined again in the meantime
	}
	return c.leaveFilter(ctx, s.filter)
}

// leaveFilter removes a filter from the stream at the hub.
func (c *Client) leaveFilter(ctx context.Context, filter string) error {
	err := c.callOwn(ctx, &request{method: http.MethodDelete, path: c.sessionPath("/groups/" + escape(filter))})
	if e, ok := errors.AsType[*Error](err); ok && (e.Status == http.StatusNotFound || e.Status == http.StatusConflict) {
		return nil // the hub has no such filter or no stream; the stream resumes without the filter
	}
	return err
}

// acquire acquires a semaphore of size one, so that changes reach the hub in their order.
func (c *Client) acquire(ctx context.Context, turn chan struct{}) (done func(), err error) {
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-c.lifetime.Done():
		return nil, context.Cause(c.lifetime)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// add registers a subscription before the request to the hub, so that no message is missed, and opens a stream if
// there is none. It reports whether the filter was joined already.
func (c *Client) add(sub *Subscription) (s *stream, again bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := context.Cause(c.lifetime); err != nil {
		return nil, false, err
	}
	m := c.joined[sub.filter]
	if again = m != nil; !again {
		m = &membership{}
		c.joined[sub.filter] = m
	}
	m.subs++
	c.subs = append(slices.Clip(c.subs), sub)
	if c.stream == nil {
		c.stream = newStream(c)
		c.setState(StateConnecting)
		c.wg.Go(c.stream.run)
	}
	return c.stream, again, nil
}

// remove removes a subscription and reports whether its filter must be removed from the stream.
func (c *Client) remove(sub *Subscription) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sub.left {
		return false
	}
	sub.left = true
	c.subs = slices.DeleteFunc(slices.Clone(c.subs), func(other *Subscription) bool { return other == sub })
	m := c.joined[sub.filter]
	m.subs--
	if m.subs > 0 {
		return false
	}
	delete(c.joined, sub.filter)
	if len(c.joined) == 0 && c.stream != nil {
		c.stream.end(errLeft)
		c.stream = nil
		c.setState(StateIdle)
	}
	return c.state == StateOpen && m.live
}

// establish returns when the filter is on the stream. With again, it was joined already, and the hub sends the
// retained messages again.
func (c *Client) establish(ctx context.Context, s *stream, filter string, again bool) error {
	for failures := 0; ; failures++ {
		live, attempt, err := c.opened(ctx, s, filter, again)
		if err != nil || live && !again {
			return err
		}
		err = c.call(ctx, &request{method: http.MethodPut, path: c.sessionPath("/groups/" + escape(filter))})
		e, refused := errors.AsType[*Error](err)
		switch {
		case err == nil:
			again = false
			c.mu.Lock()
			m := c.joined[filter]
			if m != nil && s.attempt == attempt { // otherwise the stream that got the filter was lost and resumed without it
				m.live = true
			}
			c.mu.Unlock()
		case refused && (e.Status == http.StatusConflict || e.Status == http.StatusNotFound):
			// The hub has no stream of this session: it is lost, and the client has not noticed yet.
			if err := c.pause(ctx, err, c.delay(failures)); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// opened waits until the stream is open or, unless ask is set, has the filter. It returns whether the stream has the
// filter, and the number of the attempt.
func (c *Client) opened(ctx context.Context, s *stream, filter string, ask bool) (live bool, attempt int, err error) {
	err = c.await(ctx, func() (bool, error) {
		m := c.joined[filter]
		live, attempt = m != nil && m.live, s.attempt
		return live && !ask || c.state == StateOpen && c.stream == s, s.failed
	})
	return live, attempt, err
}

// filters returns the filters for an attempt: those of the lost stream, or all if it had none.
func (c *Client) filters() []string {
	var live []string
	for f, m := range c.joined {
		if m.live {
			live = append(live, f)
		}
	}
	if len(live) == 0 {
		live = slices.Collect(maps.Keys(c.joined))
	}
	slices.Sort(live)
	return live
}
