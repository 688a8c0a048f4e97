package jetstream

import (
	"context"
	"sync"
	"time"
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

// back records that the servers store messages.
func (l *Log) back() {
	l.away.mu.Lock()
	defer l.away.mu.Unlock()
	if !l.nc.IsConnected() {
		return
	}
	l.away.silent = false
	if !l.away.since.IsZero() {
		l.opts.Logger.Info("NATS is back", "server", l.nc.ConnectedUrlRedacted(), "after", time.Since(l.away.since).Round(time.Millisecond))
		l.away.since = time.Time{}
	}
}

// probe asks the leader of the stream, which a majority of the servers has elected, whether it is back.
func (l *Log) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout(0))
	defer cancel()
	if _, err := l.stream.Info(ctx); err == nil {
		l.back()
	}
}
