// Package origin decides whether a redirect may take a request's secrets along.
package origin

import (
	"cmp"
	"net/url"
	"strings"
)

// Trusts reports whether what is meant for one URL may be sent to another: they have the same
// scheme, host and port, or the other is the same host by HTTPS at its default port.
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
