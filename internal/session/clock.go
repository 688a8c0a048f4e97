package session

import "time"

// schedule sets the timer to the next time at which something is due. If nothing is, no timer runs.
func (s *Session) schedule(now moment) {
	if s.gone {
		return
	}
	next := s.next()
	switch {
	case next == 0:
		if s.timer != nil {
			s.timer.Stop()
		}
	case s.timer == nil:
		s.timer = time.AfterFunc(time.Duration(next-now), s.onTimer)
	default:
		s.timer.Reset(time.Duration(next - now))
	}
}

// next returns the next time at which something is due, or 0 if nothing is.
func (s *Session) next() (next moment) {
	due := func(t moment) {
		if next == 0 || t < next {
			next = t
		}
	}
	if h := s.shared; h != nil {
		if h.retry != 0 {
			return h.retry
		}
		if h.repair != 0 {
			due(h.repair)
		}
	}
	if s.lost == 0 {
		for i := range s.members {
			if m := &s.members[i]; m.lost != 0 {
				due(m.lost.add(s.registry.timeout))
			}
		}
	} else {
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

// onTimer ends streams that are silent or whose token expires, sends a will whose delay has passed, and ends memberships and the session
// if they have been lost for the session timeout.
func (s *Session) onTimer() {
	if !s.registry.enter() {
		return
	}
	defer s.registry.running.Done()
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
