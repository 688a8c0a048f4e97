package api

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// Headers of the API.
const (
	sessionHeader     = "Watchbox-Session"
	idempotencyHeader = "Idempotency-Key"
	replayedHeader    = "Idempotency-Replayed"
	lastEventIDHeader = "Last-Event-Id"
)

// rest returns the rest of the path: a group's name or a filter. It includes slashes, whether they
// are written as / or as %2F.
func rest(r *http.Request) (string, error) {
	if chi.RouteContext(r.Context()) == nil { // see route
		return strings.TrimPrefix(r.URL.Path, groupsPath), nil
	}
	s := chi.URLParam(r, "*")
	if r.URL.RawPath == "" {
		return s, nil
	}
	s, err := url.PathUnescape(s) // chi routes by the escaped path
	if err != nil {
		return "", &problem{status: http.StatusBadRequest, code: "group-invalid", detail: err.Error()}
	}
	return s, nil
}

// pathFilter returns the filter that the path names.
func pathFilter(r *http.Request) (group.Filter, error) {
	s, err := rest(r)
	if err != nil {
		return group.Filter{}, err
	}
	return filter(s)
}

func filter(s string) (group.Filter, error) {
	f, err := group.ParseFilter(s)
	if err != nil {
		return f, &problem{status: http.StatusBadRequest, code: "filter-invalid", detail: err.Error()}
	}
	return f, nil
}

// query holds the parameters of a request.
type query struct{ values url.Values }

// parameters parses the query. A parameter that is not in names or appears twice is an error. Only
// group may be repeated.
func parameters(r *http.Request, names ...string) (query, error) {
	if r.URL.RawQuery == "" {
		return query{}, nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, &problem{status: http.StatusBadRequest, code: "parameter-invalid",
			detail: "the query does not parse: " + err.Error()}
	}
	for name, list := range values {
		if !slices.Contains(names, name) {
			return query{}, &problem{status: http.StatusBadRequest, code: "parameter-unknown", parameter: name,
				detail: fmt.Sprintf("there is no parameter %.64q here; %s", name, listOf(names))}
		}
		if len(list) > 1 && name != "group" {
			return query{}, badParameter(name, "appears %d times; send it once", len(list))
		}
	}
	return query{values}, nil
}

func listOf(names []string) string {
	if len(names) == 0 {
		return "this call has none"
	}
	return "the parameters are " + strings.Join(names, ", ")
}

// has returns a parameter and whether it is present.
func (q query) has(name string) (string, bool) {
	list := q.values[name]
	if len(list) == 0 {
		return "", false
	}
	return list[0], true
}

// flag returns a parameter that is true or false.
func (q query) flag(name string, otherwise bool) (bool, error) {
	s, ok := q.has(name)
	switch {
	case !ok:
		return otherwise, nil
	case s == "true", s == "false":
		return s == "true", nil
	}
	return false, badParameter(name, "%.64q is neither true nor false", s)
}

// duration returns a parameter that is a duration within bounds, or 0 if it is absent.
func (q query) duration(name string, limits duration.Range) (time.Duration, error) {
	s, ok := q.has(name)
	if !ok {
		return 0, nil
	}
	d, err := limits.Parse(s)
	if err != nil {
		return 0, badParameter(name, "%s", err)
	}
	return d, nil
}

// count returns a parameter that is a number of at least least, or nil if it is absent.
func (q query) count(name string, least int) (*int, error) {
	s, ok := q.has(name)
	if !ok {
		return nil, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	i := int(n)
	if err != nil || i < least {
		return nil, badParameter(name, "%.64q is not a whole number from %d to %d", s, least, math.MaxInt32)
	}
	return &i, nil
}

// limit returns the parameter limit, or 0 if it is absent.
func (q query) limit() (int, error) {
	n, err := q.count("limit", 1)
	if err != nil || n == nil {
		return 0, err
	}
	return *n, nil
}

// id returns a parameter that is the id of a message, or "" if it is absent.
func (q query) id(name string) (string, error) {
	s, ok := q.has(name)
	if !ok {
		return "", nil
	}
	if _, err := store.ParseID(s); err != nil {
		return "", badParameter(name, "%.64q is not the id of a message, such as 4k7q9x-1042", s)
	}
	return s, nil
}

// sinceForms describes the values of since.
const sinceForms = "send all, a duration such as 10m or 7d, an RFC 3339 time, or the id of a message"

// from returns where to start, or otherwise if the request has neither since nor last.
func (q query) from(otherwise hub.From) (hub.From, error) {
	last, err := q.count("last", 0)
	if err != nil {
		return hub.From{}, err
	}
	since, ok := q.has("since")
	switch {
	case ok && last != nil:
		return hub.From{}, badParameter("last", "since and last exclude each other")
	case last != nil:
		return hub.From{Last: last}, nil
	case !ok:
		return otherwise, nil
	case since == "all":
		return hub.From{All: true}, nil
	}
	if d, err := duration.Parse(since); err == nil {
		if d < 0 {
			return hub.From{}, badParameter("since", "%.64q is a duration in the future; %s", since, sinceForms)
		}
		return hub.From{Since: time.Now().Add(-d)}, nil
	}
	// An unescaped + has become a space. No time contains a space.
	if t, err := time.Parse(time.RFC3339, strings.ReplaceAll(since, " ", "+")); err == nil {
		return hub.From{Since: t, All: t.IsZero()}, nil // hub.From treats the zero time as unset
	}
	if _, err := store.ParseID(since); err == nil {
		return hub.From{Resume: since}, nil
	}
	return hub.From{}, badParameter("since", "%.64q is not valid; %s", since, sinceForms)
}

// secret returns the session's secret from the header or, if the call allows it, from the query.
func (q query) secret(r *http.Request) (string, error) {
	list := r.Header[sessionHeader]
	if len(list) == 0 {
		list = q.values["session"]
	}
	switch len(list) {
	case 0:
		return "", nil
	case 1:
		return list[0], session.CheckSecret(list[0])
	}
	return "", &problem{status: http.StatusBadRequest, code: "session-invalid", parameter: sessionHeader,
		detail: sessionHeader + " appears more than once; a request belongs to one session"}
}
