package session

import (
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Info describes a session without its secret.
type Info struct {
	UID     string
	Client  Client
	Since   time.Time
	Lost    time.Time // when it was; zero while it is here
	Filters []group.Filter
	Streams []Stream
}

// List yields the sessions that have a filter which is wanted, with those filters alone; all of
// them if wanted is nil. They come in the order in which they began, until yield fails.
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

// Listens reports whether a stream listens to a filter that is wanted.
func (r *Registry) Listens(wanted func(group.Filter) bool) bool {
	for s := range r.all() {
		if s.listens(wanted) {
			return true
		}
	}
	return false
}

func (s *Session) listens(wanted func(group.Filter) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.members, func(m member) bool { return m.streams > 0 && wanted(m.filter) })
}

// Get returns one session.
func (r *Registry) Get(uid string) (Info, error) {
	var i Info
	err := r.do(uid, func(s *Session) error {
		i = s.describe(nil)
		return nil
	})
	return i, err
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
	i := Info{UID: s.uid, Client: s.client, Since: time.Unix(0, s.since)}
	if s.lost != 0 {
		i.Lost = time.Now().Add(-time.Duration(rightNow() - s.lost))
	}
	for _, m := range s.members {
		if wanted == nil || wanted(m.filter) {
			i.Filters = append(i.Filters, m.filter)
		}
	}
	for _, a := range s.streams {
		i.Streams = append(i.Streams, a.stream)
	}
	return i
}
