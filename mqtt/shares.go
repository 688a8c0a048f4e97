package mqtt

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/watchbox-go/watchbox/internal/cursor"
)

// shares are the shares with members at this hub.
type shares struct {
	requests atomic.Uint64 // that were made to other hubs

	mu    sync.Mutex
	byKey map[string]*share
}

// sharedPrefix begins the keys of the positions of shares.
const sharedPrefix = "share/"

func shareKey(x *subscription) string { return sharedPrefix + x.share + "/" + x.filter.String() }

// storedShareKey returns the key of the share that a stored subscription belongs to, or "".
func storedShareKey(f *cursor.Filter) string {
	if !bytes.Contains(f.Options, []byte(sharePrefix)) {
		return "" // quickly: this is asked whenever a session is stored
	}
	x, err := restoreSubscription(f)
	if err != nil || !x.shared() {
		return ""
	}
	return shareKey(&x)
}

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
