// Package api is HTTP in and HTTP out: it turns requests into calls of the hub, and what the hub
// says into responses. routes.go has the whole surface as one table: start there. openapi.yaml is
// its contract.
package api

import (
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
)

// Options of the API.
type Options struct {
	Guard  Guard
	Ignore []string     // query parameters that are not the hub's, as utm_*
	Spec   []byte       // openapi.yaml
	Web    http.Handler // serves / and what its page needs
	Logger *slog.Logger
}

// api is what the handlers share.
type api struct {
	hub  *hub.Hub
	opts Options
	mux  *chi.Mux
	post http.HandlerFunc // publishes to a group

	outages outages
}

// New returns a handler for the whole surface. It may be mounted anywhere: with chi's Mount or
// behind http.StripPrefix.
func New(h *hub.Hub, o Options) http.Handler {
	a := &api{hub: h, opts: o, mux: chi.NewMux()}
	a.post = a.receive(a.publish)
	a.mux.NotFound(a.serve(notFound))
	a.mux.MethodNotAllowed(a.serve(a.wrongMethod))
	for _, r := range a.routes() {
		a.mux.Method(r.method, r.pattern, r.handler)
		if r.method == http.MethodGet {
			a.mux.Method(http.MethodHead, r.pattern, r.handler)
		}
	}
	handler := a.guard(http.HandlerFunc(a.route))
	if len(o.Ignore) > 0 {
		return ignore(o.Ignore, handler)
	}
	return handler
}

// serve makes an http.Handler of one that needs no body and may fail, and answers for it if it does.
func (a *api) serve(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return a.receive(func(w http.ResponseWriter, r *http.Request) error {
		if r.ContentLength != 0 {
			a.discard(w, r)
		}
		return h(w, r)
	})
}

// receive is serve for a handler that reads the body.
func (a *api) receive(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if secret := r.Header[sessionHeader]; len(secret) == 1 {
			a.hub.Heard(session.UID(secret[0])) // whatever is asked for, it is a sign of life
		}
		if err := h(w, r); err != nil {
			if r.ContentLength != 0 {
				a.hurry(w)
			}
			a.writeProblem(w, r, err)
			return
		}
		a.logRequest(r)
	}
}

// others serves what is not ours.
func (a *api) others(h http.Handler) http.HandlerFunc {
	return a.serve(func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	})
}

// writeJSON answers with a JSON value that is encoded already.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["X-Content-Type-Options"] = noSniff
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever asked is gone, or will ask again
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

// readObject reads a body that is one JSON object into a struct that knows all of its members. A
// body of no type is taken for one, and of the type that curl sends unless told otherwise.
func (a *api) readObject(w http.ResponseWriter, r *http.Request, s shape, to any) error {
	if err := checkEncoding(r); err != nil {
		return err
	}
	switch mediaType(r.Header.Get("Content-Type")) {
	case jsonMedia, "", formMedia:
	default:
		return &problem{status: http.StatusUnsupportedMediaType, code: "unsupported-media-type", parameter: "Content-Type",
			detail: s.name + " is sent as " + jsonMedia}
	}
	body, err := a.read(w, r, s.most, &hub.SizeError{What: s.name, Max: s.most})
	if err != nil {
		return err
	}
	defer body.free()
	return hub.DecodeObject(body.Bytes(), s.looks, to)
}

// shape is what is expected of an object.
type shape struct {
	name  string // "a policy"
	most  int    // bytes
	looks string // what it has in it
}

// Header values that each answer has, made once.
var (
	jsonType = []string{"application/json"}
	noSniff  = []string{"nosniff"}
)
