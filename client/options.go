package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/watchbox-go/watchbox/internal/duration"
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

// OnDisconnect calls f once when the open stream is lost, regardless of the number of attempts to
// reconnect. It also calls f when the client is closed permanently because the hub refuses it. State is then
// StateClosed, and the error is an *Error with the reason.
func OnDisconnect(f func(error)) Option {
	return func(c *config) error { c.onDisconnect = f; return nil }
}

// OnReconnect calls f when the stream is open again after a loss.
func OnReconnect(f func()) Option { return func(c *config) error { c.onReconnect = f; return nil } }

// OnGap calls f for each filter with messages that can no longer be delivered. All later
// messages follow.
func OnGap(f func(Gap)) Option { return func(c *config) error { c.onGap = f; return nil } }

// OnDirect calls f with messages to this session alone. They are delivered over the stream, so at least one filter
// must be joined.
func OnDirect(f func(Message)) Option { return func(c *config) error { c.onDirect = f; return nil } }

// OnState calls f with each change of State.
func OnState(f func(State)) Option { return func(c *config) error { c.onState = f; return nil } }

// WithSecret sets the session's secret, 16 to 128 visible ASCII characters chosen at random, so that
// a restarted program continues its session. Only one client at a time may use a secret: the joins of a
// second client would change the stream of the first. By default the client generates a secret.
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

// WithHTTPClient makes all requests with h. Its Timeout does not apply to the stream, and Close
// does not close its connections. A redirect is followed only if it keeps the method and the host (or
// changes to HTTPS): secrets and messages are not sent anywhere else.
func WithHTTPClient(h *http.Client) Option {
	return func(c *config) error { c.http = h; return nil }
}

// WithToken sends the token that f returns as Authorization: Bearer with every request. f is called for each
// request, by several goroutines concurrently, so it should cache a valid token. When the hub refuses
// a token with 401, f is called once more before the refusal is final. f is also called before the token of the
// open stream expires, and the stream continues with the new token. In the last tenth of a token's lifetime, and in its
// last minute, f should return the next one.
func WithToken(f func(ctx context.Context) (string, error)) Option {
	return func(c *config) error { c.token = f; return nil }
}

// WithHeartbeat makes the client send a heartbeat every d, 100ms to 1h. The hub ends the stream if none
// arrives for 1.5 d, and so notices a lost client sooner than through the network. It costs a request every d.
func WithHeartbeat(d time.Duration) Option {
	return func(c *config) error {
		if d < 100*time.Millisecond || d > time.Hour {
			return fmt.Errorf("the heartbeat must be from 100ms to 1h, not %s", duration.Format(d))
		}
		c.heartbeat = d
		return nil
	}
}

// WithAnswerTimeout bounds the wait for an answer, 30 seconds by default. A call is retried if no part of its
// request or answer was transferred for d. An attempt to open the stream is repeated if the stream is not open
// after d.
func WithAnswerTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return fmt.Errorf("the answer timeout must be above 0, not %s", duration.Format(d))
		}
		c.answer = d
		return nil
	}
}

// WithMaxDelay bounds the random part of the wait before a retry, which doubles with each consecutive
// failure. The default is 30 seconds.
func WithMaxDelay(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return fmt.Errorf("the maximum delay must be above 0, not %s", duration.Format(d))
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
