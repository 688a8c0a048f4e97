package hub

import (
	"context"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// Session describes a session and the progress of its streams.
type Session struct {
	session.Info
	Open int    // open streams
	Lag  Amount // messages not yet sent to the stream that is furthest behind
	Sent Amount // messages sent to its open streams
}

// Amount is a number of messages and their total size.
type Amount struct{ Messages, Bytes uint64 }

// Session returns the session uid, or session.ErrUnknown, or store.ErrAway if it is not certain that there is none.
func (h *Hub) Session(uid string) (Session, error) {
	caughtUp := h.cluster.catchUpToShow() // another hub may have ended it
	i, err := h.sessions.Get(uid)
	if err != nil && !caughtUp {
		err = h.ifKnown(context.Background(), func() (err error) {
			i, err = h.sessions.Get(uid)
			return err
		})
	}
	if err != nil {
		return Session{}, err
	}
	s := h.describe(i)
	h.cluster.addTraits([]*Session{&s})
	return s, nil
}

// Presence yields the sessions with a filter that overlaps f: those that would get a message to some
// group that f matches. They come in the order in which they began. Presence stops at the first error
// of yield and returns it.
func (h *Hub) Presence(f group.Filter, yield func(*session.Info) error) error {
	h.cluster.catchUpToShow()
	return h.sessions.List(f.Overlaps, yield)
}

// progress is what each session.Stream of the hub tells about itself.
type progress interface {
	Sent() (messages, bytes uint64)
	Position() store.Seq
	Behind() bool
}

func (h *Hub) describe(i session.Info) Session {
	s := Session{Info: i}
	s.add(h.traits(i))
	return s
}

// traits returns the figures of a session's streams at this hub.
func (h *Hub) traits(i session.Info) traits {
	s := traits{Open: len(i.Streams), Left: i.Left}
	for _, st := range i.Streams {
		stream := st.(progress)
		messages, bytes := stream.Sent()
		s.Sent.Messages += messages
		s.Sent.Bytes += bytes
		if lag := h.lag(i.Filters, stream.Position()); lag.Messages > s.Lag.Messages {
			s.Lag = lag
		}
	}
	return s
}

// maxLag is how many bytes of unsent messages are counted for a stream. Counting all of them, for
// thousands of slow streams, would slow them down further.
const maxLag = 1 << 20

// lag counts the messages after a stream's position, up to maxLag.
func (h *Hub) lag(filters group.Set, after store.Seq) (a Amount) {
	_, newest := h.log.Bounds()
	if after >= newest.Seq {
		return Amount{}
	}
	b := batches.Get().(*store.Batch)
	defer batches.Put(b)
	for q := (store.Query{Select: filters, After: after, Through: newest.Seq}); q.After < newest.Seq && a.Bytes < maxLag; q.After = b.Next {
		if err := h.log.Read(q, b); err != nil || b.Epoch != newest.Epoch {
			return a
		}
		a.Messages += uint64(len(b.Frames))
		a.Bytes += uint64(len(b.Buf))
	}
	return a
}

// HubNames returns the names of the hubs where the session has streams, or nil if no other hub shares the log.
func (s *Session) HubNames(h *Hub) []string {
	if h.cluster == nil {
		return nil
	}
	return h.cluster.names(s.Hubs)
}
