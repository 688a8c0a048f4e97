package sse

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/duration"
)

// Client reads the event stream of any server. When the connection is lost it connects again and
// resumes, until a response is final:
//
//	c := &sse.Client{URL: "http://127.0.0.1:1234/v1/groups/foo"}
//	c.OnEvent = func(ev sse.Event) { fmt.Println(ev.ID, string(ev.Data)) }
//	err := c.Run(ctx)
//
// Only URL is required. The goroutine that calls Run calls all functions, one at a time and in the
// order of the stream. They may block: the server then has to wait. They may change the fields. A change
// applies to the next attempt; a change of IdleTimeout applies at once. To stop, they cancel Run's context.
// No other goroutine may use the fields while Run runs.
//
// github.com/r3labs/sse/v2 makes the connections; a Reader normalises what it reads.
type Client struct {
	// URL is the address of the stream, http or https.
	URL string

	// Method is the method of the request; "" is GET.
	Method string

	// Header is added to the request. It overrides Accept, Cache-Control and Last-Event-ID.
	Header http.Header

	// Body is sent with each attempt.
	Body []byte

	// BeforeAttempt may change each request, for example to add a fresh token. If it returns an error,
	// the attempt has failed, and another follows.
	BeforeAttempt func(*http.Request) error

	// HTTPClient makes the requests; nil is http.DefaultClient. Its Timeout is not applied, because a stream
	// does not end. It follows redirects as it does for any request, but a redirect to another host gets
	// none of the headers that Header and BeforeAttempt have set, since they may be secrets. Content-Type,
	// Last-Event-ID and the like are sent.
	HTTPClient *http.Client

	// LastEventID is the id to resume after. Each complete block of the stream sets it, after OnEvent has
	// returned, so that another Run resumes where the last one ended.
	LastEventID string

	// Retry is the shortest wait before the next attempt; 0 is a second. The server's retry: field
	// changes it, up to a day.
	Retry time.Duration

	// MaxBackoff bounds the random time that is added to Retry and that doubles with each failure in a
	// row; 0 is 30 seconds.
	MaxBackoff time.Duration

	// AnswerTimeout is how long an attempt may take until the response header is received. 0 is a minute.
	// Below 0 is no limit, for a server that sends the header only with its first event.
	AnswerTimeout time.Duration

	// FirstEventTimeout is how long an attempt may take until the first event is received. Comments and
	// ids do not count. 0 is no limit. It is for servers that begin each stream with an event, as a
	// Watchbox hub does.
	FirstEventTimeout time.Duration

	// IdleTimeout ends a connection on which no byte, not even of a comment, is received for this long. It
	// also applies while the Client waits for the response header. 0 is no timeout, because a server may
	// send nothing for any time, and events without ids that are sent while a Client reconnects are lost.
	IdleTimeout time.Duration

	// MaxEventSize is as in Reader. A larger event is skipped, and OnError is called.
	MaxEventSize int

	// Final reports whether Run returns the error of an attempt instead of trying again. If it is nil,
	// the rules described at Run apply.
	Final func(error) bool

	// OnOpen is called with the header of each response that is a stream.
	OnOpen func(http.Header)

	// OnEvent is called with each event.
	OnEvent func(Event)

	// OnComment is called with the text of each comment, after the colon. Servers send them as heartbeats.
	OnComment func(text string)

	// OnError is called with errors after which the stream continues: ErrEventTooLarge and
	// ErrLastEventID.
	OnError func(error)

	// OnDisconnect is called with the reason why an attempt failed or an open stream was lost (io.EOF:
	// the server ended it), and the wait before the next attempt. Run returns final errors instead.
	OnDisconnect func(err error, wait time.Duration)

	opened bool // a stream was open once

	mu        sync.Mutex              // guards interrupt
	interrupt context.CancelCauseFunc // ends the turn: an attempt and the wait after it
}

// Run listens until the context is done, and then returns its cause, or until a response is final:
//
//   - 204, 401 and 403: a *StatusError
//   - a problem of the server's own (application/problem+json, RFC 9457) with any status but 408,
//     425, 429 and 5xx: a *StatusError
//   - ErrRequest: no request can be made of the Client's URL and Method
//   - before the first stream is open, when the URL may be wrong: any status but 200, 408, 425, 429
//     and 5xx, and ErrMediaType
//
// Once a stream was open, a 404 or a web page is assumed to come from a proxy while the server is replaced,
// or from a network that requires a login. Run then tries again.
//
// Everything else is tried again after a wait: Retry, or what the server's Retry-After says if
// that is longer, plus a random part of a time that doubles from Retry to MaxBackoff. A
// connection that stayed open for ten seconds counts as success.
//
// When Run returns, no goroutine is left, and only HTTPClient may keep an idle connection. Run may be called
// again to continue.
func (c *Client) Run(ctx context.Context) error {
	defer c.setInterrupt(nil)
	for failures := 0; ctx.Err() == nil; {
		turn, end := context.WithCancelCause(ctx)
		c.setInterrupt(end)
		steady, err := c.attempt(turn)
		switch {
		case ctx.Err() != nil:
		case c.final(err):
			end(nil)
			return err
		default:
			if steady {
				failures = 0
			}
			c.pause(turn, err, failures)
			failures++
		}
		end(nil)
	}
	return context.Cause(ctx)
}

