package api

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Guard says which web pages may use the API. Programs that are no browser are not its business:
// they send neither Origin nor Sec-Fetch-Site, and are free to say anything.
type Guard struct {
	// CheckHost refuses a Host that is neither localhost nor an address nor in Hosts: a page on a
	// name that was made to point here (DNS rebinding) would count as ours.
	CheckHost bool
	Hosts     []HostPattern

	// Origins may use the API besides the pages of its own host.
	Origins []OriginPattern

	// Credentials lets those pages send cookies and the like (Access-Control-Allow-Credentials).
	Credentials bool
}

// guard refuses what a foreign page sends, reading included: it has effects, too.
func (a *api) guard(next http.Handler) http.Handler {
	g := &a.opts.Guard
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(g.Origins) > 0 {
			w.Header().Add("Vary", "Origin")
		}
		origin := r.Header.Get("Origin")
		allowed := g.allows(origin)
		if err := g.check(r, origin, allowed); err != nil {
			a.writeProblem(w, r, err)
			return
		}
		if allowed {
			cors(w.Header(), origin, g.Credentials)
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				preflight(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (g *Guard) check(r *http.Request, origin string, allowed bool) error {
	if g.CheckHost && !g.knows(r.Host) && !isProbe(r) {
		return &problem{status: http.StatusForbidden, code: "host-not-allowed",
			detail: fmt.Sprintf("this server does not answer to the name %.255q; if it should, start it with --allow-host", r.Host)}
	}
	site := r.Header.Get("Sec-Fetch-Site")
	foreign := origin != "" && !ownOrigin(origin, r.Host) || site == "cross-site" || site == "same-site"
	if !foreign || allowed || opensPage(r) {
		return nil
	}
	from := origin
	if from == "" {
		from = "another site"
	}
	return &problem{status: http.StatusForbidden, code: "origin-not-allowed",
		detail: fmt.Sprintf("pages of %.255q may not use this server; if they should, start it with --allow-origin", from)}
}

// allows reports whether the Origin header names an origin that is allowed by name.
func (g *Guard) allows(origin string) bool {
	if origin == "" || len(g.Origins) == 0 {
		return false
	}
	origin = strings.ToLower(origin)
	return slices.ContainsFunc(g.Origins, func(p OriginPattern) bool { return p.match(origin) })
}

// isProbe reports whether a request is for the health or the metrics of the server. Those who ask do
// so by an address or a name of their own (Kubernetes, load balancers, Prometheus), and it is nothing
// that a page could abuse.
func isProbe(r *http.Request) bool {
	switch routePath(r) {
	case "/healthz", "/readyz", "/metrics":
		return true
	}
	return false
}

// knows reports whether a Host header names this server. Without one (HTTP/1.0) no browser asks.
func (g *Guard) knows(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	switch {
	case name == "", name == "localhost", strings.HasSuffix(name, ".localhost"):
		return true
	case net.ParseIP(name) != nil: // an address cannot be made to point elsewhere
		return true
	}
	return slices.ContainsFunc(g.Hosts, func(p HostPattern) bool { return p.match(name) })
}

// ownOrigin reports whether an origin is a page of the host that was asked.
func ownOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(trimPort(u.Host, u.Scheme), trimPort(host, u.Scheme))
}

// trimPort drops the port that a scheme implies.
func trimPort(host, scheme string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

// opensPage reports whether somebody follows a link to a page of ours, which shows nothing of the
// hub by itself.
func opensPage(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Method == http.MethodGet && !strings.HasPrefix(routePath(r), "/v1/")
}

// cors lets pages of an origin that is allowed read the answer (WHATWG Fetch, 3.3).
func cors(h http.Header, origin string, credentials bool) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", replayedHeader+", Retry-After")
	if credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
}

// preflight answers the question whether an allowed origin may send a request (WHATWG Fetch, 4.8).
// It may send any header: tracing libraries and proxies have headers of their own, and "*" would not
// include Authorization.
func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE")
	h.Add("Vary", "Access-Control-Request-Headers")
	if asked := r.Header.Values("Access-Control-Request-Headers"); len(asked) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(asked, ", "))
	}
	h.Set("Access-Control-Max-Age", "3600")
	w.WriteHeader(http.StatusNoContent)
}
