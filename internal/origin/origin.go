// Package origin decides whether a request keeps its secrets when it follows a redirect.
package origin

import (
	"cmp"
	"net/url"
	"strings"
)

// Trusts reports whether secrets for the URL one may be sent to other. It is true if they have the same
// scheme, host and port, or if other upgrades to HTTPS on the same host at the default port.
func Trusts(one, other *url.URL) bool {
	if !strings.EqualFold(one.Hostname(), other.Hostname()) {
		return false
	}
	upgrade := one.Scheme == "http" && other.Scheme == "https" && port(other) == "443"
	return upgrade || one.Scheme == other.Scheme && port(one) == port(other)
}

func port(u *url.URL) string {
	return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}
