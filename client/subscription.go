package client

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
)

// Subscription is a join that holds until Leave.
type Subscription struct {
	client *Client
	filter string
	f      func(Message)

	// The client's mutex guards these.
	left   bool
	values map[string]uint64 // seqs of the groups' values that it has heard of: once is enough
}

// Filter returns what is listened to.
func (s *Subscription) Filter() string { return s.filter }

// membership is a filter that is joined, by one Subscription or several.
type membership struct {
	subs int
	live bool // the hub has it on our stream, or will when the stream is resumed
}

// Join has f called with the messages of a group, or of all that a filter matches, and returns when
// they come: the first Join opens the stream, later ones are added to it. Values that groups retain
// come first. It waits for a hub that cannot be reached,
// until ctx ends; a refusal is an *Error, and leaves other joins as they were.
func (c *Client) Join(ctx context.Context, filter string, f func(Message)) (*Subscription, error) {
	switch {
	case filter == "":
		return nil, errors.New("watchbox: the filter is empty; # is all groups")
	case f == nil:
		return nil, errors.New("watchbox: nobody would hear of the messages: the function is nil")
	}
	done, err := c.alone(ctx, c.joining)
	if err != nil {
		return nil, err
	}
	defer done()
	c.calls.relax(1) // a callback that joins would wait for a stream that waits for it
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

// Leave ends the join: f is not called any more. With the last one the stream is closed. The error
// says that the hub could not be told: it may go on sending what nobody hears, until the stream is
// resumed.
func (s *Subscription) Leave(ctx context.Context) error {
	c := s.client
	if !c.remove(s) {
		return nil // there is another for the filter, or no stream
	}
	done, err := c.alone(ctx, c.joining)
	if err != nil {
		return err
	}
	defer done()
	c.mu.Lock()
	needed := c.joined[s.filter] != nil
	c.mu.Unlock()
	if needed {
		return nil // it was joined again
	}
	return c.part(ctx, s.filter)
}

// part tells the hub to take a filter off the stream.
func (c *Client) part(ctx context.Context, filter string) error {
	_, err := c.call(ctx, &request{method: http.MethodDelete, path: c.sessionPath("/groups/" + escape(filter))})
	if e, ok := errors.AsType[*Error](err); ok && (e.Status == http.StatusNotFound || e.Status == http.StatusConflict) {
		return nil // the hub does not have it, or has no stream: it will be resumed without
	}
	return err
}

// alone waits until nobody else does what the channel stands for: the hub makes changes in the order
// in which they reach it.
func (c *Client) alone(ctx context.Context, turn chan struct{}) (done func(), err error) {
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-c.life.Done():
		return nil, context.Cause(c.life)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// add makes the join known, so that it misses nothing from when the hub has it, and opens a stream
// where there is none. It reports whether the filter is joined already.
func (c *Client) add(sub *Subscription) (s *stream, again bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := context.Cause(c.life); err != nil {
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
		c.become(StateConnecting)
		c.wg.Go(c.stream.run)
	}
	return c.stream, again, nil
}

// remove takes a join away, and reports whether the hub has to take its filter off the stream.
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
		c.become(StateIdle)
	}
	return c.state == StateOpen && m.live
}

// establish returns when the stream brings what the filter matches. Where it does already, the hub
// is asked again for what is retained.
func (c *Client) establish(ctx context.Context, s *stream, filter string, again bool) error {
	for failures := 0; ; failures++ {
		live, attempt, err := c.opened(ctx, s, filter, again)
		if err != nil || live && !again {
			return err
		}
		_, err = c.call(ctx, &request{method: http.MethodPut, path: c.sessionPath("/groups/" + escape(filter))})
		e, refused := errors.AsType[*Error](err)
		switch {
		case err == nil:
			again = false
			c.mu.Lock()
			m := c.joined[filter]
			if m != nil && s.attempt == attempt { // else the stream that got it is lost, and was resumed without
				m.live = true
			}
			c.mu.Unlock()
		case refused && (e.Status == http.StatusConflict || e.Status == http.StatusNotFound):
			// The hub has no stream of ours: it is lost, though we have not heard of it yet.
			if err := c.pause(ctx, err, c.delay(failures)); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// opened waits for the stream to be open, and returns which of its attempts that is and whether it
// has the filter; if it has, that is enough, unless something is to be asked of it.
func (c *Client) opened(ctx context.Context, s *stream, filter string, ask bool) (live bool, attempt int, err error) {
	err = c.await(ctx, func() (bool, error) {
		m := c.joined[filter]
		live, attempt = m != nil && m.live, s.attempt
		return live && !ask || c.state == StateOpen && c.stream == s, s.failed
	})
	return live, attempt, err
}

// filters returns what the stream is to be asked for: what it had, or else what is new.
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
