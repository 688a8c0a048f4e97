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
	// maxSending is the number of concurrent requests with messages to groups. Further messages wait and are
	// sent together.
	maxSending = 4

	// gatherMessages and gatherBytes bound the request with the waiting messages.
	gatherMessages = 256
	gatherBytes    = 256 << 10

	// maxGathered is the largest message, in bytes, that waits for others. A larger one is sent at once,
	// because it would delay the others on a slow network.
	maxGathered = 16 << 10

	// noBatchFor is how long messages are sent separately after a proxy has refused a batch.
	noBatchFor = time.Minute
)

// post is a message to a group from one call of Publish.
type post struct {
	ctx   context.Context // of the call
	group string
	req   *request     // sends it alone
	done  chan outcome // buffered: 1
}

type outcome struct {
	id    string
	err   error
	alone bool // the caller has to send the message itself
}

// gathered reports whether the message may be sent with others. A message with its caller's key must be sent
// alone, because the hub looks it up by that key. So must an empty message, because a batch cannot represent it
// exactly.
func (p *post) gathered() bool {
	return !p.req.ownKey && len(p.req.body) > 0 && len(p.req.body) <= maxGathered
}

// send sends the message at once, or together with others when several requests are under way.
func (c *Client) send(p *post) (id string, err error) {
	if !p.gathered() {
		return c.sendAlone(p)
	}
	c.mu.Lock()
	if time.Now().Before(c.noBatchUntil) {
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
	case <-c.lifetime.Done():
		return "", context.Cause(c.lifetime)
	}
}

// withdraw removes a message that still waits. Otherwise, while the hub is down, messages of callers that have given up
// would accumulate.
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

// handOver is called after a caller's own request. If messages wait, it starts a goroutine that sends them.
func (c *Client) handOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.posts) == 0 || c.lifetime.Err() != nil {
		c.sending--
		return
	}
	c.wg.Go(func() {
		for batch := c.takePosts(); len(batch) > 0; batch = c.takePosts() {
			c.sendBatch(batch)
		}
	})
}

// takePosts returns the messages for the next request. If there are none, it decrements the number of
// requests under way.
func (c *Client) takePosts() []*post {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(c.posts), gatherMessages) && bytes < gatherBytes {
		bytes += len(c.posts[n].req.body)
		n++
	}
	if n == 0 || c.lifetime.Err() != nil {
		c.sending--
		return nil
	}
	batch := slices.Clone(c.posts[:n])
	c.posts = slices.Delete(c.posts, 0, n)
	return batch
}

// sendBatch sends messages in one request. If the hub refuses a message, it appends none of the batch. The batch is then
// sent in two halves, so that only the refused messages fail. The same applies if a proxy refuses the request as too
// large. If a proxy refuses batches, the messages are sent separately, unless the hub may have appended them already.
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

// noBatches reports whether a refusal shows that batches do not reach the hub although single messages may: a proxy
// blocks the path or the media type, or the hub is too old to have the path.
func (e *Error) noBatches() bool {
	switch e.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return e.Code == "" && e.Status/100 == 4 && !e.temporary() && e.Status != http.StatusRequestEntityTooLarge
}

// stopGathering makes the callers of a batch and of all waiting messages send their messages separately. The same applies
// to later callers for noBatchFor.
func (c *Client) stopGathering(batch []*post) {
	c.mu.Lock()
	c.noBatchUntil = time.Now().Add(noBatchFor)
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
		line, _ := json.Marshal(p.line()) // its parts are valid JSON
		body = append(append(body, line...), '\n')
	}
	return body
}

// sendTogether makes the request with the messages and returns their ids. It gives up when all callers have given up.
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
		return nil, fmt.Errorf("watchbox: the hub answered %d messages with the ids %q to %q", len(batch), got.First, got.ID)
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
