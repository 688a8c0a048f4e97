package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/internal/origin"
	"github.com/watchbox-go/watchbox/internal/remote"
)

const (
	// goodbye bounds the last request of Close and of a loop over Messages.
	goodbye = 5 * time.Second

	// maxAnswer is the number of bytes of an answer that are read.
	maxAnswer = 64 << 10

	// maxRedirects is the largest number of redirects for one request, the same as in net/http.
	maxRedirects = 10

	// firstDelay bounds the random wait before the first retry.
	firstDelay = 100 * time.Millisecond
)

// request is one call of the hub's API.
type request struct {
	method, path string
	query        url.Values
	meta         [][2]string // of a message
	mediaType    string
	body         []byte
	key          string            // Idempotency-Key
	ownKey       bool              // the caller chose the key
	divisible    bool              // it can be sent in parts, so a proxy's refusal is final for the whole
	lost         bool              // the hub may have executed it, but the answer was lost
	take         func([]byte) bool // reads the JSON of a success and reports whether it comes from a hub; nil: a success has no body
	header       func(http.Header) // gets the header of a success; may be nil
	largest      int64             // largest answer in bytes; 0: maxAnswer
}

// call repeats a request until its outcome is certain: the hub has executed or refused it. It also ends with
// an error of WithToken's function.
func (c *Client) call(ctx context.Context, r *request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.lifetime, func() { cancel(context.Cause(c.lifetime)) })()
	renewed := c.token == nil
	for failures := 0; ; failures++ {
		err := c.try(ctx, r)
		switch e, refused := errors.AsType[*Error](err); {
		case err == nil:
			return nil
		case c.lifetime.Err() != nil:
			return giveUpError(c.lifetime, err)
		case ctx.Err() != nil:
			return giveUpError(ctx, err)
		case refused && e.Status == http.StatusUnauthorized && !renewed:
			renewed = true
			continue
		case refused && c.final(e), errors.Is(err, errToken):
			return err
		case refused && r.divisible && e.Status == http.StatusRequestEntityTooLarge, // from a proxy, which has never let this through
			refused && r.divisible && !r.lost && !e.temporary() && !e.uncertain():
			return err
		case refused:
			r.lost = r.lost || e.uncertain()
			err = c.pause(ctx, err, max(e.RetryAfter, c.delay(failures)))
		default:
			r.lost = r.lost || !unsent(err)
			err = c.pause(ctx, err, c.delay(failures))
		}
		if err != nil {
			return err
		}
	}
}

// mostUnknown is how often callOwn repeats a call: for about three seconds.
const mostUnknown = 6

// callOwn is call for the session's own resources. Several hubs may not know yet of a stream that one of them has opened
// while it could not be stored: while the stream is open, a call is repeated that is answered with sessionUnknown.
func (c *Client) callOwn(ctx context.Context, r *request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.lifetime, func() { cancel(context.Cause(c.lifetime)) })()
	for failures := 0; ; failures++ {
		err := c.call(ctx, r)
		e, refused := errors.AsType[*Error](err)
		if !refused || e.Code != sessionUnknown || failures == mostUnknown || c.State() != StateOpen {
			return err
		}
		if err := c.pause(ctx, err, c.delay(failures)); err != nil {
			return err
		}
	}
}

// unsent reports whether an attempt failed before there was a connection.
func unsent(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}

// delay returns the wait after a number of consecutive failures: a random part of a time that doubles with each.
func (c *Client) delay(failures int) time.Duration {
	return rand.N(min(firstDelay<<min(failures, 20), c.maxDelay))
}

// pause waits, or returns an error if ctx ends first.
func (c *Client) pause(ctx context.Context, why error, wait time.Duration) error {
	c.logger.Debug("request failed, will be retried", "error", why, "wait", wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return giveUpError(ctx, why)
	}
}

