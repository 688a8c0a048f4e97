package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/sse"
)

// errLeft ends a stream when nothing is joined any more.
var errLeft = errors.New("watchbox: nothing is joined")

// stream is the event stream that all joins share. Its goroutine runs sse.Client and turns events into calls of
// callbacks, in order.
type stream struct {
	client   *Client
	sse      sse.Client
	ctx      context.Context
	end      context.CancelCauseFunc
	previous *stream       // the previous stream; its calls are queued first
	done     chan struct{} // closed when the goroutine has ended

	// Used by its goroutine only.
	requested []string // the filters of the attempt
	wasOpen   bool     // it has been open once
	open      bool
	renewed   bool               // a new token was requested after a 401
	renewal   context.CancelFunc // ends the renewing of the open stream's token
	epoch     string
	seq       uint64 // of the newest message delivered

	// The client's mutex guards these.
	attempt int
	failed  error // final error: the stream could not be opened
}

// newStream returns a stream that is not running yet. The mutex is held.
func newStream(c *Client) *stream {
	s := &stream{client: c, previous: c.last, done: make(chan struct{})}
	c.last = s
	s.ctx, s.end = context.WithCancelCause(c.lifetime)
	s.sse = sse.Client{
		URL: c.base + "/v1/events", HTTPClient: c.http, MaxBackoff: c.maxDelay,
		AnswerTimeout: c.answer, FirstEventTimeout: c.answer, Final: s.final,
		BeforeAttempt: s.beforeAttempt, OnEvent: s.onEvent, OnDisconnect: s.onDisconnect,
		OnError: func(err error) { c.logger.Warn("stream error", "error", err) },
	}
	return s
}

// run is the stream's goroutine.
func (s *stream) run() {
	defer close(s.done)
	defer s.end(nil)
	if s.client.heartbeat > 0 {
		s.client.wg.Go(func() { s.client.sendHeartbeats(s) })
	}
	if s.previous != nil {
		<-s.previous.done
		s.previous = nil
	}
	for {
		err := s.sse.Run(s.ctx)
		switch status, refused := errors.AsType[*sse.StatusError](err); {
		case s.ctx.Err() != nil:
			return
		case refused && status.Code == http.StatusUnauthorized && s.client.token != nil && !s.renewed:
			s.renewed = true
		default:
			s.client.onFinalError(s, streamError(err))
			return
		}
	}
}

// final reports whether a failed attempt is the last one.
func (s *stream) final(err error) bool {
	if status, refused := errors.AsType[*sse.StatusError](err); refused {
		return status.Final() && s.client.final(refusal(status.Code, status.Header, status.Body))
	}
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return errors.Is(err, sse.ErrRequest) || errors.Is(err, sse.ErrMediaType) && !s.client.answered
}

// onFinalError handles the final error of a stream. It closes the client if the stream was open once or
// if the hub refuses the client as a whole. Any other error is returned by the Join that opened the stream.
func (c *Client) onFinalError(s *stream, err error) {
	e, refused := errors.AsType[*Error](err)
	if refused && e.Code == sessionEnded {
		c.fail(ended("kicked"))
		return
	}
	if s.wasOpen || refused && (e.Status == http.StatusNoContent || e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden) {
		c.fail(err)
		return
	}
	c.mu.Lock()
	s.failed = err
	if c.stream == s {
		c.stream = nil
		c.setState(StateIdle)
	}
	c.signal()
	c.mu.Unlock()
}

// beforeAttempt sets the filters of an attempt to the currently joined ones.
func (s *stream) beforeAttempt(r *http.Request) error {
	c := s.client
	c.mu.Lock()
	s.attempt++
	s.requested = c.filters()
	if c.stream == s {
		c.setState(StateConnecting)
	}
	c.mu.Unlock()
	q := url.Values{"group": s.requested}
	if c.heartbeat > 0 {
		q.Set("heartbeat", c.heartbeat.String())
	}
	r.URL.RawQuery = q.Encode()
	return c.authorize(r)
}

