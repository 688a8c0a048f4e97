package sse

import (
	"errors"
	"net/http"
	"slices"

	"github.com/watchbox-go/watchbox/internal/origin"
)

// harmless lists the headers that are kept when a redirect leads to another host.
var harmless = []string{"Accept", "Accept-Language", "Cache-Control", "Content-Type", "Last-Event-Id", "User-Agent"}

// withoutSecrets returns a CheckRedirect that removes headers, which may be secrets, from a request to
// another host, and then calls next. net/http removes only Authorization and Cookie, and keeps them for a
// subdomain.
func withoutSecrets(headers http.Header, next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(r *http.Request, via []*http.Request) error {
		if !origin.Trusts(via[0].URL, r.URL) {
			r.Header.Del("Referer") // its query may contain a secret
			for name := range headers {
				if !slices.Contains(harmless, name) {
					r.Header.Del(name)
				}
			}
		}
		if next != nil {
			return next(r, via)
		}
		if len(via) >= 10 { // the limit of net/http
			return errors.New("sse: ten redirects in a row")
		}
		return nil
	}
}
