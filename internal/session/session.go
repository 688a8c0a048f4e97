package session

import (
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

// Session is one client with all its streams.
type Session struct {
	uid      string
	subject  atomic.Pointer[string] // that it belongs to; nil: its first stream decides
	no       uint64                 // its number in the registry's order
	registry *Registry
	lastSign atomic.Int64 // moment of the client's last sign of life

	mu sync.Mutex // guards what follows; held briefly
	document
	gone     bool
	changing bool          // a goroutine has the turn
	place    int32         // in the heap of the registry's clock, which guards it, from 1; 0: nothing is due
	due      moment        // when something is due, with the place; the clock guards it
	turn     chan struct{} // closed when the turn is free; nil: nobody waits
	streams  []*Attachment // open at this hub
	endings  *streamEnd    // of the last stream that has ended; nil: none has
	shared   *shared       // nil: no other hub shares the log
}

// take waits for the session's turn: the right to change it, also while a change is committed, which may take
// long. A mutex would do, but tests with a clock of their own could not tell who waits for it.
func (s *Session) take() {
	for {
		s.mu.Lock()
		if !s.changing {
			s.changing = true
			s.mu.Unlock()
			return
		}
		if s.turn == nil {
			s.turn = make(chan struct{})
		}
		turn := s.turn
		s.mu.Unlock()
		<-turn
	}
}

// give ends the turn.
func (s *Session) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changing = false
	if s.turn != nil {
		close(s.turn)
		s.turn = nil
	}
}

// moment is a time in nanoseconds since the start of the process; 0: never. It takes a third of the
// memory of a time.Time. Setting the system clock does not change it: otherwise thousands of sessions
// could be gone at once.
type moment int64

var processStart = time.Now()

func monotonicNow() moment { return moment(time.Since(processStart)) + 1 }

// never is the last possible moment. Nothing is due then.
const never moment = math.MaxInt64

// add returns the moment d later, or the last possible moment if the sum overflows. d must not be negative.
func (m moment) add(d time.Duration) moment {
	if sum := m + moment(d); sum >= m {
		return sum
	}
	return never
}

// Position is a position in the log.
type Position struct {
	Epoch string // in which Seq counts
	Seq   uint64
}

// Attachment is a stream that is part of a session.
type Attachment struct {
	session   *Session
	stream    Stream
	filters   []group.Filter
	heartbeat time.Duration
	grant     *access.Grant
	regranted func(*access.Grant) // see Opening
	expires   moment              // when it ends because the grant expires; 0: never
	polls     bool                // see Opening
	farewell  bool                // see Farewell
	keep      seconds             // see Keep
	no        uint32              // see node.newest
	missed    *missed             // what the session may have missed before this stream; nil: nothing
}

// missed is what a session may have missed before a stream.
type missed struct {
	others  []string // other hubs where the session had streams, if their documents are right; none: it was lost
	reached Position // of the stream that had closed last
}

// Missed reports whether the session was lost before this stream opened. If so, reached is up to where the session had
// received the messages sent to it alone. If others are returned, it was lost unless one of these hubs has a stream of it: one that has
// died may not be known to be down yet.
func (a *Attachment) Missed() (reached Position, others []string, ok bool) {
	if a.missed == nil {
		return Position{}, nil, false
	}
	return a.missed.reached, a.missed.others, true
}

// belongsTo reports whether the session may be used by a subject.
func (s *Session) belongsTo(subject string) bool {
	is := s.subject.Load()
	return is == nil || *is == subject
}

// owner returns the subject that the session belongs to.
func (s *Session) owner() string {
	if is := s.subject.Load(); is != nil {
		return *is
	}
	return ""
}

// attach adds a stream to the session. It returns nil if the session is gone.
func (s *Session) attach(o *Opening) (*Attachment, error) {
	s.take()
	defer s.give()
	if s.shared.failed(s) {
		_ = s.change(cause{}) // so that the loss of an earlier stream is told before
	}
	a := &Attachment{session: s, stream: o.Stream, filters: o.Filters, heartbeat: o.Heartbeat, polls: o.Polls, regranted: o.Regranted}
	if !s.add(a, o) {
		return nil, nil
	}
	err := s.change(cause{opened: a, by: o, from: o.End, client: &o.Client})
	switch {
	case errors.Is(err, ErrUnknown):
		return nil, nil // another hub has ended it
	case errors.Is(err, ErrOfAnother), errors.Is(err, ErrClosed), errors.Is(err, ErrTooLarge):
		s.mu.Lock()
		defer s.mu.Unlock()
		s.remove(a)
		if errors.Is(err, ErrTooLarge) {
			err = tooManyFilters(err)
		}
		return nil, err
	}
	return a, nil // after another error, the change is tried again later
}

