package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
)

const (
	// maxSending is how many requests with messages to groups are under way at once. Messages that are
	// published meanwhile wait, and are sent together.
	maxSending = 4

	// gatherMessages and gatherBytes bound such a request.
	gatherMessages = 256
	gatherBytes    = 256 << 10

	// maxGathered is the largest message, in bytes, that waits for others. A larger one is sent at once: on a slow
	// network it would hold them up.
	maxGathered = 16 << 10
)

// post is a message to a group from one call of Publish.
type post struct {
	ctx   context.Context // the call's
	group string
	req   *request     // sends it alone
	done  chan outcome // has room for one
}

type outcome struct {
	id  string
	err error
}

// gathered reports whether the message may be sent with others. A message with a key from its caller may not, because the
// hub has to find it by that key. An empty message may not, because a batch has no exact form for it.
func (p *post) gathered() bool {
	return !p.req.ownKey && len(p.req.body) > 0 && len(p.req.body) <= maxGathered
}

// send sends the message at once, or together with others when several requests are under way.
func (c *Client) send(p *post) (id string, err error) {
	if !p.gathered() {
		return c.sendAlone(p)
	}
	c.mu.Lock()
	wait := c.sending == maxSending
	if wait {
		p.done = make(chan outcome, 1)
		c.posts = append(c.posts, p)
	} else {
		c.sending++
	}
	c.mu.Unlock()
	if !wait {
		defer c.handOver()
		return c.sendAlone(p)
	}
	select {
	case o := <-p.done:
		return o.id, o.err
	case <-p.ctx.Done():
		c.withdraw(p)
		return "", context.Cause(p.ctx)
	case <-c.life.Done():
		return "", context.Cause(c.life)
	}
}

// withdraw removes a message that still waits. While the hub is down, messages of callers that have given up must not
// pile up.
func (c *Client) withdraw(p *post) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.posts, p); i >= 0 {
		c.posts = slices.Delete(c.posts, i, i+1)
	}
}

func (c *Client) sendAlone(p *post) (id string, err error) {
	got, err := c.receipt(p.ctx, p.req)
	return got.ID, err
}

// handOver ends a caller's own request. If messages wait, a goroutine takes its place and sends them.
func (c *Client) handOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.posts) == 0 || c.life.Err() != nil {
		c.sending--
		return
	}
	c.wg.Go(func() {
		for batch := c.takePosts(); len(batch) > 0; batch = c.takePosts() {
			c.sendBatch(batch)
		}
	})
}

// takePosts returns the messages for the next request. If there are none, it counts one request less.
func (c *Client) takePosts() []*post {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.posts = slices.DeleteFunc(c.posts, func(p *post) bool { return p.ctx.Err() != nil })
	n, bytes := 0, 0
	for n < min(len(c.posts), gatherMessages) && bytes < gatherBytes {
		bytes += len(c.posts[n].req.body)
		n++
	}
	if n == 0 || c.life.Err() != nil {
		c.sending--
		return nil
	}
	batch := slices.Clone(c.posts[:n])
	c.posts = slices.Delete(c.posts, 0, n)
	return batch
}

// sendBatch sends messages in one request. If that is refused, the hub has appended none of them: each is
// then sent alone, so that only those which are refused fail. A proxy may refuse the request because it is larger than
// it allows.
func (c *Client) sendBatch(batch []*post) {
	outcomes := make([]outcome, len(batch))
	var err error
	alone := len(batch) == 1
	if !alone {
		err = c.sendTogether(batch, outcomes)
		e, refused := errors.AsType[*Error](err)
		alone = refused && e.Status != http.StatusUnauthorized
	}
	for i, p := range batch {
		o := outcomes[i]
		if alone {
			o.id, o.err = c.sendAlone(p)
		} else if err != nil {
			o.err = err
		}
		p.done <- o
	}
}

// sendTogether sends messages in one request, until all the calls have given up, and sets their ids.
func (c *Client) sendTogether(batch []*post, outcomes []outcome) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var left atomic.Int64
	left.Store(int64(len(batch)))
	var body []byte
	for _, p := range batch {
		defer context.AfterFunc(p.ctx, func() {
			if left.Add(-1) == 0 {
				cancel(context.Cause(p.ctx))
			}
		})()
		line, err := json.Marshal(p.line())
		if err != nil {
			return &Error{Detail: err.Error()}
		}
		body = append(append(body, line...), '\n')
	}
	r := newPost("/v1/messages", ndjson, body, nil)
	r.divisible = true
	got, err := c.receipt(ctx, r)
	if err != nil {
		return err
	}
	epoch, first, err := parseID(got.First)
	if err != nil || got.ID != fmt.Sprint(epoch, "-", first+uint64(len(batch))-1) {
		return fmt.Errorf("watchbox: the hub's answer to %d messages: they are %q to %q", len(batch), got.First, got.ID)
	}
	for i := range outcomes {
		outcomes[i].id = fmt.Sprint(epoch, "-", first+uint64(i))
	}
	return nil
}

// line returns the message as a line of a batch.
func (p *post) line() *wireDraft {
	d := &wireDraft{Group: p.group}
	d.set(p.req)
	switch p.req.mediaType {
	case "application/json":
		d.Msg = p.req.body
	case "application/octet-stream":
		d.setBytes(p.req.body)
	default:
		d.setText(string(p.req.body))
	}
	return d
}
