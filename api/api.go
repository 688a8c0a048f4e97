// Package api is the HTTP API: it turns requests into calls of the hub, and results into responses.
// Start with routes.go, which lists every call in one table. openapi.yaml is the contract.
package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
)

// Options of the API.
type Options struct {
	Guard  Guard
	Ignore []string // names of query parameters to ignore, such as utm_*
	Spec   []byte   // openapi.yaml
	Web    Files    // the dashboard's files and the client for pages
	Logger *slog.Logger

	// Authorize returns the grant of a caller. Its errors are those of package access or of the
	// embedding program. nil: every caller may do everything.
	Authorize func(*http.Request) (*access.Grant, error)

	// MQTT serves MQTT clients that connect by WebSocket; nil: there are none.
	MQTT http.Handler

	// OpenMetrics lets everyone read /metrics.
	OpenMetrics bool

	// TrustedProxies are proxies whose headers with the client's address are trusted.
	TrustedProxies []netip.Prefix
}

// Files are files by name. Serve answers a request with one, or returns false if there is no such file.
type Files interface {
	Serve(w http.ResponseWriter, r *http.Request, name string) bool
}

// api has the fields that all handlers share.
type api struct {
	hub  *hub.Hub
	opts Options
	mux  *chi.Mux

	publishing, listening http.HandlerFunc // of a group; see route

	outages outages
}

// New returns a handler for the whole API. It may be mounted under any path, with chi's Mount or
// behind http.StripPrefix.
func New(h *hub.Hub, o Options) http.Handler {
	a := &api{hub: h, opts: o, mux: chi.NewMux()}
	a.publishing, a.listening = a.receive(publishes, a.publish), a.serve(subscribes, a.subscribe)
	a.mux.NotFound(a.serve(nothing, notFound))
	a.mux.MethodNotAllowed(a.serve(nothing, a.wrongMethod))
	for _, r := range a.routes() {
		a.mux.Method(r.method, r.pattern, r.handler)
		if r.method == http.MethodGet {
			a.mux.Method(http.MethodHead, r.pattern, r.handler)
		}
	}
	var handler http.Handler = a.logged(a.guard(http.HandlerFunc(a.route)))
	if len(o.Ignore) > 0 {
		handler = ignore(o.Ignore, handler)
	}
	if len(o.TrustedProxies) > 0 {
		handler = behindProxies(o.TrustedProxies, handler)
	}
	return handler
}

// call serves a request of a caller with a grant. An error becomes the response.
type call func(http.ResponseWriter, *http.Request, *access.Grant) error

// serve turns a call that reads no body into a handler.
func (a *api) serve(n need, do call) http.HandlerFunc {
	return a.receive(n, func(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
		if r.ContentLength != 0 {
			a.discard(w, r)
		}
		return do(w, r, g)
	})
}

// receive is the same as serve, for a call that reads the body.
func (a *api) receive(n need, do call) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		logRoute(r)
		if err := a.authorized(w, r, n, do); err != nil {
			if r.ContentLength != 0 {
				a.hurry(w)
			}
			a.writeProblem(w, r, err)
		}
	}
}

// others serves a handler that is not part of this package.
func (a *api) others(n need, h http.Handler) http.HandlerFunc {
	return a.serve(n, func(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
		h.ServeHTTP(&explicit{ResponseWriter: w}, r)
		return nil
	})
}

// explicit sends the status 200 explicitly. A Write alone does not imply it everywhere: in a gin program,
// the status of a NoRoute handler is 404 until the handler sets one.
type explicit struct {
	http.ResponseWriter
	sent bool
}

func (e *explicit) WriteHeader(status int) {
	e.sent = true
	e.ResponseWriter.WriteHeader(status)
}

func (e *explicit) Write(b []byte) (int, error) {
	if !e.sent {
		e.WriteHeader(http.StatusOK)
	}
	return e.ResponseWriter.Write(b)
}

// writeJSON answers with encoded JSON.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["X-Content-Type-Options"] = noSniff
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the client is gone
}

// writeValue answers with a value as JSON.
func writeValue(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, append(body, '\n'))
	return nil
}

// readObject decodes a body that is one JSON object. Unknown members are errors. It accepts bodies
// without a media type and with curl's default one.
func (a *api) readObject(w http.ResponseWriter, r *http.Request, s shape, to any) error {
	if err := checkEncoding(r); err != nil {
		return err
	}
	switch mediaType(r.Header.Get("Content-Type")) {
	case jsonMedia, "", formMedia:
	default:
		return &problem{status: http.StatusUnsupportedMediaType, code: "unsupported-media-type", parameter: "Content-Type",
			detail: s.name + " must be sent as " + jsonMedia}
	}
	body, err := a.read(w, r, s.most, &hub.SizeError{What: s.name, Max: s.most})
	if err != nil {
		return err
	}
	defer body.free()
	return hub.DecodeObject(body.Bytes(), s.example, to)
}

// shape describes a JSON object that a call expects.
type shape struct {
	name    string // "a policy"
	most    int    // bytes
	example string // its members, for error messages
}

// Header values of every answer, allocated once.
var (
	jsonType = []string{"application/json"}
	noSniff  = []string{"nosniff"}
)
