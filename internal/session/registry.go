package session

import (
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Errors of calls about a session.
var (
	ErrUnknown         = errors.New("there is no such session")
	ErrNoStream        = errors.New("the session has no open stream to change")
	ErrTooManySessions = errors.New("as many sessions as may be were lost and are not gone yet: come back with the secret of a session, or later")
	ErrTooManyFilters  = errors.New("the stream has as many filters as it may")
)

// Registry holds all sessions that are connected or lost.
type Registry struct {
	timeout time.Duration
	watch   func([]Event)

	// Bounds of what Admit admits; 0 for none.
	MaxLost    int // sessions that are lost
	MaxFilters int // filters of one session, over all of its streams and those it has lost

	lost atomic.Int64 // sessions

	mu     sync.RWMutex // guards what follows
	byUID  map[string]*Session
	order  order
	closed bool
}

// NewRegistry returns one without sessions. Those that are lost for the timeout are gone. watch is
// called for each event under the session's lock: it must not call the registry.
func NewRegistry(timeout time.Duration, watch func([]Event)) *Registry {
	return &Registry{timeout: timeout, watch: watch, byUID: map[string]*Session{}}
}

// Stream is what a session needs of a stream.
type Stream interface {
	End(why Reason)
	Join(f group.Filter) error  // or nothing is changed
	Leave(f group.Filter) error // or nothing is changed
}

// Client describes the client that opened a session.
type Client struct {
	Address   string
	UserAgent unique.Handle[string] // there are few, and thousands who have each
}

// Attach adds a stream to its session, which it starts or brings back. With a heartbeat the stream
// is ended when the session is silent for one and a half. It returns nil once the registry is closed.
func (r *Registry) Attach(uid string, c Client, filters []group.Filter, heartbeat time.Duration, stream Stream) *Attachment {
	for {
		s := r.session(uid, c)
		if s == nil {
			return nil
		}
		if a := s.attach(c, filters, heartbeat, stream); a != nil {
			return a
		}
	}
}

// Admit returns why a stream with such filters must not be attached to a session, or nil. A session
// that has just been lost counts until it returns or is gone, so clients that come and go without
// returning cannot pile up.
func (r *Registry) Admit(uid string, filters []group.Filter) error {
	s := r.find(uid)
	if s == nil {
		if r.MaxLost > 0 && r.lost.Load() >= int64(r.MaxLost) {
			return ErrTooManySessions
		}
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.members)
	for _, f := range filters {
		if s.member(f) < 0 {
			n++
		}
	}
	if r.MaxFilters > 0 && n > r.MaxFilters && n > len(s.members) {
		return ErrTooManyFilters
	}
	return nil
}

// session returns the session of that uid, new if need be; nil if there may be no new one.
func (r *Registry) session(uid string, c Client) *Session {
	if s := r.find(uid); s != nil {
		return s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.byUID[uid]
	if s == nil && !r.closed {
		s = &Session{uid: uid, registry: r, client: c, since: time.Now().UnixNano()}
		r.byUID[uid] = s
		s.no = r.order.add(s)
	}
	return s
}

func (r *Registry) find(uid string) *Session {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byUID[uid]
}

// forget drops a session that is gone. It may be called again.
func (r *Registry) forget(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byUID[s.uid] != s {
		return
	}
	delete(r.byUID, s.uid)
	r.order.remove(s.no)
}

// Len returns how many sessions are here or lost.
func (r *Registry) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byUID)
}

// Heard records a sign of life, and reports whether the session exists.
func (r *Registry) Heard(uid string) bool {
	s := r.find(uid)
	if s != nil {
		s.heard.Store(int64(rightNow()))
	}
	return s != nil
}

// do calls f with the session under its lock.
func (r *Registry) do(uid string, f func(*Session) error) error {
	s := r.find(uid)
	if s == nil {
		return ErrUnknown
	}
	s.mu.Lock()
	defer s.unlock()
	if s.gone || !s.begun {
		return ErrUnknown
	}
	return f(s)
}

// Join adds a filter to the session's newest stream, unless it has the most already.
func (r *Registry) Join(uid string, f group.Filter, most int) error {
	return r.do(uid, func(s *Session) error { return s.join(f, most) })
}

// Leave takes a filter from all of the session's streams.
func (r *Registry) Leave(uid string, f group.Filter) error {
	return r.do(uid, func(s *Session) error { return s.leave(f) })
}

// SetWill replaces the session's last will; nil clears it. First note is called, which tells where
// wills are kept, with the will that there was: its error leaves all as it was.
func (r *Registry) SetWill(uid string, w *Will, note func(old *Will) error) error {
	return r.do(uid, func(s *Session) error {
		if err := note(s.will); err != nil {
			return err
		}
		s.will = w
		s.schedule(rightNow())
		return nil
	})
}

// Recall adds a lost session that an earlier process of the server has noted, with its filters and
// its will if it had any. It is called before any stream is attached.
func (r *Registry) Recall(uid string, filters []group.Filter, w *Will) {
	s := r.session(uid, Client{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun, s.will, s.why, s.lost = true, w, Closed, rightNow()
	for _, f := range filters {
		s.members = append(s.members, member{filter: f, lost: s.lost, why: s.why})
	}
	r.lost.Add(1)
	s.schedule(s.lost)
}

// End ends a session at once, with its streams. Its will is sent unless the end is its own.
func (r *Registry) End(uid string, why Reason) error {
	return r.do(uid, func(s *Session) error {
		s.end(why)
		return nil
	})
}

// Close ends all sessions, and none begins any more. No will is sent: it is the server that leaves.
func (r *Registry) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for s := range r.all() {
		s.close()
	}
}

// pageSize is how many sessions are looked at in one hold of the registry's lock.
const pageSize = 256

// all yields the sessions in the order in which they began. One that begins or ends meanwhile may
// be missed.
func (r *Registry) all() iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		var page []*Session
		for no, more := uint64(0), true; more; {
			r.mu.RLock()
			page, no, more = r.order.page(page[:0], no, pageSize)
			r.mu.RUnlock()
			for _, s := range page {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Do calls f while the session cannot end. f must not call the registry.
func (r *Registry) Do(uid string, f func() error) error {
	return r.do(uid, func(*Session) error { return f() })
}
