package api

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/watchbox-go/watchbox/internal/access"
)

// route is one call. A GET route also answers HEAD, and every path answers OPTIONS with its methods.
type route struct {
	method, pattern string
	handler         http.Handler
}

// routes returns all calls. A * is a group's name or a filter: the rest of the path.
func (a *api) routes() []route {
	metrics := admin
	if a.opts.OpenMetrics {
		metrics = nothing
	}
	return []route{
		{"GET", "/v1/groups/*", a.listening},
		{"GET", "/v1/events", a.serve(subscribes, a.subscribeEvents)},
		{"POST", "/v1/events", a.inBody(a.serve(subscribes, a.subscribeEvents))},
		{"POST", "/v1/groups/*", a.publishing},
		{"POST", "/v1/messages", a.receive(publishes, a.publishBatch)},
		{"GET", "/v1/history/*", a.serve(subscribes, a.history)},
		{"GET", "/v1/history", a.serve(subscribes, a.historyOfSeveral)},
		{"GET", "/v1/retained/*", a.serve(subscribes, a.retained)},
		{"GET", "/v1/groups", a.serve(subscribes, a.groups)},
		{"DELETE", "/v1/groups/*", a.serve(admin, a.purge)},
		{"GET", "/v1/policies/*", a.serve(admin, a.policy)},
		{"PUT", "/v1/policies/*", a.receive(admin, a.setPolicy)},
		{"GET", "/v1/presence/*", a.serve(subscribes, a.presence)},
		{"GET", "/v1/sessions", a.serve(admin, a.sessions)},
		{"GET", "/v1/sessions/{uid}", a.serve(admin, a.session)},
		{"POST", "/v1/sessions/{uid}", a.receive(publishes, a.sendToSession)},
		{"DELETE", "/v1/sessions/{uid}", a.serve(ownSession, a.endSession)},
		{"PUT", "/v1/sessions/{uid}/groups/*", a.serve(subscribes, a.joinGroup)},
		{"DELETE", "/v1/sessions/{uid}/groups/*", a.serve(ownSession, a.leaveGroup)},
		{"PUT", "/v1/sessions/{uid}/will", a.receive(publishes, a.setWill)},
		{"DELETE", "/v1/sessions/{uid}/will", a.serve(ownSession, a.clearWill)},
		{"POST", "/v1/sessions/{uid}/heartbeat", a.serve(ownSession, a.heartbeat)},
		{"PUT", "/v1/sessions/{uid}/token", a.serve(ownSession, a.renewToken)},
		{"POST", "/v1/server", a.receive(publishes, a.sendToServer)},
		{"POST", loginPath, a.serve(ownToken, a.login)},
		{"DELETE", loginPath, a.serve(nothing, a.logout)},
		{"GET", "/v1/explain", a.serve(anyGrant, a.explain)},
		{"POST", "/v1/revocations", a.receive(admin, a.revoke)},
		{"GET", "/v1/tokens", a.serve(admin, a.tokens)},
		{"POST", "/v1/tokens", a.receive(admin, a.createToken)},
		{"DELETE", "/v1/tokens/{name}", a.serve(admin, a.revokeToken)},
		{"GET", mqttPath, a.serve(nothing, a.mqtt)},
		{"GET", "/openapi.yaml", a.serve(nothing, a.spec)},
		{"GET", "/healthz", a.serve(nothing, a.healthz)},
		{"GET", "/readyz", a.serve(nothing, a.readyz)},
		{"GET", "/metrics", a.others(metrics, a.metrics())},
		{"GET", "/", a.serve(nothing, a.page)},
		{"GET", "/assets/*", a.serve(nothing, a.asset)},
		{"GET", "/watchbox.js", a.serve(nothing, a.browserClient)},
	}
}

// groupsPath is the path before a group's name.
const groupsPath = "/v1/groups/"

// route calls the handler of a request. A POST to a group and a GET of its stream bypass the router,
// which copies the request: the copy was a fifth of the memory that a POST allocates, and took 1 of
// 26 µs (docs/PERFORMANCE.md, S5). The router still serves them if the hub is mounted in another chi
// router or the name is escaped.
func (a *api) route(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawPath != "" || !strings.HasPrefix(r.URL.Path, groupsPath) || chi.RouteContext(r.Context()) != nil {
		a.mux.ServeHTTP(w, r)
		return
	}
	switch r.Method {
	case http.MethodPost:
		a.publishing(w, r)
	case http.MethodGet:
		a.listening(w, r)
	default:
		a.mux.ServeHTTP(w, r)
	}
}

func notFound(_ http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	return &problem{status: http.StatusNotFound, code: "not-found",
		detail: fmt.Sprintf("there is nothing at %.200q; /openapi.yaml lists all paths", r.URL.Path)}
}

// wrongMethod answers OPTIONS and refuses methods that the path does not have.
func (a *api) wrongMethod(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	methods := a.methods(r)
	if len(methods) == 0 {
		return notFound(w, r, g) // chi calls wrongMethod on any path for methods it does not know
	}
	allowed := strings.Join(append(methods, "OPTIONS"), ", ")
	w.Header().Set("Allow", allowed)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return &problem{status: http.StatusMethodNotAllowed, code: "method-not-allowed",
		detail: fmt.Sprintf("the path does not have %.20q: use %s", r.Method, allowed)}
}

// methods returns the methods of the request's path.
func (a *api) methods(r *http.Request) []string {
	var list []string
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
		if a.mux.Match(chi.NewRouteContext(), m, routePath(r)) {
			list = append(list, m)
		}
	}
	return list
}

// routePath returns the path below the mount point. It may be escaped.
func routePath(r *http.Request) string {
	if c := chi.RouteContext(r.Context()); c != nil && c.RoutePath != "" {
		return c.RoutePath // mounted in a chi router
	}
	return cmp.Or(r.URL.RawPath, r.URL.Path, "/")
}
