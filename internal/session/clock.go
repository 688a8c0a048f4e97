package session

import (
	"container/heap"
	"sync"
	"time"
)

// clock knows when something is due for which session. One timer serves all of them.
type clock struct {
	mu    sync.Mutex // guards what follows
	dues  dues
	timer *time.Timer
	at    moment // when the timer fires; 0: never
}

// dues is a heap of sessions. The first for which something is due is in front.
type dues []*Session

// Len implements heap.Interface, as do the methods below.
func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].due < d[j].due }
func (d dues) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = int32(i+1), int32(j+1)
}

func (d *dues) Push(x any) {
	s := x.(*Session)
	*d = append(*d, s)
	s.place = int32(len(*d))
}

func (d *dues) Pop() any {
	last := len(*d) - 1
	s := (*d)[last]
	(*d)[last] = nil
	*d, s.place = (*d)[:last], 0
	return s
}

// set sets when something is due for a session; 0: never.
func (c *clock) set(s *Session, due moment, fire func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.due = due
	switch {
	case due == 0 && s.place == 0:
		return
	case due == 0:
		heap.Remove(&c.dues, int(s.place)-1)
	case s.place == 0:
		heap.Push(&c.dues, s)
	default:
		heap.Fix(&c.dues, int(s.place)-1)
	}
	c.arm(fire)
}

// arm sets the timer, unless it fires before something is due.
func (c *clock) arm(fire func()) {
	switch {
	case len(c.dues) == 0 && c.at != 0:
		c.timer.Stop()
		c.at = 0
	case len(c.dues) == 0, c.at != 0 && c.at <= c.dues[0].due:
	default:
		c.at = c.dues[0].due
		wait := time.Duration(c.at - monotonicNow())
		if c.timer == nil {
			c.timer = time.AfterFunc(wait, fire)
		} else {
			c.timer.Reset(wait)
		}
	}
}

// take returns the sessions for which something is due, and forgets them.
func (c *clock) take(fire func()) (list []*Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = 0
	for now := monotonicNow(); len(c.dues) > 0 && c.dues[0].due <= now; {
		list = append(list, heap.Pop(&c.dues).(*Session))
	}
	c.arm(fire)
	return list
}

// onTimer starts what is due.
func (r *Registry) onTimer() {
	for _, s := range r.clock.take(r.onTimer) {
		r.spawn(s.onTime)
	}
}

// schedule sets the next time at which something is due.
func (s *Session) schedule() {
	if !s.gone {
		s.registry.clock.set(s, s.next(), s.registry.onTimer)
	}
}

// next returns the next time at which something is due, or 0 if nothing is.
func (s *Session) next() (next moment) {
	due := func(t moment) {
		if t != never && (next == 0 || t < next) {
			next = t
		}
	}
	if h := s.shared; h != nil && h.retry == 0 && h.repair != 0 {
		due(h.repair)
	}
	switch {
	case s.shared != nil && s.shared.retry != 0: // with it, what is due of the document is tried again
		due(s.shared.retry)
	case s.lost == 0:
		for i := range s.members {
			if m := &s.members[i]; m.lost != 0 {
				due(m.lost.add(s.registry.timeout))
			}
		}
	default:
		due(s.end(s.registry.timeout))
		if s.will != nil && s.will.Delay != nil {
			due(s.lost.add(*s.will.Delay))
		}
	}
	for _, a := range s.streams {
		if a.heartbeat > 0 {
			due(a.silentAt(s))
		}
		if a.expires != 0 {
			due(a.expires)
		}
	}
	return next
}

// silentAt returns the time at which the session counts as silent if it gives no sign of life before.
func (a *Attachment) silentAt(s *Session) moment {
	return moment(s.lastSign.Load()).add(a.heartbeat + a.heartbeat/2)
}

// onTime ends streams that are silent or whose token expires, sends a will whose delay has passed, and ends memberships and the session
// if they have been lost for the session timeout.
func (s *Session) onTime() {
	s.take()
	defer s.give()
	s.endStreams()
	_ = s.change(cause{due: true}) // ErrUnknown: it has ended meanwhile. Other errors: it is tried again later
}

// endStreams ends the streams whose clients promised heartbeats and sent none in time, and those whose token expires.
func (s *Session) endStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := monotonicNow()
	for _, a := range s.streams {
		if a.heartbeat != 0 && now >= a.silentAt(s) {
			a.heartbeat = 0 // end the stream only once
			a.stream.End(Heartbeat)
		}
	}
	s.endExpiredStreams(now)
}
