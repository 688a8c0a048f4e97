package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/httplog/v3"
)

// Log lines of requests name the route, not the path or the query, and a code, not a value that the
// client sent, because paths, queries, headers and values may contain secrets.

// logged logs every request with httplog, at level debug. If the logger has debug lines disabled, it
// costs one check.
func (a *api) logged(next http.Handler) http.Handler {
	debug := slog.New(atDebug{a.opts.Logger.Handler()})
	options := &httplog.Options{Level: slog.LevelDebug, Schema: httplog.SchemaECS.Concise(true)}
	log := httplog.RequestLogger(debug, options)(http.HandlerFunc(func(w http.ResponseWriter, shown *http.Request) {
		r := shown.Context().Value(originalRequest{}).(*http.Request)
		httplog.SetAttrs(shown.Context(), slog.String("remote", r.RemoteAddr))
		next.ServeHTTP(w, r.WithContext(context.WithValue(shown.Context(), shownURL{}, shown.URL)))
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.opts.Logger.Enabled(r.Context(), slog.LevelDebug) {
			next.ServeHTTP(w, r)
			return
		}
		shown := &http.Request{Method: method(r), URL: &url.URL{Opaque: noRoute}, Proto: r.Proto, ProtoMajor: r.ProtoMajor, RemoteAddr: r.RemoteAddr}
		log.ServeHTTP(w, shown.WithContext(context.WithValue(r.Context(), originalRequest{}, r)))
	})
}

// method returns the method of a request. An unknown method may contain anything, even a secret.
func method(r *http.Request) string {
	switch r.Method {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH":
		return r.Method
	}
	return "(unknown method)"
}

type (
	originalRequest struct{} // context key of the original request, which httplog does not see
	shownURL        struct{} // context key of the URL that httplog logs
)

// atDebug is a handler that lowers all records of httplog to level debug.
type atDebug struct{ slog.Handler }

func (h atDebug) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

func (h atDebug) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return h.Handler.Handle(ctx, r)
}

func (h atDebug) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atDebug{h.Handler.WithAttrs(attrs)}
}
func (h atDebug) WithGroup(name string) slog.Handler { return atDebug{h.Handler.WithGroup(name)} }

// logRoute makes httplog log the route instead of the path.
func logRoute(r *http.Request) {
	if u, ok := r.Context().Value(shownURL{}).(*url.URL); ok {
		u.Opaque = routeOf(r) // Path would be escaped
	}
}

// logProblem adds the code of a failed request to its debug line, and logs a failure of the server as an
// error with its reason.
func (a *api) logProblem(r *http.Request, p *problem, reason error) {
	httplog.SetAttrs(r.Context(), slog.String("code", p.code))
	if p.parameter != "" && p.code != "parameter-unknown" { // the client chose that name
		httplog.SetAttrs(r.Context(), slog.String("parameter", p.parameter))
	}
	if p.status < http.StatusInternalServerError || !a.outages.due(p.code) {
		return
	}
	a.opts.Logger.ErrorContext(context.WithoutCancel(r.Context()), "request failed",
		"method", method(r), "route", routeOf(r), "remote", r.RemoteAddr, "status", p.status, "code", p.code, "reason", reason)
}

// noRoute is logged for a request that no route serves or that was refused before routing.
const noRoute = "(no route)"

// routeOf returns the pattern of the route that serves a request.
func routeOf(r *http.Request) string {
	c := chi.RouteContext(r.Context())
	if c == nil {
		return groupsPath + "*" // see route
	}
	return cmp.Or(c.RoutePattern(), noRoute)
}

// outages keeps lasting failures from filling the log. With too many groups, for example, every POST
// to a new group fails, and one line a minute is enough.
type outages struct {
	mu   sync.Mutex
	last map[string]time.Time // by code, the last time it was logged as an error
}

// outageEvery is how often a lasting failure is logged.
const outageEvery = time.Minute

// lasting has the codes of failures that may last. Codes with false are not logged here.
var lasting = map[string]bool{
	"shutting-down": false, // expected
	"given-up":      false, // the client or middleware canceled
	"store-full":    false, // logged by the hub, which also logs when it ends

	// Logged by the store, which also logs when it ends.
	"store-away": false, "unknown-outcome": false,

	"store-read-only": true, "too-many-groups": true, "too-many-streams": true, "program-busy": true, "server-busy": true,
	"too-many-sessions": true, "too-many-wills": true, "too-many-policies": true,
	"hub-away": true,
}

// due reports whether a failure with this code should be logged as an error now.
func (o *outages) due(code string) bool {
	logHere, lasts := lasting[code]
	if !lasts || !logHere {
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
