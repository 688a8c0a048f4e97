package mqtt

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
)

// retention is until when sessions of members that are away are kept.
type retention struct {
	forEver bool
	until   time.Time
}

// extend adds a session that is kept for a time.
func (r *retention) extend(expiry time.Duration, since time.Time) {
	if until := since.Add(expiry); expiry > 0 && until.After(r.until) {
		r.until = until
	}
	r.forEver = r.forEver || expiry < 0
}

// left returns how long a session is still kept; <0: for ever; 0: none is.
func (r *retention) left() time.Duration {
	if r.forEver {
		return -1
	}
	return max(0, time.Until(r.until))
}

// shares are the shares with members at this hub.
type shares struct {
	requests atomic.Uint64 // that were made to other hubs

	mu    sync.Mutex
	byKey map[string]*share
}

// sharedPrefix begins the keys of the positions of shares.
const sharedPrefix = "share/"

func shareKey(x *subscription) string { return sharedPrefix + x.share + "/" + x.filter.String() }

// find returns the share of a subscription, or nil.
func (l *shares) find(x *subscription) *share {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byKey[shareKey(x)]
}

// of returns the share of a subscription. It may be a new one.
func (l *shares) of(srv *Server, x *subscription) *share {
	key := shareKey(x)
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.byKey[key]
	if h == nil {
		h = &share{server: srv, key: key, filter: x.filter, newest: map[string]uint64{}}
		if l.byKey == nil {
			l.byKey = map[string]*share{}
		}
		l.byKey[key] = h
	}
	return h
}

// forget tells shares that the session with a position is not kept any more. It removes their positions if nobody is a
// member of them without it.
func (l *shares) forget(srv *Server, p *cursor.Position) {
	for i := range p.Filters {
		x, err := restoreSubscription(&p.Filters[i])
		if err != nil || !x.shared() {
			continue
		}
		kept := srv.retention(&x, p.Key)
		if h := l.find(&x); h != nil {
			h.mu.Lock()
			h.kept = kept
			h.mu.Unlock()
		} else if kept.left() == 0 {
			srv.removeShare(shareKey(&x))
		}
	}
}

// removeShare removes the position of a share without members at this hub, unless there are some at another one.
func (srv *Server) removeShare(key string) {
	cursors := srv.hub.Cursors()
	if _, found := cursors.Get(key); !found {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	switch _, _, err := cursors.ClaimFree(ctx, key); {
	case err == nil:
		cursors.Remove(key)
	case !errors.Is(err, cursor.ErrElsewhere) && srv.ctx.Err() == nil:
		srv.opts.Logger.Error("removing the position of a shared subscription failed", "share", key, "error", err)
	}
}

// retention returns until when sessions with a shared subscription are kept, except one of them.
func (srv *Server) retention(x *subscription, except string) (r retention) {
	for p := range srv.hub.Cursors().Each(sessionPrefix) {
		if p.Key != except && slices.ContainsFunc(p.Filters, func(f cursor.Filter) bool {
			y, err := restoreSubscription(&f)
			return err == nil && y.topic == x.topic
		}) {
			since := p.Away
			if since.IsZero() {
				since = time.Now()
			}
			r.extend(p.Expiry, since)
		}
	}
	return r
}

// close ends the shares that have no members at this hub, and are here for those at others.
func (l *shares) close() {
	l.mu.Lock()
	list := slices.Collect(maps.Values(l.byKey))
	l.mu.Unlock()
	for _, h := range list {
		h.turn.Lock()
		if !h.ended {
			h.goOn(false)
		}
		h.turn.Unlock()
	}
}

// resumeShares tells the shares that the session takes messages again.
func (s *session) resumeShares() {
	var shared []subscription
	s.mu.Lock()
	for i := range s.subs {
		if s.subs[i].shared() {
			shared = append(shared, s.subs[i])
		}
	}
	s.mu.Unlock()
	for i := range shared {
		if h := s.server.shares.find(&shared[i]); h != nil {
			h.resume()
		}
	}
}
