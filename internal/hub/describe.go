package hub

import (
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// Session describes a session and the progress of its streams.
type Session struct {
	session.Info
	Open int    // open streams
	Lag  Amount // of the stream that is furthest behind: what it has not been sent
	Sent Amount // to its open streams
}

// Amount is a number of messages and of their bytes.
type Amount struct{ Messages, Bytes uint64 }

// Sessions yields those that are connected, or were a moment ago, in the order in which they
// began, until yield fails.
func (h *Hub) Sessions(yield func(*Session) error) error {
	return h.sessions.List(nil, func(i *session.Info) error {
		s := h.describe(*i)
		return yield(&s)
	})
}

// Session returns one session.
func (h *Hub) Session(uid string) (Session, error) {
	i, err := h.sessions.Get(uid)
	if err != nil {
		return Session{}, err
	}
	return h.describe(i), nil
}

// Presence yields the sessions that would get a message to some group that the filter matches, in
// the order in which they began, until yield fails.
func (h *Hub) Presence(f group.Filter, yield func(*session.Info) error) error {
	return h.sessions.List(f.Overlaps, yield)
}

func (h *Hub) describe(i session.Info) Session {
	s := Session{Info: i, Open: len(i.Streams)}
	for _, st := range i.Streams {
		stream := st.(sessionStream)
		messages, bytes := stream.Sent()
		s.Sent.Messages += messages
		s.Sent.Bytes += bytes
		if lag := h.lag(i.Filters, stream.Position()); lag.Messages > s.Lag.Messages {
			s.Lag = lag
		}
	}
	return s
}

// lagMost is how many bytes of what a stream has before it are counted: to know more of thousands
// that are slow would make them slower.
const lagMost = 1 << 20

// lag counts what a stream at a position has before it, up to lagMost.
func (h *Hub) lag(filters group.Set, after store.Seq) (a Amount) {
	_, newest := h.log.Bounds()
	if after >= newest.Seq {
		return Amount{}
	}
	b := batches.Get().(*store.Batch)
	defer batches.Put(b)
	for q := (store.Query{Select: filters, After: after, Through: newest.Seq}); q.After < newest.Seq && a.Bytes < lagMost; q.After = b.Next {
		if err := h.log.Read(q, b); err != nil {
			return a
		}
		a.Messages += uint64(len(b.Frames))
		a.Bytes += uint64(len(b.Buf))
	}
	return a
}
