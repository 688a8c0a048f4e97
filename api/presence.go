package api

import (
	"net/http"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// presentJSON is a session in an answer about presence.
type presentJSON struct {
	UID     string     `json:"uid"`
	State   string     `json:"state"`
	Since   time.Time  `json:"since"`
	Lost    *time.Time `json:"lost,omitempty"`
	Filters []string   `json:"filters"` // those that overlap with the requested filter
}

// presence lists the sessions with a subscription that overlaps with a filter.
func (a *api) presence(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	if _, err := parameters(r); err != nil {
		return err
	}
	if err := a.hub.CheckRead(g, f); err != nil {
		return err
	}
	begin := string(store.AppendQuote([]byte(`{"filter":`), f.String())) + `,"presence":[`
	return a.writeList(w, r, begin, func(add func(any) error) (string, error) {
		return "", a.hub.Presence(f, func(s *session.Info) error {
			return add(presentJSON{s.UID, state(s.Lost), shown(s.Since), lostTime(s.Lost), texts(s.Filters)})
		})
	})
}
