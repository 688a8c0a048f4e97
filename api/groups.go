package api

import (
	"net/http"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
)

// groupJSON is a group in an answer.
type groupJSON struct {
	Group       string  `json:"group"`
	Messages    int64   `json:"messages"`
	Bytes       int64   `json:"bytes"`
	Rate        float64 `json:"rate"`
	Subscribers int     `json:"subscribers"`
	Retained    bool    `json:"retained"`
	Oldest      string  `json:"oldest,omitempty"`
	Newest      string  `json:"newest,omitempty"`
}

// groups lists the groups that hold messages.
func (a *api) groups(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	q, err := parameters(r, "filter")
	if err != nil {
		return err
	}
	f, _ := group.ParseFilter("#")
	if s, ok := q.has("filter"); ok {
		if f, err = filter(s); err != nil {
			return err
		}
		if err := a.hub.Readable(f); err != nil {
			return err
		}
	}
	epoch := a.hub.Epoch()
	id := func(seq store.Seq) string {
		if seq == 0 {
			return ""
		}
		return store.ID{Epoch: epoch, Seq: seq}.String()
	}
	return a.writeList(w, r, `{"groups":[`, func(add func(any) error) error {
		return a.hub.Groups(g, f, func(g *hub.Group) error {
			return add(groupJSON{
				g.Group, g.Messages, g.Bytes, g.Rate, g.Subscribers, g.Retained, id(g.Oldest), id(g.Newest),
			})
		})
	})
}

// purge evicts all messages of the groups that a filter matches.
func (a *api) purge(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	if _, err := parameters(r); err != nil {
		return err
	}
	if err := a.hub.Purge(r.Context(), f); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
