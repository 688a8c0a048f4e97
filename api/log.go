package api

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
)

// Log lines of requests tell the route and not the path or the query, a code and no value that the
// client sent: each of these may be, or contain, a secret.

// logRequest logs a request that was answered, for who wants to see each.
func (a *api) logRequest(r *http.Request) {
	if l := a.opts.Logger; l.Enabled(r.Context(), slog.LevelDebug) {
		l.Debug("request", requestAttrs(r)...)
	}
}

// logProblem logs a request that was refused: a mistake of the client at level debug, a failure of
// the server as an error, with its reason.
func (a *api) logProblem(r *http.Request, p *problem, reason error) {
	level := slog.LevelDebug
	if p.status >= http.StatusInternalServerError && a.outages.news(p.code) {
		level = slog.LevelError
	}
	l := a.opts.Logger
	if !l.Enabled(r.Context(), level) {
		return
	}
	attrs := append(requestAttrs(r), "status", p.status, "code", p.code)
	if p.parameter != "" && p.code != "parameter-unknown" { // the client has made that name up
		attrs = append(attrs, "parameter", p.parameter)
	}
	text := "request refused"
	if p.status >= http.StatusInternalServerError {
		text = "request failed"
		attrs = append(attrs, "reason", reason)
	}
	l.Log(context.WithoutCancel(r.Context()), level, text, attrs...)
}

func requestAttrs(r *http.Request) []any {
	route := r.Pattern // set where no router was asked
	if c := chi.RouteContext(r.Context()); c != nil {
		route = c.RoutePattern()
	}
	return []any{"method", r.Method, "route", route, "remote", r.RemoteAddr}
}

// outages keeps what lasts from filling the log: with a full disk, say, each POST fails, and the
// first one is worth a line.
type outages struct {
	mu   sync.Mutex
	last map[string]time.Time // by code, the last time it was logged as an error
}

// outageEvery is how often what lasts is logged.
const outageEvery = time.Minute

// lasting are the codes of what lasts: false where others log it.
var lasting = map[string]bool{
	"shutting-down": false, // expected
	"given-up":      false, // the client's, or of what is around the hub
	"store-full":    false, // logged by the hub, which also knows when it is over

	"store-read-only": true, "too-many-groups": true, "too-many-streams": true, "program-busy": true, "server-busy": true,
}

// news reports whether a failure with that code is to be logged as an error.
func (o *outages) news(code string) bool {
	here, lasts := lasting[code]
	if !lasts || !here {
		return !lasts
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.last[code]) < outageEvery {
		return false
	}
	if o.last == nil {
		o.last = map[string]time.Time{}
	}
	o.last[code] = time.Now()
	return true
}
