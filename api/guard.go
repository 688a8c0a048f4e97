package api

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Guard decides which web pages may use the API. It does not restrict programs other than browsers, which
// can send any header.
type Guard struct {
	// CheckHost refuses a Host header that is neither localhost nor an IP address nor in Hosts. Without
	// it, a page whose host name was made to point here (DNS rebinding) would count as our own.
	CheckHost bool
	Hosts     []HostPattern

	// Origins may use the API, in addition to pages of its own host.
	Origins []OriginPattern

	// Credentials allows pages of Origins to send credentials (Access-Control-Allow-Credentials).
	Credentials bool
}

// guard refuses requests of pages from other sites. GET requests are no exception: a stream has
// effects, such as presence.
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
			detail: fmt.Sprintf("this server does not answer to the name %.255q; to allow it, start the server with --allow-host", r.Host)}
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
		detail: fmt.Sprintf("pages of %.255q may not use this server; to allow them, start the server with --allow-origin", from)}
}

// allows reports whether an Origin header matches one of Origins.
func (g *Guard) allows(origin string) bool {
	if origin == "" || len(g.Origins) == 0 {
		return false
	}
	origin = strings.ToLower(origin)
	return slices.ContainsFunc(g.Origins, func(p OriginPattern) bool { return p.match(origin) })
}

// isProbe reports whether a request reads the server's health or metrics. Kubernetes, load balancers and
// Prometheus use their own host names for it, and a page cannot misuse it.
func isProbe(r *http.Request) bool {
	switch routePath(r) {
	case "/healthz", "/readyz", "/metrics":
		return true
	}
	return false
}

// knows reports whether a Host header names this server. Browsers never send an empty one
// (HTTP/1.0).
func (g *Guard) knows(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if name == "" {
		return true
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	switch {
	case name == "localhost", HostPattern("*.localhost").match(name):
		return true
	case net.ParseIP(name) != nil: // DNS cannot change where an IP address points
		return true
	}
	return slices.ContainsFunc(g.Hosts, func(p HostPattern) bool { return p.match(name) })
}

// ownOrigin reports whether an origin has the requested host.
func ownOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(trimPort(u.Host, u.Scheme), trimPort(host, u.Scheme))
}

// trimPort removes the default port of a scheme.
func trimPort(host, scheme string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

// opensPage reports whether a browser follows a link to the dashboard, whose page contains no data of the hub.
func opensPage(r *http.Request) bool {
	path := routePath(r)
	return r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Method == http.MethodGet && !strings.HasPrefix(path, "/v1/") && path != mqttPath
}

// cors sets the headers that let pages of an allowed origin read the answer (WHATWG Fetch, 3.3).
func cors(h http.Header, origin string, credentials bool) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", replayedHeader+", Retry-After, "+expiresHeader)
	if credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
}

// preflight answers a CORS preflight of an allowed origin (WHATWG Fetch, 4.8). It allows every
// requested header: tracing libraries and proxies add their own, and "*" would not include
// Authorization.
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
