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
	Hosts     []string

	// Origins, as https://example.org, may use the API beside those of its own host.
	Origins []string
}

// guard refuses what a foreign page sends, reading included: it has effects, too.
func (a *api) guard(next http.Handler) http.Handler {
	g := &a.opts.Guard
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(g.Origins) > 0 {
			w.Header().Add("Vary", "Origin")
		}
		origin := r.Header.Get("Origin")
		allowed := origin != "" && slices.Contains(g.Origins, origin)
		if err := g.check(r, origin, allowed); err != nil {
			a.writeProblem(w, r, err)
			return
		}
		if allowed {
			cors(w.Header(), origin)
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (g *Guard) check(r *http.Request, origin string, allowed bool) error {
	if g.CheckHost && !g.knows(r.Host) {
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
	return slices.Contains(g.Hosts, name)
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
func cors(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE")
	h.Set("Access-Control-Allow-Headers", "Content-Type, Last-Event-ID, "+sessionHeader+", "+idempotencyHeader)
	h.Set("Access-Control-Expose-Headers", replayedHeader+", Retry-After")
	h.Set("Access-Control-Max-Age", "3600")
}
