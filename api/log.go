package api

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
)

// Log lines of requests name the route, not the path or the query, and a code, not a value that the
// client sent, because paths, queries and values may contain secrets.

// logRequest logs a successful request at level debug.
func (a *api) logRequest(r *http.Request) {
	if l := a.opts.Logger; l.Enabled(r.Context(), slog.LevelDebug) {
		l.Debug("request", requestAttrs(r)...)
	}
}

// logProblem logs a failed request: a mistake of the client at level debug, a failure of the server as
// an error with its reason.
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
	if p.parameter != "" && p.code != "parameter-unknown" { // the name is the client's own
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
	route := r.Pattern // set by route, without the router
	if c := chi.RouteContext(r.Context()); c != nil {
		route = c.RoutePattern()
	}
	return []any{"method", r.Method, "route", route, "remote", r.RemoteAddr}
}

// outages keeps lasting failures from filling the log. With too many groups, for example, every POST
// to a new group fails, and one line a minute is enough.
type outages struct {
	mu   sync.Mutex
	last map[string]time.Time // by code, the last time it was logged as an error
}

// outageEvery is how often a lasting failure is logged.
const outageEvery = time.Minute

// lasting has the codes of failures that last. Those with false are not logged here.
var lasting = map[string]bool{
	"shutting-down": false, // expected
	"given-up":      false, // the client or middleware canceled
	"store-full":    false, // logged by the hub, which also knows when it is over

	"store-read-only": true, "too-many-groups": true, "too-many-streams": true, "program-busy": true, "server-busy": true,
	"too-many-sessions": true, "too-many-wills": true, "too-many-policies": true,
}

// news reports whether a failure with this code is logged as an error now.
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
