package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
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

	// aloneFor is how long each message is sent in a request of its own after a proxy has refused batches.
	aloneFor = time.Minute
)

// post is a message to a group from one call of Publish.
type post struct {
	ctx   context.Context // the call's
	group string
	req   *request     // sends it alone
	done  chan outcome // has room for one
}

type outcome struct {
	id    string
	err   error
	alone bool // the caller has to send the message itself
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
	if time.Now().Before(c.aloneUntil) {
		c.mu.Unlock()
		return c.sendAlone(p)
	}
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
		if o.alone {
			return c.sendAlone(p)
		}
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

// sendBatch sends messages in one request. If the hub refuses it because of a message, it has appended none: the
// halves are then sent, so that only messages that are refused themselves fail. The same is done if a proxy refuses
// the request because it is too large. If a proxy refuses batches, the messages are sent alone, unless the hub may have
// them already.
func (c *Client) sendBatch(batch []*post) {
	batch = slices.DeleteFunc(batch, func(p *post) bool { return p.ctx.Err() != nil })
	switch len(batch) {
	case 0:
		return
	case 1:
		id, err := c.sendAlone(batch[0])
		batch[0].done <- outcome{id: id, err: err}
		return
	}
	r := newPost("/v1/messages", ndjson, lines(batch), nil)
	r.divisible = true
	ids, err := c.sendTogether(batch, r)
	e, refused := errors.AsType[*Error](err)
	switch {
	case !refused || e.Status < 400 || e.Status == http.StatusUnauthorized:
	case e.noBatches() && !r.lost:
		c.stopGathering(batch)
		return
	case e.Code != "" || e.Status == http.StatusRequestEntityTooLarge:
		half := len(batch) / 2
		c.sendBatch(batch[:half])
		c.sendBatch(batch[half:])
		return
	}
	for i, p := range batch {
		o := outcome{err: err}
		if err == nil {
			o.id = ids[i]
		}
		p.done <- o
	}
}

// noBatches reports whether a refusal shows that batches do not reach the hub, though single messages may: a proxy
// blocks the path or the media type, or the hub is older than the path.
func (e *Error) noBatches() bool {
	switch e.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return e.Code == "" && e.Status/100 == 4 && !e.temporary() && e.Status != http.StatusRequestEntityTooLarge
}

// stopGathering has the callers of a batch, and of all messages that wait, send their messages themselves. So do later
// callers for a while.
func (c *Client) stopGathering(batch []*post) {
	c.mu.Lock()
	c.aloneUntil = time.Now().Add(aloneFor)
	batch = slices.Concat(batch, c.posts)
	c.posts = nil
	c.mu.Unlock()
	for _, p := range batch {
		p.done <- outcome{alone: true}
	}
}

// lines returns messages as the body of a batch.
func lines(batch []*post) (body []byte) {
	for _, p := range batch {
		line, _ := json.Marshal(p.line()) // its parts have JSON
		body = append(append(body, line...), '\n')
	}
	return body
}

// sendTogether makes the request with the messages, until all the calls have given up, and returns their ids.
func (c *Client) sendTogether(batch []*post, r *request) (ids []string, err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var left atomic.Int64
	left.Store(int64(len(batch)))
	for _, p := range batch {
		defer context.AfterFunc(p.ctx, func() {
			if left.Add(-1) == 0 {
				cancel(context.Cause(p.ctx))
			}
		})()
	}
	got, err := c.receipt(ctx, r)
	if err != nil {
		return nil, err
	}
	epoch, first, err := parseID(got.First)
	if err != nil || got.ID != fmt.Sprint(epoch, "-", first+uint64(len(batch))-1) {
		return nil, fmt.Errorf("watchbox: the hub's answer to %d messages: they are %q to %q", len(batch), got.First, got.ID)
	}
	for i := range batch {
		ids = append(ids, fmt.Sprint(epoch, "-", first+uint64(i)))
	}
	return ids, nil
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