// add adds a stream to the open ones. It reports false if the session is gone.
func (s *Session) add(a *Attachment, o *Opening) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return false
	}
	s.subject.CompareAndSwap(nil, &o.Grant.Subject)
	if s.begun && len(s.streams) == 0 {
		a.missed = &missed{s.shared.hubs(), s.shared.reached(s)}
	}
	if !s.begun && len(s.streams) == 0 {
		s.since = time.Now().UnixNano()
	}
	now := monotonicNow()
	s.lastSign.Store(int64(now))
	a.setGrant(o.Grant, now)
	s.streams = append(s.streams, a)
	return true
}

// remove removes a stream from the open ones. It reports whether it was one.
func (s *Session) remove(a *Attachment) bool {
	i := slices.Index(s.streams, a)
	if i < 0 {
		return false
	}
	s.streams = slices.Delete(s.streams, i, i+1)
	return true
}

// Farewell tells that the client says goodbye and ends this stream: when the stream is detached, the session's will is dropped. It is
// dropped in the same change, so that it is neither sent because the session is lost, nor left behind if that cannot be stored at once.
// A will that the client sets later, at any hub, stays.
func (a *Attachment) Farewell() {
	a.session.mu.Lock()
	defer a.session.mu.Unlock()
	a.farewell = true
}

// Keep tells that the session is gone once it has been lost for a time after this stream, if that is sooner than otherwise. The
// time is in whole seconds; 0: it is not.
func (a *Attachment) Keep(lost time.Duration) {
	a.session.mu.Lock()
	defer a.session.mu.Unlock()
	a.keep = secondsOf(lost)
}

// Detach removes the stream from its session. It must be called when the stream has ended, with the
// position that the stream reached.
func (a *Attachment) Detach(why Reason, reached Position) { a.detach(why, reached, true) }

// Replaced removes the stream from its session because another one continues it, such as the next poll. That is no
// ending to remember.
func (a *Attachment) Replaced(reached Position) { a.detach(Closed, reached, false) }

func (a *Attachment) detach(why Reason, reached Position, ending bool) {
	s := a.session
	s.take()
	defer s.give()
	s.mu.Lock()
	c := cause{why: why, reached: reached, keep: a.keep}
	was := s.remove(a)
	if was && s.shared != nil {
		s.shared.left = reached
		for _, f := range a.filters {
			c.lost = c.lost.with(f, why)
		}
	}
	if was && a.farewell {
		c.bye = s.ownWill()
	}
	if was && ending {
		s.noteEnd(why)
	}
	s.mu.Unlock()
	if was { // otherwise the session has ended already
		_ = s.change(c) // an error: it is tried again later
	}
}

// ownWill returns the id of the will that was set last at this hub, whether or not it is known to be stored. The session may have
// the will of a later connection at another hub.
func (s *Session) ownWill() (ids []uint64) {
	switch {
	case s.shared != nil && s.shared.tried != 0:
		ids = append(ids, s.shared.tried)
	case s.shared == nil && s.will != nil:
		ids = append(ids, s.will.ID)
	}
	return ids
}

// join adds a filter to the newest stream.
func (s *Session) join(f group.Filter, maxFilters int) error {
	s.mu.Lock()
	var a *Attachment
	if n := len(s.streams); n > 0 {
		a = s.streams[n-1]
	}
	s.mu.Unlock()
	if a == nil {
		return ErrNoStream
	}
	return a.joinTurn(f, maxFilters, func() error { return a.stream.Join(f) })
}

// leave removes a filter from all streams.
func (s *Session) leave(f group.Filter) error {
	if err := s.leaveStreams(f); err != nil {
		return err
	}
	return s.change(cause{left: reasons{f: ""}})
}

func (s *Session) leaveStreams(f group.Filter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams) == 0 && !s.shared.elsewhere() {
		return ErrNoStream
	}
	for _, a := range s.streams {
		if err := a.leave(f); err != nil {
			return err // earlier streams have left the filter; the next call continues here
		}
	}
	return nil
}

// close ends the session because the server shuts down. A session without a stream yet can no longer begin. If other
// hubs share the log, the session goes on.
func (s *Session) close() {
	s.take()
	defer s.give()
	s.mu.Lock()
	begun := s.begun && s.shared == nil
	if !begun && !s.gone {
		s.finish(Shutdown)
	}
	s.mu.Unlock()
	if begun {
		_ = s.change(cause{end: Shutdown}) // ErrUnknown: it has ended meanwhile
	} else {
		s.registry.forget(s)
	}
}
