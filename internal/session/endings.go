package session

import "time"

// Ending says when and why a stream ended.
type Ending struct {
	Time   time.Time
	Reason Reason
}

// maxEndings is how many endings are kept of each session.
const maxEndings = 4

// endings are the last endings of a session's streams.
type endings struct {
	count int
	last  [maxEndings]struct {
		at  int64 // Unix nanoseconds
		why Reason
	}
}

// noteEnd remembers that a stream has ended.
func (s *Session) noteEnd(why Reason) {
	if s.endings == nil {
		s.endings = &endings{}
	}
	e := s.endings
	e.last[e.count%maxEndings].at, e.last[e.count%maxEndings].why = time.Now().UnixNano(), why
	e.count++
}

// list returns the endings, the newest first.
func (e *endings) list() (out []Ending) {
	if e == nil {
		return nil
	}
	for i := e.count - 1; i >= max(0, e.count-maxEndings); i-- {
		x := &e.last[i%maxEndings]
		out = append(out, Ending{time.Unix(0, x.at), x.why})
	}
	return out
}
