package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Option sets one property of a client.
type Option func(*config) error

// config is what the options set.
type config struct {
	secret    string
	http      *http.Client
	token     func(context.Context) (string, error)
	heartbeat time.Duration
	answer    time.Duration
	maxDelay  time.Duration
	logger    *slog.Logger

	onDisconnect func(error)
	onReconnect  func()
	onGap        func(Gap)
	onDirect     func(Message)
	onState      func(State)
}

func defaults() config {
	return config{answer: 30 * time.Second, maxDelay: 30 * time.Second, logger: slog.New(slog.DiscardHandler)}
}

// OnDisconnect has f called when the open stream is lost, once, however many attempts it takes to
// get it back; and when the client is closed for good because the hub refuses it. Then State is
// StateClosed, and the error is an *Error that says why.
func OnDisconnect(f func(error)) Option {
	return func(c *config) error { c.onDisconnect = f; return nil }
}

// OnReconnect has f called when the stream stands again after a loss.
func OnReconnect(f func()) Option { return func(c *config) error { c.onReconnect = f; return nil } }

// OnGap has f called for each filter of which messages were missed that can no longer be had. What
// can, follows.
func OnGap(f func(Gap)) Option { return func(c *config) error { c.onGap = f; return nil } }

// OnDirect has f called with what is sent to this session alone. Something has to be joined for the
// hub to have a stream for it.
func OnDirect(f func(Message)) Option { return func(c *config) error { c.onDirect = f; return nil } }

// OnState has f called with each change of State.
func OnState(f func(State)) Option { return func(c *config) error { c.onState = f; return nil } }

// WithSecret sets the session's secret, 16 to 128 visible ASCII characters chosen at random, so that
// a program that starts anew is the session that it was. Only one client at a time may have it: a
// second one's joins would change the first one's stream. Without it, one is made up.
func WithSecret(secret string) Option {
	return func(c *config) error {
		ok := len(secret) >= 16 && len(secret) <= 128
		for _, b := range []byte(secret) {
			ok = ok && b > ' ' && b <= '~'
		}
		if !ok {
			return errors.New("a session's secret is 16 to 128 visible ASCII characters, chosen at random")
		}
		c.secret = secret
		return nil
	}
}

// WithHTTPClient makes all requests with h. Its Timeout is not applied to the stream, and Close
// leaves its connections alone. A redirect is followed only where it keeps the method and the host (or
// changes to HTTPS): secrets and messages are not sent anywhere else.
func WithHTTPClient(h *http.Client) Option {
	return func(c *config) error { c.http = h; return nil }
}

// WithToken sends what f returns as Authorization: Bearer with every request. F is called for each,
// by several goroutines at once: it should keep a token while that is valid. When the hub refuses
// a token with 401, f is asked once more before that counts.
func WithToken(f func(ctx context.Context) (string, error)) Option {
	return func(c *config) error { c.token = f; return nil }
}

// WithHeartbeat has the client tell the hub every d, 100ms to 1h, that it is alive. The hub ends
// its stream after 1.5 d without, and so notices sooner than by the network that it is gone. It
// costs a request every d.
func WithHeartbeat(d time.Duration) Option {
	return func(c *config) error {
		if d < 100*time.Millisecond || d > time.Hour {
			return fmt.Errorf("a heartbeat of %v is not from 100ms to 1h", d)
		}
		c.heartbeat = d
		return nil
	}
}

// WithAnswerTimeout bounds the wait for an answer, 30 seconds by default: a call is made again when nothing of
// its request was taken, and nothing of its answer came, for d; the stream is asked for again when
// it was not open d after it was asked for.
func WithAnswerTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return fmt.Errorf("an answer timeout of %v is not above 0", d)
		}
		c.answer = d
		return nil
	}
}

// WithMaxDelay bounds the random part of the wait before something is tried again, which doubles
// with each failure in a row: 30 seconds, if nothing is said.
func WithMaxDelay(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return fmt.Errorf("a longest delay of %v is none", d)
		}
		c.maxDelay = d
		return nil
	}
}

// WithLogger has the client log what it does about its connection, at level debug, and what nobody
// else hears of, at level warn.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error { c.logger = l; return nil }
}
