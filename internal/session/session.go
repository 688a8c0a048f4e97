package session

import (
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

	mu      sync.Mutex // guards what follows
	client  Client     // of the newest stream
	since   int64      // wall-clock time when it began, in Unix nanoseconds
	begun   bool       // whether it has had a stream
	gone    bool
	lost    moment // when its last stream closed; zero while it is connected
	reached uint64 // position of the stream that closed last
	why     Reason // why it was lost
	streams []*Attachment
	members []member
	events  []Event // of the change in progress; unlock reports them
	will    *Will
	timer   *time.Timer
}

// moment is a time in nanoseconds since the start of the process; 0: never. It takes a third of the
// memory of a time.Time. Setting the system clock does not change it: otherwise thousands of sessions
// could be gone at once.
type moment int64

var processStart = time.Now()

func monotonicNow() moment { return moment(time.Since(processStart)) + 1 }

// add returns the moment d later, or the last possible moment if the sum overflows. d must not be negative.
func (m moment) add(d time.Duration) moment {
	if sum := m + moment(d); sum >= m {
		return sum
	}
	return math.MaxInt64
}

// member is the session's membership of a filter.
type member struct {
	filter  group.Filter
	streams int    // open streams with the filter
	lost    moment // when the last of them closed
	why     Reason // why it was lost
}

// Attachment is a stream that is part of a session.
type Attachment struct {
	session   *Session
	stream    Stream
	filters   []group.Filter
	heartbeat time.Duration
	grant     *access.Grant
	expires   moment // when it ends because the grant expires; 0: never
	returned  bool   // whether the session was lost before this stream
	reached   uint64 // if so, the position of the stream that had closed last
}

// Missed reports whether the session was lost before this stream opened. If so, reached is the position
// in the log up to which the session had received the messages sent to it alone.
func (a *Attachment) Missed() (reached uint64, ok bool) { return a.reached, a.returned }

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

// record adds an event to those of the change in progress.
func (s *Session) record(k Kind, f group.Filter, why Reason) {
	s.events = append(s.events, Event{Kind: k, UID: s.uid, Subject: s.owner(), Filter: f, Reason: why})
}

// unlock ends a change: it reports the recorded events to the watcher and unlocks the session. It removes
// a session that is gone from the registry after that, so that a new session with the same uid begins
// only after the watcher knows of the end of the old one.
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

// attach adds a stream to the session. It returns nil if the session is gone.
func (s *Session) attach(o *Opening) *Attachment {
	s.mu.Lock()
	defer s.unlock()
	if s.gone {
		return nil
	}
	s.subject.CompareAndSwap(nil, &o.Grant.Subject)
	now := monotonicNow()
	s.lastSign.Store(int64(now))
	s.client = o.Client
	a := &Attachment{session: s, stream: o.Stream, filters: o.Filters, heartbeat: o.Heartbeat}
	a.setGrant(o.Grant, now)
	s.streams = append(s.streams, a)
	switch {
	case !s.begun:
		s.begun = true
		s.record(Connect, group.Filter{}, "")
	case s.lost != 0:
		a.returned, a.reached = true, s.reached
		s.registry.lost.Add(-1)
		s.record(Reconnect, group.Filter{}, s.why)
	}
	s.lost, s.why = 0, ""
	for _, f := range o.Filters {
		s.enter(f)
	}
	s.schedule(now)
	return a
}

// enter adds a stream to the membership of a filter.
func (s *Session) enter(f group.Filter) {
	i := s.member(f)
	if i < 0 {
		s.members = append(s.members, member{filter: f, streams: 1})
		s.record(Join, f, "")
		return
	}
	m := &s.members[i]
	m.streams++
	if m.streams == 1 {
		m.lost = 0
		s.record(Back, f, m.why)
	}
}

func (s *Session) member(f group.Filter) int {
	return slices.IndexFunc(s.members, func(m member) bool { return m.filter == f })
}

// Detach removes the stream from its session. It must be called when the stream has ended, with the
// position in the log that the stream reached.
func (a *Attachment) Detach(why Reason, reached uint64) {
	s := a.session
	s.mu.Lock()
	defer s.unlock()
	i := slices.Index(s.streams, a)
	if i < 0 {
		return // the session has ended already
	}
	s.streams = slices.Delete(s.streams, i, i+1)
	now := monotonicNow()
	for _, f := range a.filters {
		s.lose(f, now, why)
	}
	if len(s.streams) == 0 {
		s.lost, s.why, s.reached = now, why, reached
		s.registry.lost.Add(1)
	}
	s.schedule(now)
}

// lose removes a stream from the membership of a filter.
func (s *Session) lose(f group.Filter, now moment, why Reason) {
	m := &s.members[s.member(f)]
	m.streams--
	if m.streams == 0 {
		m.lost, m.why = now, why
		s.record(Lost, f, why)
	}
}

func (s *Session) join(f group.Filter, maxFilters int) error {
	if len(s.streams) == 0 {
		return ErrNoStream
	}
	a := s.streams[len(s.streams)-1]
	if !a.grant.Covers(f) {
		return &access.Forbidden{Action: access.Subscribe, Filter: f.String()}
	}
	if slices.Contains(a.filters, f) {
		return a.stream.Join(f) // joining again delivers the retained messages again
	}
	if limit := s.registry.MaxFilters; len(a.filters) >= maxFilters || limit > 0 && len(s.members) >= limit && s.member(f) < 0 {
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
			return err // earlier streams have left the filter; the next call continues here
		}
		a.filters = slices.Delete(slices.Clone(a.filters), k, k+1)
		s.members[i].streams--
	}
	s.members = slices.Delete(s.members, i, i+1)
	s.record(Leave, f, "")
	return nil
}

// close ends the session because the server shuts down. A session without a stream yet can no longer begin.
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

// finish makes the session gone and records the events of its end.
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
		s.record(Gone, m.filter, why)
	}
	s.members = nil
	switch {
	case why == Shutdown: // keep the will: the next start sends it if the session does not return
	case why != Ended:
		s.sendWill()
	case s.will != nil:
		s.events = append(s.events, Event{Kind: WillDone, UID: s.uid, Will: s.will})
	}
	s.record(Disconnect, group.Filter{}, why)
}

// sendWill records that the will must be sent, and drops it so that it is sent only once.
func (s *Session) sendWill() {
	if s.will != nil {
		s.events = append(s.events, Event{Kind: SendWill, UID: s.uid, Will: s.will})
		s.will = nil
	}
}
