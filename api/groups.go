package api

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
)

// groupJSON is a row of an answer.
type groupJSON struct {
	Group       string  `json:"group"`
	Messages    int64   `json:"messages"`
	Bytes       int64   `json:"bytes"`
	Rate        float64 `json:"rate"`
	Subscribers int     `json:"subscribers"`
	Retained    bool    `json:"retained"`
	Oldest      string  `json:"oldest,omitempty"`
	Newest      string  `json:"newest,omitempty"`
	Groups      *int    `json:"groups,omitempty"` // with depth, as below
	Below       *int    `json:"below,omitempty"`
}

// groups lists the groups that hold messages.
func (a *api) groups(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	q, err := a.groupListing(r)
	if err != nil {
		return err
	}
	epoch := a.hub.Epoch()
	id := func(seq store.Seq) string {
		if seq == 0 {
			return ""
		}
		return store.ID{Epoch: epoch, Seq: seq}.String()
	}
	return a.writeList(w, r, `{"groups":[`, func(add func(any) error) (string, error) {
		return a.hub.Groups(g, q, func(g *hub.Group) error {
			row := groupJSON{
				Group: g.Group, Messages: g.Messages, Bytes: g.Bytes, Rate: g.Rate, Subscribers: g.Subscribers,
				Retained: g.Retained, Oldest: id(g.Oldest), Newest: id(g.Newest),
			}
			if q.Depth > 0 {
				row.Groups, row.Below = &g.Groups, &g.Below
			}
			return add(row)
		})
	})
}

// groupListing returns the list that a request asks for.
func (a *api) groupListing(r *http.Request) (*hub.Listing, error) {
	q, err := parameters(r, "filter", "prefix", "depth", "sort", "limit", "after")
	if err != nil {
		return nil, err
	}
	l := &hub.Listing{}
	if s, ok := q.has("filter"); ok {
		if l.Filter, err = filter(s); err != nil {
			return nil, err
		}
		if err := a.hub.Readable(l.Filter); err != nil {
			return nil, err
		}
	}
	if s, ok := q.has("prefix"); ok {
		if l.Prefix, err = a.prefix(s); err != nil {
			return nil, err
		}
	}
	if l.Depth, err = q.number("depth", group.MaxLevels); err != nil {
		return nil, err
	}
	if l.Sort, err = choice(q, "sort", hub.GroupOrders); err != nil {
		return nil, err
	}
	if l.Limit, l.After, err = q.page(l.Sort != hub.SortName); err != nil {
		return nil, err
	}
	return l, l.Check()
}

// prefix checks the prefix of groups' names.
func (a *api) prefix(s string) (string, error) {
	switch {
	case len(s) > group.MaxBytes || !utf8.ValidString(s):
		return "", badParameter("prefix", "is longer than %d bytes, or not UTF-8", group.MaxBytes)
	case strings.ContainsAny(s, "+#"):
		return "", badParameter("prefix", "%.64q has a wildcard: a prefix is the beginning of names; use filter for a pattern", s)
	}
	return s, a.hub.ReadablePrefix(s)
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
