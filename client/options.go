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

// config has the values that options set.
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

// OnDisconnect has f called once when the open stream is lost, however many attempts it takes to
// reconnect, and when the client is closed for good because the hub refuses it. In that case State is
// StateClosed, and the error is an *Error that says why.
func OnDisconnect(f func(error)) Option {
	return func(c *config) error { c.onDisconnect = f; return nil }
}

// OnReconnect has f called when the stream is open again after a loss.
func OnReconnect(f func()) Option { return func(c *config) error { c.onReconnect = f; return nil } }

// OnGap has f called for each filter that misses messages which can no longer be delivered. All later
// messages follow.
func OnGap(f func(Gap)) Option { return func(c *config) error { c.onGap = f; return nil } }

// OnDirect has f called with messages to this session alone. They are delivered over the stream, so something has
// to be joined.
func OnDirect(f func(Message)) Option { return func(c *config) error { c.onDirect = f; return nil } }

// OnState has f called with each change of State.
func OnState(f func(State)) Option { return func(c *config) error { c.onState = f; return nil } }

// WithSecret sets the session's secret, 16 to 128 visible ASCII characters chosen at random, so that
// a restarted program continues its session. Only one client at a time may use a secret: a second one's joins
// would change the first one's stream. By default the client generates a secret.
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

// WithToken sends the token that f returns as Authorization: Bearer with every request. f is called for each
// request, by several goroutines concurrently, so it should cache a valid token. When the hub refuses
// a token with 401, f is called once more before the refusal is final. Before the token of the open stream
// expires, f is called, too: the stream goes on with a new token. From the last tenth of a token's life on, f
// should return the next one.
func WithToken(f func(ctx context.Context) (string, error)) Option {
	return func(c *config) error { c.token = f; return nil }
}

// WithHeartbeat has the client send a heartbeat every d, 100ms to 1h. The hub ends the stream when none
// came for 1.5 d, and so notices a lost client sooner than by the network. It costs a request every d.
func WithHeartbeat(d time.Duration) Option {
	return func(c *config) error {
		if d < 100*time.Millisecond || d > time.Hour {
			return fmt.Errorf("a heartbeat is from 100ms to 1h, not %v", d)
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
			return fmt.Errorf("the answer timeout must be above 0, not %v", d)
		}
		c.answer = d
		return nil
	}
}

// WithMaxDelay bounds the random part of the wait before a retry, which doubles with each failure in a
// row. The default is 30 seconds.
func WithMaxDelay(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return fmt.Errorf("the longest delay is above 0, not %v", d)
		}
		c.maxDelay = d
		return nil
	}
}

// WithLogger sets the logger: connection attempts and retries at level debug, errors that no call and no callback
// reports at level warn.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error { c.logger = l; return nil }
}
