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
	q, err := parameters(r, historyParameters...)
	if err != nil {
		return err
	}
	return a.writeHistory(w, r, g, q, group.Set{f})
}

// historyOfSeveral is history for several filters.
func (a *api) historyOfSeveral(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	q, err := parameters(r, append([]string{"group"}, historyParameters...)...)
	if err != nil {
		return err
	}
	set, err := a.filters(q.values["group"])
	if err != nil {
		return err
	}
	for _, f := range set {
		if err := a.hub.CheckRead(g, f); err != nil {
			return err
		}
	}
	return a.writeHistory(w, r, g, q, set)
}

// pollParameters are the parameters of history that need wait.
var pollParameters = []string{"retained", "echo", "session"}

var historyParameters = append([]string{"since", "last", "limit", "wait"}, pollParameters...)

// writeHistory answers with the stored messages of some filters, or with a poll.
func (a *api) writeHistory(w http.ResponseWriter, r *http.Request, g *access.Grant, q query, set group.Set) error {
	from, err := q.from(hub.From{All: true})
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	if _, ok := q.has("wait"); ok {
		return a.poll(w, r, q, &hub.Subscription{Grant: g, Filters: set, From: from}, limit)
	}
	for _, name := range pollParameters {
		if _, ok := q.has(name); ok {
			return &problem{status: http.StatusBadRequest, code: "parameter-unknown", parameter: name,
				detail: name + " needs wait, such as wait=30s"}
		}
	}
	h := hub.History{Filters: set, From: from, Limit: limit}
	return a.writeMessages(w, r, "history", func(l lister) error {
		next, err := a.hub.Replay(r.Context(), &h, answerTo(l))
		if err != nil {
			return err
		}
		return l.end(next)
	})
}

func answerTo(l lister) hub.Answer {
	return hub.Answer{Message: l.message, Retained: l.retained, Gap: l.gap}
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
	in := hub.Retained{Filters: group.Set{f}}
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

// messagesMedia returns the media type of an answer with messages that the request accepts.
func messagesMedia(r *http.Request, what string) (string, error) {
	media := accepted(r, jsonMedia, ndjsonMedia)
	if media == "" {
		return "", &problem{status: http.StatusNotAcceptable, code: "not-acceptable", parameter: "Accept",
			detail: what + " is " + jsonMedia + " or " + ndjsonMedia}
	}
	return media, nil
}

// writeMessages answers with the messages that read passes to the lister, in the media type that the
// request accepts.
func (a *api) writeMessages(w http.ResponseWriter, r *http.Request, what string, read func(lister) error) error {
	media, err := messagesMedia(r, what)
	if err != nil {
		return err
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