// giveUpError returns the reason why a call was given up, and the last error before.
func giveUpError(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	if errors.Is(last, cause) || errors.Is(last, ctx.Err()) {
		return cause
	}
	return fmt.Errorf("%w: %w", cause, last)
}

// errToken marks errors of WithToken's function.
var errToken = errors.New("watchbox: no token")

// authorize adds the token and the secret.
func (c *Client) authorize(r *http.Request) error {
	r.Header.Set("Watchbox-Session", c.secret)
	if c.token == nil {
		return nil
	}
	token, err := c.token(r.Context())
	if err != nil {
		return fmt.Errorf("%w: %w", errToken, err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return nil
}

// try makes a request once.
func (c *Client) try(ctx context.Context, r *request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(c.answer, func() { cancel(fmt.Errorf("watchbox: no answer within %s", duration.Format(c.answer))) })
	defer timer.Stop()
	moved := func() { timer.Reset(c.answer) }
	u := c.base + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, bytes.NewReader(r.body))
	if err != nil {
		return &Error{Detail: err.Error()}
	}
	sent := 1 // number of times that Do sends the body: net/http repeats a request with a key if the connection is lost
	if len(r.body) > 0 {
		req.Body = progress{req.Body, moved}
		rewound := req.GetBody
		req.GetBody = func() (io.ReadCloser, error) {
			sent++
			body, err := rewound()
			return progress{body, moved}, err
		}
	}
	if r.mediaType != "" {
		req.Header.Set("Content-Type", r.mediaType)
	}
	remote.AddMeta(req.Header, r.meta)
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	if err := c.authorize(req); err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("watchbox: %w", cmp.Or(context.Cause(ctx), err))
	}
	defer func() { _ = resp.Body.Close() }() // the body has been read
	r.lost = r.lost || sent > 1+redirects(resp)
	answer, err := io.ReadAll(io.LimitReader(progress{resp.Body, moved}, cmp.Or(r.largest, maxAnswer)))
	return c.checkAnswer(r, resp, answer, err)
}

// checkAnswer returns the error for an answer, or nil for a success. A success of the hub has the JSON that the request takes,
// or no body if the request takes none. A refusal of the hub is a problem with a code.
func (c *Client) checkAnswer(r *request, resp *http.Response, answer []byte, cut error) error {
	bare := resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusAccepted
	full := resp.StatusCode/100 == 2 && !bare && remote.MediaType(resp.Header) == "application/json"
	switch {
	case full && cut != nil:
		return fmt.Errorf("watchbox: the answer was cut short: %w", cut)
	case r.take == nil && bare, r.take != nil && full && r.take(answer):
		c.noteAnswer()
		if r.header != nil {
			r.header(resp.Header)
		}
		return nil
	}
	e := refusal(resp.StatusCode, resp.Header, answer)
	if e.Code != "" {
		c.noteAnswer()
	}
	if e.Code == sessionEnded {
		c.fail(ended("kicked"))
		return context.Cause(c.lifetime)
	}
	return e
}

// redirects returns the number of redirects that led to an answer.
func redirects(resp *http.Response) (n int) {
	for ; resp.Request != nil && resp.Request.Response != nil; resp = resp.Request.Response {
		n++
	}
	return n
}

// progress calls moved for each read of a body.
type progress struct {
	io.ReadCloser
	moved func()
}

func (p progress) Read(b []byte) (int, error) {
	p.moved()
	return p.ReadCloser.Read(b)
}

// withinHost returns a copy of an http.Client that does not follow redirects to another host or redirects
// that turn a request into a GET.
func withinHost(h *http.Client) *http.Client {
	limited, next := *h, h.CheckRedirect
	limited.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		switch first := via[0]; {
		case !origin.Trusts(first.URL, r.URL), r.Method != first.Method, len(via) >= maxRedirects:
			return http.ErrUseLastResponse
		case next != nil:
			return next(r, via)
		}
		return nil
	}
	return &limited
}
