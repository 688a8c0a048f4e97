package session

import (
	"slices"
	"time"
)

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
	if s.lost == 0 {
		for i := range s.members {
			if m := &s.members[i]; m.streams == 0 {
				due(m.lost.add(s.registry.timeout))
			}
		}
	} else {
		due(s.lost.add(s.registry.timeout))
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
	s.mu.Lock()
	defer s.unlock()
	if s.gone {
		return
	}
	now := monotonicNow()
	s.endSilentStreams(now)
	s.endExpiredStreams(now)
	if s.lost != 0 {
		if s.will != nil && s.will.Delay != nil && now >= s.lost.add(*s.will.Delay) {
			s.sendWill()
		}
		if now >= s.lost.add(s.registry.timeout) {
			s.finish(s.why)
			return
		}
	}
	if s.lost == 0 {
		s.endLostMemberships(now)
	}
	s.schedule(now)
}

// endSilentStreams ends the streams whose clients promised heartbeats and sent none in time.
func (s *Session) endSilentStreams(now moment) {
	for _, a := range slices.Clone(s.streams) {
		if a.heartbeat == 0 || now < a.silentAt(s) {
			continue
		}
		a.heartbeat = 0 // end the stream only once
		a.stream.End(Heartbeat)
	}
}

// endLostMemberships ends the memberships of a connected session that have been lost for the session timeout.
func (s *Session) endLostMemberships(now moment) {
	s.members = slices.DeleteFunc(s.members, func(m member) bool {
		over := m.streams == 0 && now >= m.lost.add(s.registry.timeout)
		if over {
			s.record(Leave, m.filter, m.why)
		}
		return over
	})
}
