package session

import (
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Info describes a session without its secret.
type Info struct {
	UID     string
	Subject string // that it belongs to
	Client  Client
	Since   time.Time
	Lost    time.Time // when it was lost; zero while it is connected
	Filters []group.Filter
	Streams []Stream // open at this hub
	Endings []Ending // of the last streams that ended at this hub, the newest first
	Hubs    []string // ids of the hubs where streams are open, if several hubs share the log
	Left    Position // that the stream which closed last at this hub had reached, if several hubs share the log
}

// List yields the sessions that have a wanted filter, with only their wanted filters. If wanted is nil,
// it yields all sessions with all filters. They come in the order in which they began. List stops at the
// first error of yield and returns it.
func (r *Registry) List(wanted func(group.Filter) bool, yield func(*Info) error) error {
	for s := range r.all() {
		if i, ok := s.info(wanted); ok {
			if err := yield(&i); err != nil {
				return err
			}
		}
	}
	return nil
}

// Get returns the session uid, or ErrUnknown.
func (r *Registry) Get(uid string) (Info, error) {
	var i Info
	s := r.find(uid)
	if s == nil {
		return i, ErrUnknown
	}
	i, ok := s.info(nil)
	if !ok {
		return i, ErrUnknown
	}
	return i, nil
}

func (s *Session) info(wanted func(group.Filter) bool) (i Info, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || !s.begun {
		return Info{}, false
	}
	i = s.describe(wanted)
	return i, wanted == nil || len(i.Filters) > 0
}

func (s *Session) describe(wanted func(group.Filter) bool) Info {
	i := Info{UID: s.uid, Subject: s.owner(), Client: s.client, Since: time.Unix(0, s.since)}
	if s.lost != 0 {
		i.Lost = time.Unix(0, s.lostAt)
	}
	for _, m := range s.members {
		if wanted == nil || wanted(m.filter) {
			i.Filters = append(i.Filters, m.filter)
		}
	}
	for _, a := range s.streams {
		i.Streams = append(i.Streams, a.stream)
	}
	i.Endings = s.endings.list()
	i.Hubs = s.hubs()
	if s.shared != nil {
		i.Left = s.shared.left
	}
	return i
}
