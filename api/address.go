package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// behindProxies sets RemoteAddr of a request from a trusted proxy to the client's address, which it takes
// from X-Forwarded-For or, without that, from Forwarded (RFC 7239). The proxy must set the header itself,
// and remove the other one.
func behindProxies(trusted []netip.Prefix, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, ok := clientAddress(r, trusted); ok {
			r2 := *r
			r2.RemoteAddr = a.String()
			r = &r2
		}
		next.ServeHTTP(w, r)
	})
}

// clientAddress returns the last address before the trusted proxies, if a trusted proxy has sent the request.
// It ignores everything before an address that does not parse.
func clientAddress(r *http.Request, trusted []netip.Prefix) (client netip.Addr, ok bool) {
	isTrusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	peer, err := parseAddress(r.RemoteAddr)
	if r.RemoteAddr == "@" || r.RemoteAddr == "" { // a client of a Unix socket has no address
		peer, err = netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	}
	if err != nil || !isTrusted(peer) {
		return client, false
	}
	hops := splitList(r.Header["X-Forwarded-For"])
	if len(hops) == 0 {
		for _, element := range splitList(r.Header["Forwarded"]) {
			hops = append(hops, forwardedFor(element))
		}
	}
	for _, hop := range slices.Backward(hops) {
		a, err := parseAddress(hop)
		if err != nil {
			break
		}
		client, ok = a, true
		if !isTrusted(a) {
			break
		}
	}
	return client, ok
}

// splitList returns the elements of a header that is a list. Empty elements do not count (RFC 9110, section 5.6.1.2).
func splitList(lines []string) (out []string) {
	for _, line := range lines {
		for element := range strings.SplitSeq(line, ",") {
			if element = strings.TrimSpace(element); element != "" {
				out = append(out, element)
			}
		}
	}
	return out
}

// forwardedFor returns the parameter for of an element of Forwarded.
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.EqualFold(strings.TrimSpace(name), "for") {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// parseAddress parses an IP address that may have a port and brackets.
func parseAddress(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), nil
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return a.Unmap().WithZone(""), err
}