// Restart ends the connection, or the wait before the next attempt, and connects at once. It may be
// called at any time. It does nothing while Run does not run.
func (c *Client) Restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupt != nil {
		c.interrupt(ErrRestarted)
	}
}

func (c *Client) setInterrupt(f context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupt = f
}

// attempt makes one connection and calls the callbacks. It returns the error that ended the connection, and
// whether the connection was open long enough to count as success.
func (c *Client) attempt(turn context.Context) (steady bool, err error) {
	ctx, cancel := context.WithCancelCause(turn)
	defer cancel(nil)
	answered := deadline(cmp.Or(c.AnswerTimeout, defaultAnswerTimeout), "no response header", cancel)
	defer answered()
	begun := deadline(c.FirstEventTimeout, "no event", cancel)
	defer begun()
	req, err := c.request(ctx)
	if err != nil {
		return false, cmp.Or(context.Cause(ctx), err)
	}
	idle := newIdle(c.IdleTimeout, func() { cancel(ErrIdle) })
	defer idle.end()
	if c.LastEventID != "" && !sendable(c.LastEventID) {
		call(c.OnError, fmt.Errorf("%w: %q", ErrLastEventID, c.LastEventID))
	}
	e := c.engine(req, idle)
	go e.run()
	defer func() { // also if a callback panics
		cancel(nil)
		for range e.out {
		}
	}()
	var opened time.Time
	for it := range e.out {
		if turn.Err() != nil {
			continue // the turn was ended: call no more callbacks
		}
		switch it.kind {
		case itemOpen:
			opened, c.opened = time.Now(), true
			answered()
		case itemEvent, itemTooLarge:
			begun()
		}
		c.dispatch(e, it)
		idle.set(c.IdleTimeout)
	}
	err = e.err
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the reason why the connection failed
	}
	return !opened.IsZero() && time.Since(opened) >= steadyAfter, err
}

// deadline ends an attempt after a time unless met is called before. A time of 0 or less is no deadline.
func deadline(after time.Duration, missing string, end context.CancelCauseFunc) (met func()) {
	if after <= 0 {
		return func() {}
	}
	timer := time.AfterFunc(after, func() { end(fmt.Errorf("%w: %s within %s", ErrNoAnswer, missing, duration.Format(after))) })
	return func() { timer.Stop() }
}

// final reports whether an attempt that ended with this error is the last one.
func (c *Client) final(err error) bool {
	if c.Final != nil {
		return c.Final(err)
	}
	status, refused := errors.AsType[*StatusError](err)
	switch {
	case errors.Is(err, ErrRequest):
		return true
	case !c.opened:
		return refused && status.Final() || errors.Is(err, ErrMediaType)
	}
	return refused && status.definite()
}

func (c *Client) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, cmp.Or(c.Method, http.MethodGet), c.URL, bytes.NewReader(c.Body))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	case req.URL.Scheme != "http" && req.URL.Scheme != "https", req.URL.Host == "":
		return nil, fmt.Errorf("%w: %q is not a URL of http or https", ErrRequest, c.URL)
	}
	for name, values := range c.Header {
		for _, v := range values {
			req.Header.Add(name, v)
		}
	}
	if c.BeforeAttempt != nil {
		err = c.BeforeAttempt(req)
	}
	return req, err
}

func (c *Client) engine(req *http.Request, idle *idle) *engine {
	client := *cmp.Or(c.HTTPClient, http.DefaultClient)
	client.Timeout = 0
	client.CheckRedirect = withoutSecrets(req.Header.Clone(), client.CheckRedirect)
	return &engine{
		client: &client, req: req, idle: idle, lastEventID: c.LastEventID,
		maxEventSize: c.MaxEventSize, out: make(chan item),
	}
}

// dispatch calls the callback for an item, and sets LastEventID and Retry.
func (c *Client) dispatch(e *engine, it item) {
	switch it.kind {
	case itemOpen:
		call(c.OnOpen, e.header)
	case itemEvent:
		call(c.OnEvent, it.Event)
	case itemTooLarge:
		call(c.OnError, tooLargeError(it, c.MaxEventSize))
	case itemComment:
		call(c.OnComment, string(it.Data))
		return
	case itemRetry:
		// Retry's 0 means the default, so a server's 0 becomes a millisecond.
		c.Retry = min(max(it.retry, time.Millisecond), maxAsked)
		return
	}
	if it.kind != itemOpen {
		c.LastEventID = it.ID
	}
}

func call[T any](f func(T), v T) {
	if f != nil {
		f(v)
	}
}

// pause waits for the next attempt.
func (c *Client) pause(turn context.Context, why error, failures int) {
	wait := backoff(max(cmp.Or(c.Retry, defaultRetry), retryAfter(why)), failures, cmp.Or(c.MaxBackoff, defaultMaxBackoff))
	if errors.Is(why, ErrRestarted) {
		wait = 0
	}
	if c.OnDisconnect != nil {
		c.OnDisconnect(why, wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-turn.Done():
	}
}
