package api

import (
	"net/http"
	"time"

	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// presentJSON is who listens to what was asked for.
type presentJSON struct {
	UID     string     `json:"uid"`
	State   string     `json:"state"`
	Since   time.Time  `json:"since"`
	Lost    *time.Time `json:"lost,omitempty"`
	Filters []string   `json:"filters"` // of its own, those that have to do with it
}

// presence lists who listens.
func (a *api) presence(w http.ResponseWriter, r *http.Request) error {
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	if _, err := parameters(r); err != nil {
		return err
	}
	begin := string(store.AppendQuote([]byte(`{"filter":`), f.String())) + `,"presence":[`
	return writeList(w, r, begin, func(add func(any) error) error {
		return a.hub.Presence(f, func(s *session.Info) error {
			return add(presentJSON{s.UID, state(s.Lost), shown(s.Since), lostTime(s.Lost), texts(s.Filters)})
		})
	})
}
