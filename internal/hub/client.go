package hub

import (
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/watchbox-go/watchbox/internal/access"
)

// clientOf names the client of a request for limits and idempotency keys: its subject or, without one, its
// address.
func clientOf(g *access.Grant, address string) string {
	if g != nil && g.Subject != "" {
		return "sub " + g.Subject // no address has a space
	}
	return address
}

// LimitError reports that a client has reached a limit of its own.
type LimitError struct {
	Code  string
	Text  string
	Retry time.Duration // after which to try again
}

func (e *LimitError) Error() string { return e.Text }

// rates bounds how many messages a second each client publishes. Clients that have been silent for a
// second have their full rate again, so they are forgotten.
type rates struct {
	limit int // 0: none

	mu      sync.Mutex // guards what follows
	clients map[string]*rate.Limiter
	swept   time.Time
}

// of takes the n messages of a publication from its sender's rate. The embedding program has no limit.
func (r *rates) of(p *Publication, n int) error {
	if r.limit == 0 || p.Program {
		return nil
	}
	return r.take(clientOf(p.Grant, p.Address), n, time.Now())
}

// take takes n messages from a client's rate, all or none.
func (r *rates) take(client string, n int, now time.Time) error {
	if n > r.limit {
		return &LimitError{"batch-over-rate", fmt.Sprintf("a batch of %d messages is more than the %d that a client may publish in a second: send smaller ones", n, r.limit), time.Second}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.swept) > time.Second {
		r.sweep(now)
	}
	l := r.clients[client]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(r.limit), r.limit)
		if r.clients == nil {
			r.clients = map[string]*rate.Limiter{}
		}
		r.clients[client] = l
	}
	if l.AllowN(now, n) {
		return nil
	}
	missing := float64(n) - l.TokensAt(now)
	wait := time.Duration(math.Ceil(missing / float64(r.limit) * float64(time.Second)))
	return &LimitError{"rate-limited", fmt.Sprintf("this client publishes more than %d messages a second", r.limit), wait}
}

// sweep forgets the clients that have their full rate.
func (r *rates) sweep(now time.Time) {
	for client, l := range r.clients {
		if l.TokensAt(now) >= float64(r.limit) {
			delete(r.clients, client)
		}
	}
	r.swept = now
}

// streamCounts bounds how many streams each client has open.
type streamCounts struct {
	limit int // 0: none

	mu   sync.Mutex // guards what follows
	open map[string]int
}

// enter counts a stream of a client, unless the client has reached the limit. leave must be called when the
// stream has ended.
func (c *streamCounts) enter(client string) error {
	if c.limit == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[client] >= c.limit {
		return &LimitError{"too-many-client-streams", fmt.Sprintf("this client has %d streams open, the most that one client may have: close one first", c.limit), time.Second}
	}
	if c.open == nil {
		c.open = map[string]int{}
	}
	c.open[client]++
	return nil
}

func (c *streamCounts) leave(client string) {
	if c.limit == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[client]--; c.open[client] == 0 {
		delete(c.open, client)
	}
}
