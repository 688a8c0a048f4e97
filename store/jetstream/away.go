package jetstream

import (
	"context"
	"errors"
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
	silent string     // why the servers are taken not to store messages, though they deliver the stream; "": they do
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

// unanswered records that the servers do not store messages.
func (l *Log) unanswered(why error) {
	l.lost(why)
	l.away.mu.Lock()
	defer l.away.mu.Unlock()
	l.away.silent = why.Error()
}

// silent returns why the servers are taken not to store messages, if they have not answered since; "": they do.
func (l *Log) silent() string {
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
	l.away.silent = ""
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

var errMinority = errors.New("too few NATS servers answer to store messages")

// A consumer goes on while there is no majority. So each hub asks the leader every few beats whether there is one, or nobody
// would notice before the next append. A server may be slow or start again, and the servers elect another leader within 10 s: few
// bad answers say nothing.
const (
	askAfter       = 3 // beats
	mostDenials    = 2 // by a leader that has not heard the others lately
	mostUnanswered = 3 // with denials; each takes up to answerTimeout
)

// runQuestions asks the leader from time to time whether messages can be stored. While it cannot say so, the server of this hub may be
// cut off from the others, which carry out purges that this hub does not hear of, though its connection and its consumer go on.
func (l *Log) runQuestions() {
	tick := time.NewTicker(askAfter * l.opts.Times.Beat)
	defer tick.Stop()
	for failed, denied := 0, 0; ; {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
		}
		if l.offline.Load() || !l.tail.following() {
			failed, denied = 0, 0 // that is said already
			continue
		}
		i := l.askMajority.ask(l.ctx, l, func(ctx context.Context) (bool, error) {
			info, err := l.stream.Info(ctx)
			return err == nil && hasMajority(info.Cluster), err
		})
		switch {
		case i.err != nil && passing(i.err):
			failed++
		case i.err == nil && !i.answer:
			failed++
			denied++
		default:
			if failed > 0 {
				l.unheard.look()
			}
			failed, denied = 0, 0
			if l.silent() != "" {
				l.back()
			}
			l.stayCurrent()
		}
		if failed > 0 {
			l.unheard.begin()
		}
		if failed > mostUnanswered || denied > mostDenials {
			l.unanswered(errMinority)
		}
	}
}

// stayCurrent catches up, so that appends with an idempotency key need not do so first.
func (l *Log) stayCurrent() {
	ctx, cancel := context.WithTimeout(l.ctx, askAfter*l.opts.Times.Beat)
	defer cancel()
	_ = l.CatchUp(ctx) // an append does it then
}

// peerTimeout is how long a server that keeps the stream may have said nothing to the leader, to which it answers each second.
const peerTimeout = 3 * time.Second

// hasMajority reports whether the leader has heard enough servers lately to store messages. One that has lost them leads for some seconds more.
// Servers that have said nothing to this leader yet, which count as active, are being added if all others are there.
func hasMajority(c *jetstream.ClusterInfo) bool {
	switch {
	case c == nil: // there is one server
		return true
	case c.Leader == "": // another server answers if there is none
		return false
	}
	heard, mute, all := 1, 0, 1+len(c.Replicas)
	for _, p := range c.Replicas {
		switch {
		case p.Offline:
		case p.Active == 0:
			mute++
		case p.Active < peerTimeout:
			heard++
		}
	}
	if heard+mute == all {
		all = heard
	}
	return 2*heard > all
}
