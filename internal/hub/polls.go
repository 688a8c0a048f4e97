package hub

import (
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
)

// polls holds the polls that have been answered and whose sessions are expected to poll again. The one who removes a
// poll from it detaches it from its session.
type polls struct {
	mu    sync.Mutex // guards what follows
	byUID map[string][]*Poll
	count int
}

// keep adds an answered poll for a time. If its session has ended it meanwhile, the time is 0.
func (l *polls) keep(p *Poll, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byUID == nil {
		l.byUID = map[string][]*Poll{}
	}
	l.byUID[p.uid] = append(l.byUID[p.uid], p)
	l.count++
	p.polling.leaveAfter(d, p.leave)
}

// claim removes and returns the answered poll that a new one of the session continues, or nil. It is one with the
// same filters or, since filters may change, one that shares a filter. A session may have several series of polls.
func (l *polls) claim(uid string, filters group.Set) *Poll {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found *Poll
	for _, p := range l.byUID[uid] {
		if slices.Equal(p.sub.Filters, filters) {
			found = p
			break
		}
		if slices.ContainsFunc(p.sub.Filters, func(f group.Filter) bool { return slices.Contains(filters, f) }) {
			found = p
		}
	}
	if found != nil {
		l.drop(found)
	}
	return found
}

// leave removes a poll. It returns false if another has done so.
func (l *polls) leave(p *Poll) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.drop(p)
}

func (l *polls) drop(p *Poll) bool {
	list := l.byUID[p.uid]
	i := slices.Index(list, p)
	if i < 0 {
		return false
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(l.byUID, p.uid)
	} else {
		l.byUID[p.uid] = list
	}
	l.count--
	p.polling.stay()
	return true
}

// full reports whether there are limit polls; 0: no limit.
func (l *polls) full(limit int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return limit > 0 && l.count >= limit
}

// filters returns the filters of each poll whose session has not ended it.
func (l *polls) filters() (list []group.Set) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, polls := range l.byUID {
		for _, p := range polls {
			if p.polling.ended() == "" {
				list = append(list, p.sub.Filters)
			}
		}
	}
	return list
}

// pollStream is a poll as a stream of its session: until the next poll, also while none waits.
type pollStream struct {
	sessionStream
	attachment *session.Attachment

	mu    sync.Mutex     // guards what follows
	why   session.Reason // why the session has ended it; "": it has not
	timer *time.Timer    // detaches it; nil while it waits or is being answered
}

// End ends a waiting poll, or its session's presence after it.
func (s *pollStream) End(why session.Reason) {
	s.sessionStream.End(why)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = why
	if s.timer != nil {
		s.timer.Reset(0)
	}
}

// Behind returns false: between two polls the client is as far as it can be.
func (s *pollStream) Behind() bool { return false }

// Join returns an error: each poll names its filters itself.
func (s *pollStream) Join(group.Filter) error { return session.ErrNoStream }

// Leave ends a waiting poll, so that the client's next one names the filters that are left.
func (s *pollStream) Leave(group.Filter) error {
	s.Stream.End(changed)
	return nil
}

// leaveAfter calls leave after a time, or at once if the session has ended the poll.
func (s *pollStream) leaveAfter(d time.Duration, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != "" {
		d = 0
	}
	s.timer = time.AfterFunc(d, leave)
}

// ended returns why the session has ended the poll, or "".
func (s *pollStream) ended() session.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// stay stops the timer of leaveAfter.
func (s *pollStream) stay() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Stop()
}
