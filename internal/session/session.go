package session

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Session is one client, however many streams it opens.
type Session struct {
	uid      string
	no       uint64 // its number in the registry's order
	registry *Registry
	heard    atomic.Int64 // when it last gave a sign of life, ns

	mu      sync.Mutex // guards what follows
	client  Client     // of the newest stream
	since   int64      // when it began, by the clock on the wall: ns since 1970
	begun   bool       // it has had a stream
	gone    bool
	lost    moment // when its last stream closed; zero while it is here
	reached uint64 // the position of that stream
	why     Reason // it was lost
	streams []*Attachment
	members []member
	events  []Event // of the change that is under way
	will    *Will
	timer   *time.Timer
}

// moment is a time as what has passed since the process began, in ns; 0: never. It is a third of a
// time.Time, and not moved when somebody sets the clock: else thousands would be gone at once.
type moment int64

var began = time.Now()

func rightNow() moment { return moment(time.Since(began)) + 1 }

// add returns the moment after a duration of 0 or more, the last one there is if need be.
func (m moment) add(d time.Duration) moment {
	if sum := m + moment(d); sum >= m {
		return sum
	}
	return math.MaxInt64
}

// member is a filter that the session listens to.
type member struct {
	filter  group.Filter
	streams int    // that have it
	lost    moment // when the last of them closed
	why     Reason
}

// Attachment is a stream as part of its session.
type Attachment struct {
	session   *Session
	stream    Stream
	filters   []group.Filter
	heartbeat time.Duration
	missed    bool // it brought a session back that was lost
	reached   uint64
}

// Missed reports whether the stream brought a session back that was lost, and the position in the
// log up to which that had got what was sent to it alone.
func (a *Attachment) Missed() (reached uint64, ok bool) { return a.reached, a.missed }

func (s *Session) tell(k Kind, f group.Filter, why Reason) {
	s.events = append(s.events, Event{Kind: k, UID: s.uid, Filter: f, Reason: why})
}

// unlock ends a change: it tells the watcher what has happened, and unlocks the session. One that is
// gone is forgotten after that: a new session of the same uid begins when its end has been told.
func (s *Session) unlock() {
	if events := s.events; len(events) > 0 {
		s.events = nil
		s.registry.watch(events)
	}
	if s.gone {
		s.registry.forget(s)
	}
	s.mu.Unlock()
}

// attach returns nil if the session is gone.
func (s *Session) attach(c Client, filters []group.Filter, heartbeat time.Duration, stream Stream) *Attachment {
	s.mu.Lock()
	defer s.unlock()
	if s.gone {
		return nil
	}
	now := rightNow()
	s.heard.Store(int64(now))
	s.client = c
	a := &Attachment{session: s, stream: stream, filters: filters, heartbeat: heartbeat}
	s.streams = append(s.streams, a)
	switch {
	case !s.begun:
		s.begun = true
		s.tell(Connect, group.Filter{}, "")
	case s.lost != 0:
		a.missed, a.reached = true, s.reached
		s.registry.lost.Add(-1)
		s.tell(Reconnect, group.Filter{}, s.why)
	}
	s.lost, s.why = 0, ""
	for _, f := range filters {
		s.enter(f)
	}
	s.schedule(now)
	return a
}

// enter counts a stream that listens to a filter.
func (s *Session) enter(f group.Filter) {
	i := s.member(f)
	if i < 0 {
		s.members = append(s.members, member{filter: f, streams: 1})
		s.tell(Join, f, "")
		return
	}
	m := &s.members[i]
	m.streams++
	if m.streams == 1 {
		m.lost = 0
		s.tell(Back, f, m.why)
	}
}

func (s *Session) member(f group.Filter) int {
	return slices.IndexFunc(s.members, func(m member) bool { return m.filter == f })
}

// Detach is to be called when the stream has ended, with the position in the log that it reached.
func (a *Attachment) Detach(why Reason, reached uint64) {
	s := a.session
	s.mu.Lock()
	defer s.unlock()
	i := slices.Index(s.streams, a)
	if i < 0 {
		return // the session ended before it
	}
	s.streams = slices.Delete(s.streams, i, i+1)
	now := rightNow()
	for _, f := range a.filters {
		s.lose(f, now, why)
	}
	if len(s.streams) == 0 {
		s.lost, s.why, s.reached = now, why, reached
		s.registry.lost.Add(1)
	}
	s.schedule(now)
}

// lose counts a stream less that listens to a filter.
func (s *Session) lose(f group.Filter, now moment, why Reason) {
	m := &s.members[s.member(f)]
	m.streams--
	if m.streams == 0 {
		m.lost, m.why = now, why
		s.tell(Lost, f, why)
	}
}

func (s *Session) join(f group.Filter, most int) error {
	if len(s.streams) == 0 {
		return ErrNoStream
	}
	a := s.streams[len(s.streams)-1]
	if slices.Contains(a.filters, f) {
		return a.stream.Join(f) // once more, for what is retained
	}
	if limit := s.registry.MaxFilters; len(a.filters) >= most || limit > 0 && len(s.members) >= limit && s.member(f) < 0 {
		return ErrTooManyFilters
	}
	if err := a.stream.Join(f); err != nil {
		return err
	}
	a.filters = append(slices.Clip(a.filters), f)
	s.enter(f)
	return nil
}

func (s *Session) leave(f group.Filter) error {
	if len(s.streams) == 0 {
		return ErrNoStream
	}
	i := s.member(f)
	if i < 0 {
		return nil
	}
	for _, a := range s.streams {
		k := slices.Index(a.filters, f)
		if k < 0 {
			continue
		}
		if err := a.stream.Leave(f); err != nil {
			return err // the streams before it have left: the next call goes on here
		}
		a.filters = slices.Delete(slices.Clone(a.filters), k, k+1)
		s.members[i].streams--
	}
	s.members = slices.Delete(s.members, i, i+1)
	s.tell(Leave, f, "")
	return nil
}

// close ends the session for the server. One that has not begun never will.
func (s *Session) close() {
	s.mu.Lock()
	defer s.unlock()
	switch {
	case s.gone:
	case s.begun:
		s.end(Shutdown)
	default:
		s.gone = true
	}
}

// end ends the session and its streams.
func (s *Session) end(why Reason) {
	for _, a := range s.streams {
		a.stream.End(why)
	}
	s.finish(why)
}

// finish has the session be gone.
func (s *Session) finish(why Reason) {
	s.gone = true
	if s.lost != 0 {
		s.registry.lost.Add(-1)
	}
	s.streams = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	for _, m := range s.members {
		s.tell(Gone, m.filter, why)
	}
	s.members = nil
	switch {
	case why == Shutdown: // the will is for when it does not return
	case why != Ended:
		s.sendWill()
	case s.will != nil:
		s.events = append(s.events, Event{Kind: WillDone, UID: s.uid, Will: s.will})
	}
	s.tell(Disconnect, group.Filter{}, why)
}

// sendWill sends the will, once.
func (s *Session) sendWill() {
	if s.will != nil {
		s.events = append(s.events, Event{Kind: SendWill, UID: s.uid, Will: s.will})
		s.will = nil
	}
}
