package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/fallback"
	"github.com/watchbox-go/watchbox/internal/remote"
)

// Client is one session with a hub. Its methods may be called concurrently.
type Client struct {
	config
	base string // the hub's address, without a slash at its end
	uid  string

	lifetime     context.Context // ends when the client is closed, with the reason as its cause
	end          context.CancelCauseFunc
	wg           sync.WaitGroup // the goroutines
	calls        *queue[call]   // pending calls of callbacks
	ownTransport *http.Transport

	// Semaphores of size one: joins and leaves reach the hub one after another, and so do changes of the will.
	joinLock, willLock chan struct{}

	mu           sync.Mutex // guards the fields below
	state        State
	answered     bool                   // the hub has answered once, so the address is right
	hasSession   bool                   // the session has had an open stream, so the hub knows it
	joined       map[string]*membership // by filter
	subs         []*Subscription        // in the order of their joins
	will         *wireDraft
	sending      int           // number of requests under way with messages to groups
	posts        []*post       // messages that wait for one of these requests to end
	noBatchUntil time.Time     // until then messages are sent separately, because a proxy refused a batch
	stream       *stream       // nil if nothing is joined
	last         *stream       // the newest stream; it may have ended
	changed      chan struct{} // closed and replaced on each change that await waits for
}

// ErrClosed is returned by calls of a closed client.
var ErrClosed = errors.New("watchbox: the client is closed")

// New returns a client of the hub at an address such as http://127.0.0.1:1234 or, in short,
// 127.0.0.1:1234. A hub that is mounted in an application has an address such as https://example.org/hub. New does
// not connect; the first Join does. Close the client when done.
func New(address string, opts ...Option) (*Client, error) {
	base, err := remote.Address(address)
	if err != nil {
		return nil, fmt.Errorf("watchbox: %w", err)
	}
	c := &Client{
		config: defaults(), base: base,
		calls: newQueue[call](), changed: make(chan struct{}),
		joinLock: make(chan struct{}, 1), willLock: make(chan struct{}, 1), joined: map[string]*membership{},
	}
	for _, o := range opts {
		if err := o(&c.config); err != nil {
			return nil, fmt.Errorf("watchbox: %w", err)
		}
	}
	if c.http == nil {
		c.ownTransport = newTransport()
		c.http = &http.Client{Transport: c.ownTransport}
	}
	c.http = withinHost(c.http)
	c.http.Transport = &fallback.Transport{Base: c.http.Transport, Authorize: c.authorize}
	c.secret = cmp.Or(c.secret, rand.Text())
	c.uid = uidOf(c.secret)
	c.lifetime, c.end = context.WithCancelCause(context.Background())
	c.wg.Go(c.dispatch)
	return c, nil
}

// newTransport returns the client's own transport, which keeps connections for many concurrent requests.
func newTransport() *http.Transport {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		t = &http.Transport{Proxy: http.ProxyFromEnvironment}
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = 64
	return t
}

// uidOf returns the uid of the session with a secret: a UUID of version 8 made from the secret's SHA-256. Every hub
// derives the same.
func uidOf(secret string) string {
	u := sha256.Sum256([]byte(secret))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// UID returns the session's uid. It is public: others use it to send messages to the session.
func (c *Client) UID() string { return c.uid }

// Close ends the session. It sends a request to the hub to end the session at once without its will,
// closes the stream, and makes pending calls return ErrClosed. When Close returns, no callback
// runs and no goroutine is left. An error means that the request failed.
//
// A callback must not call Close, because Close waits for callbacks.
func (c *Client) Close() error {
	c.end(ErrClosed)
	c.mu.Lock()
	hasSession := c.hasSession
	c.hasSession = false
	c.mu.Unlock()
	var err error
	if hasSession {
		err = c.endSession()
	}
	c.mu.Lock()
	if s := c.stream; s != nil {
		s.end(ErrClosed)
	}
	c.calls.finish() // drop pending calls, but not the last change of state
	c.setState(StateClosed)
	c.mu.Unlock()
	c.calls.close()
	c.wg.Wait()
	if c.ownTransport != nil {
		c.ownTransport.CloseIdleConnections()
	}
	return err
}

// endSession ends the session at the hub.
func (c *Client) endSession() error {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	err := c.try(ctx, &request{method: http.MethodDelete, path: c.sessionPath("")})
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		return nil // the session had ended already
	}
	return err
}

// sessionPath returns the path of one of the session's own resources.
func (c *Client) sessionPath(what string) string { return "/v1/sessions/" + c.uid + what }

// fail closes the client permanently because the hub refuses it. OnDisconnect gets the error.
func (c *Client) fail(err error) {
	c.end(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == StateClosed {
		return // it was told already
	}
	c.calls.put(call{disconnect: err})
	c.setState(StateClosed)
}

// signal wakes all calls of await. The mutex is held.
func (c *Client) signal() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits until done reports true or an error. done is called with the mutex held.
func (c *Client) await(ctx context.Context, done func() (bool, error)) error {
	for {
		c.mu.Lock()
		over, err := done()
		changed := c.changed
		c.mu.Unlock()
		switch {
		case c.lifetime.Err() != nil:
			return context.Cause(c.lifetime)
		case over || err != nil:
			return err
		}
		select {
		case <-changed:
		case <-c.lifetime.Done():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
