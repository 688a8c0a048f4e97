package session

import (
	"errors"
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

// Errors of calls about a session.
var (
	ErrUnknown         = errors.New("there is no such session")
	ErrNoStream        = errors.New("the session has no open stream to change")
	ErrTooManySessions = errors.New("too many lost sessions are waiting for their clients: reconnect with the secret of a session, or retry later")
	ErrTooManyFilters  = errors.New("the stream or its session has reached its limit of filters")
	ErrOfAnother       = errors.New("the session belongs to another subject than the token")
	ErrClosed          = errors.New("the server is shutting down")
)

// Registry holds all sessions that are connected or lost.
type Registry struct {
	timeout time.Duration
	watch   func([]Event)
	commit  func(*Change) error // stores a change

	// Limits that Admit checks; 0: no limit.
	MaxLost    int // lost sessions
	MaxFilters int // filters of one session: of all its streams and lost memberships

	lost    atomic.Int64 // number of lost sessions
	clock   clock
	running sync.WaitGroup

	// With several hubs; see Sharing.
	self        atomic.Pointer[string]
	committed   func(*Change)
	wasEnded    func(uid string, version uint64)
	willChanged func(old, new *Will)

	mu     sync.RWMutex // guards what follows
	byUID  map[string]*Session
	order  order
	closed bool
	down   map[string]Reason  // hubs that are down, and why
	untold map[string]*untold // of sessions that others still have to be told of, by uid
}

// NewRegistry returns an empty registry. A session that has been lost for the timeout is gone. watch is
// called with the events of each change during the session's turn, so it must not call the registry.
func NewRegistry(timeout time.Duration, watch func([]Event)) *Registry {
	r := &Registry{timeout: timeout, watch: watch, byUID: map[string]*Session{}, untold: map[string]*untold{}}
	r.commit = r.report
	return r
}

// report commits a change that nobody else knows: it cannot fail.
func (r *Registry) report(x *Change) error {
	x.Apply()
	if len(x.Events) > 0 {
		r.watch(x.Events)
	}
	return nil
}

// Stream is a stream of a session. Join and Leave change nothing if they return an error.
type Stream interface {
	End(why Reason)
	Join(f group.Filter) error
	Leave(f group.Filter) error
}

// Client describes the client that opened a session.
type Client struct {
	Address string
	ID      *string              // that the client has given itself, if its protocol has such ids; else nil
	Agent   unique.Handle[Agent] // thousands of clients share few values
}

// ClientID returns the client's id, or "".
func (c *Client) ClientID() string {
	if c.ID == nil {
		return ""
	}
	return *c.ID
}

// same reports whether two clients have the same description.
func (c *Client) same(other *Client) bool {
	return c.Address == other.Address && c.ClientID() == other.ClientID() && c.Agent == other.Agent
}

// Agent is the program that a client runs, and how it connects.
type Agent struct {
	UserAgent string
	Protocol  string // such as http/1.1; "" if it is not known
}

// Opening describes a stream that opens.
type Opening struct {
	Client    Client
	Grant     *access.Grant // the stream ends when it expires
	Filters   []group.Filter
	Heartbeat time.Duration // 0: the client has promised none
	Stream    Stream
	End       Position            // of the log, as this hub knows it: if the session begins, the messages sent to it alone come later
	Polls     bool                // it is one of several that follow each other, with gaps between them
	Regranted func(*access.Grant) // is called when the grant is replaced, and must not block; nil: nobody needs to know
}

// Attach adds a stream to the session uid. If the session is new or lost, it becomes connected. If
// Heartbeat is not 0, the stream ends when the session has been silent for one and a half heartbeats.
// Attach returns ErrOfAnother if the session belongs to another subject, ErrKicked if the client has to be told of
// a kick, ErrTooManyFilters if the session would be too large for the log, and ErrClosed once the registry is closed.
func (r *Registry) Attach(uid string, o *Opening) (*Attachment, error) {
	for {
		s, err := r.session(uid, &o.Grant.Subject, o.Client)
		switch {
		case err != nil:
			return nil, err
		case !s.belongsTo(o.Grant.Subject):
			return nil, ErrOfAnother
		}
		if a, err := s.attach(o); a != nil || err != nil {
			return a, err
		}
	}
}

// Admit returns an error if a stream with these filters would exceed a limit, or if the session belongs
// to another subject. A lost session counts until it reconnects or is gone, so clients that connect once
// and never return cannot pile up.
func (r *Registry) Admit(uid, subject string, filters []group.Filter) error {
	s := r.find(uid)
	if s != nil && !s.belongsTo(subject) {
		return ErrOfAnother
	}
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

// session returns the session uid, and creates it if it does not exist. It returns ErrKicked or ErrClosed if it must
// not create it.
func (r *Registry) session(uid string, subject *string, c Client) (*Session, error) {
	if s := r.find(uid); s != nil {
		return s, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, e := r.byUID[uid], r.untold[uid]
	switch {
	case s != nil:
		return s, nil
	case r.closed:
		return nil, ErrClosed
	case e != nil && e.tell:
		return nil, ErrKicked
	}
	s = &Session{uid: uid, registry: r}
	s.client = c
	if r.sharing() {
		s.shared = &shared{version: e.left()}
	}
	s.subject.Store(subject)
	r.byUID[uid] = s
	s.no = r.order.add(s)
	return s, nil
}

func (r *Registry) find(uid string) *Session {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byUID[uid]
}

// forget removes a session that is gone. It may be called more than once.
func (r *Registry) forget(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byUID[s.uid] != s {
		return
	}
	delete(r.byUID, s.uid)
	r.order.remove(s.no)
}

// Len returns the number of sessions that are connected or lost.
func (r *Registry) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byUID)
}

// SignOfLife records a sign of life. It returns ErrUnknown if there is no such session, and ErrOfAnother if it
// belongs to another subject.
func (r *Registry) SignOfLife(uid, subject string) error {
	s := r.find(uid)
	switch {
	case s == nil:
		return ErrUnknown
	case !s.belongsTo(subject):
		return ErrOfAnother
	}
	s.lastSign.Store(int64(monotonicNow()))
	return nil
}

// do calls f with the session uid during the session's turn.
func (r *Registry) do(uid string, f func(*Session) error) error {
	s := r.find(uid)
	if s == nil {
		return ErrUnknown
	}
	s.take()
	defer s.give()
	if !s.exists() {
		return ErrUnknown
	}
	return f(s)
}

// Exists reports whether there is a session uid.
func (r *Registry) Exists(uid string) bool {
	s := r.find(uid)
	return s != nil && s.exists()
}

func (s *Session) exists() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun && !s.gone
}

