package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// subscribe opens a stream for one filter.
func (a *api) subscribe(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	f, err := pathFilter(r)
	if err != nil {
		return err
	}
	q, err := parameters(r, subscribeParameters...)
	if err != nil {
		return err
	}
	return a.stream(w, r, g, q, group.Set{f})
}

// subscribeEvents opens a stream for several filters. The parameter stream is an alias of group, for clients
// of r3labs/sse.
func (a *api) subscribeEvents(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	q, err := parameters(r, append([]string{"group", "stream"}, subscribeParameters...)...)
	if err != nil {
		return err
	}
	set, err := a.filters(slices.Concat(q.values["group"], q.values["stream"]))
	if err != nil {
		return err
	}
	return a.stream(w, r, g, q, set)
}

// filters returns the filters of a request that names several, without repetitions.
func (a *api) filters(list []string) (set group.Set, err error) {
	if most := a.hub.Options().MaxFilters; len(list) > most {
		return nil, &problem{status: http.StatusBadRequest, code: "too-many-filters", parameter: "group",
			detail: fmt.Sprintf("a stream has at most %[2]d filters, not %[1]d", len(list), most)}
	}
	for _, s := range list {
		f, err := filter(s)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(set, f) {
			set = append(set, f)
		}
	}
	if len(set) == 0 {
		return nil, badParameter("group", "name at least one, such as ?group=foo&group=bar/%%23")
	}
	return set, nil
}

var subscribeParameters = []string{"since", "last", "last_event_id", lastEventIDAlias, "format", "echo", "heartbeat", "session"}

func (a *api) stream(w http.ResponseWriter, r *http.Request, g *access.Grant, q query, set group.Set) error {
	s, err := subscription(r, q)
	if err != nil {
		return err
	}
	if accepted(r, sse.ContentType) == "" {
		return &problem{status: http.StatusNotAcceptable, code: "not-acceptable", parameter: "Accept",
			detail: "this is a stream of type text/event-stream; use /v1/history for JSON"}
	}
	s.Grant, s.Filters = g, set
	if r.Method == http.MethodHead {
		sse.SetHeader(w.Header())
		if err := a.hub.Check(s); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK) // see explicit
		return nil
	}
	l, err := a.hub.Subscribe(r.Context(), s)
	switch {
	case errors.Is(err, store.ErrAway) && accepted(r, problemType) == "":
		a.comeBack(w)
		return nil
	case err != nil:
		return err
	}
	opened := false
	defer func() { // also if middleware panics
		if !opened {
			l.Cancel()
		}
	}()
	conn, err := sse.Open(w, r, a.hub.Poller(), l.Hello())
	if err != nil {
		if errors.Is(err, http.ErrNotSupported) {
			return &problem{status: http.StatusInternalServerError, code: "cannot-stream",
				detail: "no event stream can be sent through a ResponseWriter that cannot be flushed: " + err.Error()}
		}
		return nil // the client left before the stream began
	}
	opened = true
	l.Run(conn)
	return nil
}

// comeBack refuses a client that accepts nothing but an event stream: the stream ends at once. An EventSource then reconnects with
// the id that it has. It would never return after a 503 (WHATWG HTML, 9.2.2).
func (a *api) comeBack(w http.ResponseWriter) {
	sse.SetHeader(w.Header())
	_, _ = w.Write(a.hub.Bye("store-away")) // an error means that the client is gone
}

// subscription returns the subscription without its filters.
func subscription(r *http.Request, q query) (s *hub.Subscription, err error) {
	s = &hub.Subscription{Address: host(r.RemoteAddr), Remote: r.RemoteAddr, UserAgent: r.UserAgent(), Protocol: protocol(r)}
	if s.From, err = q.from(hub.From{}); err != nil {
		return nil, err
	}
	id, err := resumeID(r, q)
	if err != nil {
		return nil, err
	}
	if id != "" {
		s.From = hub.From{Resume: id}
	}
	switch format, ok := q.has("format"); {
	case !ok || format == "json":
	case format == "raw":
		s.Raw = true
	default:
		return nil, badParameter("format", "%.64q is neither json nor raw", format)
	}
	echo, err := q.flag("echo", true)
	if err != nil {
		return nil, err
	}
	s.NoEcho = !echo
	if s.Heartbeat, err = q.duration("heartbeat", hub.Heartbeats); err != nil {
		return nil, err
	}
	s.Secret, err = q.secret(r)
	return s, err
}

// protocol names the protocol of a request as ALPN does (RFC 7301), but HTTP/2 is http/2.
func protocol(r *http.Request) string {
	if r.ProtoMajor == 1 {
		return "http/1." + strconv.Itoa(r.ProtoMinor)
	}
	return "http/" + strconv.Itoa(r.ProtoMajor)
}

// lastEventIDAlias is the name that event-source-polyfill uses for last_event_id.
const lastEventIDAlias = "lastEventId"

// resumeID returns the id after which a client resumes, or "". The header takes precedence, because
// an EventSource that reconnects sends it together with its first query.
func resumeID(r *http.Request, q query) (string, error) {
	id, ok := q.has("last_event_id")
	alias, also := q.has(lastEventIDAlias)
	if ok && also && id != alias {
		return "", badParameter(lastEventIDAlias, "differs from last_event_id, which means the same; send only one of them")
	}
	return cmp.Or(r.Header.Get(lastEventIDHeader), id, alias), nil
}
