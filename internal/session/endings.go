package session

import "time"

// Ending says when and why a stream ended.
type Ending struct {
	Time   time.Time
	Reason Reason
}

// maxEndings is how many endings are kept of each session.
const maxEndings = 4

// streamEnd is when and why a stream ended, and an earlier one.
type streamEnd struct {
	at      int64 // Unix nanoseconds
	why     Reason
	earlier *streamEnd
}

// noteEnd remembers that a stream has ended.
func (s *Session) noteEnd(why Reason) {
	s.endings = &streamEnd{time.Now().UnixNano(), why, s.endings}
	e := s.endings
	for range maxEndings - 1 {
		if e = e.earlier; e == nil {
			return
		}
	}
	e.earlier = nil
}

// list returns the endings, the newest first.
func (e *streamEnd) list() (out []Ending) {
	for ; e != nil; e = e.earlier {
		out = append(out, Ending{time.Unix(0, e.at), e.why})
	}
	return out
}