func (s *Session) isGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// Join adds a filter to the session's newest stream. A stream has at most maxFilters filters.
func (r *Registry) Join(uid string, f group.Filter, maxFilters int) error {
	return r.do(uid, func(s *Session) error { return s.join(f, maxFilters) })
}

// Leave removes a filter from all streams of the session.
func (r *Registry) Leave(uid string, f group.Filter) error {
	return r.do(uid, func(s *Session) error { return s.leave(f) })
}

// SetWill replaces the session's last will by what replace returns for the old one; nil is none. replace can store the new
// one. If it fails, the will is not changed.
func (r *Registry) SetWill(uid string, replace func(old *Will) (*Will, error)) error {
	return r.do(uid, func(s *Session) error {
		s.mu.Lock()
		old := s.will
		s.mu.Unlock()
		w, err := replace(old)
		if err != nil {
			return err
		}
		if w != nil && w.ID == 0 {
			w.ID = rand.Uint64()
		}
		s.shared.try(s, w)
		return s.change(cause{newWill: true, will: w})
	})
}

// Restore adds a lost session that an earlier process of the server stored, with its subject, which is nil
// if it was not stored, its filters and its will, which may be nil. It must be called before any stream is attached.
func (r *Registry) Restore(uid string, subject *string, filters []group.Filter, w *Will) {
	s, err := r.session(uid, subject, Client{Agent: unique.Make(Agent{})}) // a zero Handle has no value
	if err != nil {
		return // the registry is closed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixNano()
	d := document{begun: true, client: s.client, since: now, will: w, why: Closed, lost: monotonicNow(), lostAt: now}
	for _, f := range filters {
		d.members = append(d.members, member{filter: f, lost: d.lost, lostAt: now, why: d.why})
	}
	s.set(&d)
	s.schedule()
}

// End ends a session and its streams at once. Its will is sent unless the reason is Ended.
func (r *Registry) End(uid string, why Reason) error {
	return r.do(uid, func(s *Session) error { return s.change(cause{end: why}) })
}

// Close ends all sessions and refuses new ones. It sends no wills, since the server is the one that leaves.
func (r *Registry) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for s := range r.all() {
		s.close()
	}
	r.running.Wait()
}

// enter reports whether work may begin, and not end before Close does. It must be followed by running.Done.
func (r *Registry) enter() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return false
	}
	r.running.Add(1)
	return true
}

// pageSize is how many sessions are read while the registry's lock is held once.
const pageSize = 256

// all yields the sessions in the order in which they began. It may miss sessions that begin or end in the
// meantime.
func (r *Registry) all() iter.Seq[*Session] { return r.after(0) }

// after is all for the sessions behind a number.
func (r *Registry) after(no uint64) iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		var page []*Session
		for more := true; more; {
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
	return r.do(uid, func(s *Session) error {
		s.shared.use(s)
		return f()
	})
}