// onDisconnect handles each failed attempt and each loss of the open stream.
func (s *stream) onDisconnect(err error, wait time.Duration) {
	c := s.client
	c.logger.Debug("stream lost or not opened", "error", err, "wait", wait)
	if s.renewal != nil {
		s.renewal()
		s.renewal = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.open && c.state != StateClosed { // otherwise it was told why the client is closed
		c.calls.put(call{disconnect: streamError(err)})
	}
	s.open = false
	if c.stream == s {
		c.setState(StateWaiting)
	}
}

func (s *stream) onEvent(ev sse.Event) {
	switch ev.Type {
	case "session":
		s.onSession(ev)
	case "gap":
		s.onGap(ev)
	case "bye":
		s.onBye(ev)
	default:
		s.onMessage(ev)
	}
}

// onSession handles the session event: the stream is open.
func (s *stream) onSession(ev sse.Event) {
	var hello struct {
		Heartbeat string
		ExpiresIn int64 `json:"expires_in"`
	}
	if err := json.Unmarshal(ev.Data, &hello); err != nil {
		s.client.logger.Warn("stream error", "error", err)
	}
	if every, err := time.ParseDuration(hello.Heartbeat); err == nil && every > 0 {
		s.sse.IdleTimeout = 2*every + time.Second // one heartbeat may be late
	}
	c := s.client
	again := s.wasOpen
	s.wasOpen, s.open, s.renewed = true, true, false
	c.mu.Lock()
	c.answered, c.hasSession = true, true
	var leftover []string
	for _, f := range s.requested {
		if m := c.joined[f]; m != nil {
			m.live = true
		} else {
			leftover = append(leftover, f)
		}
	}
	if again {
		c.calls.put(call{reconnect: true})
	}
	if c.stream == s {
		c.setState(StateOpen)
	}
	will := c.will != nil
	c.mu.Unlock()
	if c.token != nil && hello.ExpiresIn > 0 {
		var ctx context.Context
		ctx, s.renewal = context.WithCancel(s.ctx)
		c.wg.Go(func() { c.renew(ctx, time.Duration(hello.ExpiresIn)*time.Second) })
	}
	if len(leftover) > 0 || will {
		c.wg.Go(func() { c.settle(s.ctx, leftover, will) })
	}
}

// settle removes filters that were left while the stream was opening, and sends the will again, because a
// restarted hub may have lost it.
func (c *Client) settle(ctx context.Context, leftover []string, will bool) {
	for _, f := range leftover {
		if err := c.leaveFilter(ctx, f); err != nil {
			c.logger.Debug("cannot remove a filter from the stream", "filter", f, "error", err)
		}
	}
	if will {
		if err := c.sendWill(ctx); err != nil && ctx.Err() == nil {
			c.logger.Warn("cannot set the will", "error", err)
		}
	}
}

func (s *stream) onGap(ev sse.Event) {
	var g Gap
	if err := json.Unmarshal(ev.Data, &g); err != nil {
		s.client.logger.Warn("stream error", "error", err)
		return
	}
	if g.Reason == "epoch" {
		s.epoch = ""
	}
	s.client.calls.push(call{gap: &g}, len(ev.Data))
}

// onBye handles the hub's last event. The client is closed only if the session was kicked or ended.
func (s *stream) onBye(ev sse.Event) {
	var bye struct{ Reason string }
	_ = json.Unmarshal(ev.Data, &bye) // an unreadable reason counts as none
	s.client.logger.Debug("the hub ended the stream", "reason", bye.Reason)
	if bye.Reason == "kicked" || bye.Reason == "ended" {
		s.client.fail(ended(bye.Reason))
	}
}

func (s *stream) onMessage(ev sse.Event) {
	c := s.client
	w, m, err := parseMessage(ev.Data)
	var epoch string
	var seq uint64
	if err == nil {
		epoch, seq, err = parseID(m.ID)
	}
	if err != nil {
		c.logger.Warn("cannot read a message", "error", err, "data", string(ev.Data))
		return
	}
	if !m.Retained {
		if epoch == s.epoch && seq <= s.seq {
			return // delivered before
		}
		s.epoch, s.seq = epoch, seq
	}
	if strings.HasPrefix(m.Group, "$session/") {
		c.calls.push(call{direct: &m}, len(ev.Data))
		return
	}
	c.mu.Lock()
	var to []*Subscription
	for _, sub := range c.subs {
		if !matches(sub.filter, m.Group) {
			continue
		}
		if w.Retain || w.Retained { // a retained message, published now or sent because of a join
			if m.Retained && sub.values[m.Group] >= seq {
				continue
			}
			sub.values[m.Group] = seq
		}
		to = append(to, sub)
	}
	c.mu.Unlock()
	if len(to) > 0 {
		c.calls.push(call{message: &m, to: to}, len(ev.Data))
	}
}

// parseID splits an id of the form epoch-seq.
func parseID(id string) (epoch string, seq uint64, err error) {
	epoch, digits, _ := strings.Cut(id, "-")
	if seq, err = strconv.ParseUint(digits, 10, 64); err != nil {
		return "", 0, fmt.Errorf("%q is not an id", id)
	}
	return epoch, seq, nil
}
