package jetstream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// away is the state of the log while messages cannot be stored. It is logged once when it begins and once when it ends.
type away struct {
	mu     sync.Mutex // guards the fields below
	since  time.Time  // zero: the log is not away
	silent bool       // the servers have not stored a message in time
}

// lost records that the servers cannot be reached, or do not do their work.
func (l *Log) lost(why error) {
	l.away.mu.Lock()
	defer l.away.mu.Unlock()
	if l.away.since.IsZero() && !l.closed.Load() {
		l.away.since = time.Now()
		l.opts.Logger.Warn("NATS is away: publishers get 503 until it is back", "error", why)
	}
}

// unanswered records that the servers have not stored a message in time.
func (l *Log) unanswered(why error) {
	l.lost(why)
	l.away.mu.Lock()
	defer l.away.mu.Unlock()
	l.away.silent = true
}

// silent reports whether a message was not stored in time, and the servers have not answered since.
func (l *Log) silent() bool {
	l.away.mu.Lock()
	defer l.away.mu.Unlock()
	return l.away.silent
}

// awayFor returns store.ErrAway with what is missing, and for how long.
func (l *Log) awayFor(why string) error {
	l.away.mu.Lock()
	defer l.away.mu.Unlock()
	if since := l.away.since; !since.IsZero() {
		why += fmt.Sprintf(" (away for %v)", time.Since(since).Round(time.Second))
	}
	return fmt.Errorf("%w: %s", store.ErrAway, why)
}

// back records that the servers store messages.
func (l *Log) back() {
	l.away.mu.Lock()
	defer l.away.mu.Unlock()
	if l.offline.Load() {
		return
	}
	l.away.silent = false
	if !l.away.since.IsZero() {
		l.opts.Logger.Info("NATS is back", "server", l.nc.ConnectedUrlRedacted(), "after", time.Since(l.away.since).Round(time.Millisecond))
		l.away.since = time.Time{}
	}
}

// probe asks the leader of the stream whether it is back.
func (l *Log) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout(0))
	defer cancel()
	if info, err := l.stream.Info(ctx); err == nil && hasMajority(info.Cluster) {
		l.back()
	}
}

// peerTimeout is how long a server that keeps the stream may have said nothing to the leader, to which it answers each second.
const peerTimeout = 3 * time.Second

// hasMajority reports whether the leader has heard enough servers lately to store messages. One that has lost them leads for some seconds more.
func hasMajority(c *jetstream.ClusterInfo) bool {
	if c == nil { // there is one server
		return true
	}
	heard := 1
	for _, p := range c.Replicas {
		if !p.Offline && p.Active < peerTimeout {
			heard++
		}
	}
	return 2*heard > len(c.Replicas)+1
}
