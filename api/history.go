package api

import (
	"bufio"
	"net/http"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
)

const (
	jsonMedia   = "application/json"
	formMedia   = "application/x-www-form-urlencoded" // curl's default
	ndjsonMedia = "application/x-ndjson"
)

// history answers with the stored messages and writes them as they are read.
func (a *api) history(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	if err := a.hub.CheckRead(g, f); err != nil {
		return err
	}
	q, err := parameters(r, "since", "last", "limit")
	if err != nil {
		return err
	}
	h := hub.History{Filters: group.Set{f}}
	if h.From, err = q.from(hub.From{All: true}); err != nil {
		return err
	}
	if h.Limit, err = q.limit(); err != nil {
		return err
	}
	return a.writeMessages(w, r, "history", func(l lister) error {
		next, err := a.hub.Replay(r.Context(), &h, l.message, l.gap)
		if err != nil {
			return err
		}
		return l.end(next)
	})
}

// retained answers with the retained messages and writes them as they are read.
func (a *api) retained(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	if err := a.hub.CheckRead(g, f); err != nil {
		return err
	}
	q, err := parameters(r, "since", "limit")
	if err != nil {
		return err
	}
	in := hub.Retained{Filter: f}
	if in.After, err = q.id("since"); err != nil {
		return err
	}
	if in.Limit, err = q.limit(); err != nil {
		return err
	}
	return a.writeMessages(w, r, "the list of retained messages", func(l lister) error {
		next, err := a.hub.Retained(r.Context(), &in, l.retained)
		if err != nil {
			return err
		}
		return l.end(next)
	})
}

// writeMessages answers with the messages that read passes to the lister, in the media type that the
// request accepts.
func (a *api) writeMessages(w http.ResponseWriter, r *http.Request, what string, read func(lister) error) error {
	media := accepted(r, jsonMedia, ndjsonMedia)
	if media == "" {
		return &problem{status: http.StatusNotAcceptable, code: "not-acceptable", parameter: "Accept",
			detail: what + " is " + jsonMedia + " or " + ndjsonMedia}
	}
	if a.hub.Closing() {
		return hub.ErrClosed
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Add("Vary", "Accept")
	w.Header()["X-Content-Type-Options"] = noSniff
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK) // see explicit
		return nil
	}
	return a.writeLong(w, r, func(out *bufio.Writer) error {
		if media == jsonMedia {
			return read(&objectLister{out: out, comma: `{"messages":[`})
		}
		return read(&lineLister{out: out})
	})
}
