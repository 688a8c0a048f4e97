package sse

import (
	"errors"
	"net/http"
	"slices"

	"github.com/watchbox-go/watchbox/internal/origin"
)

// harmless are the headers that follow a redirect to another host.
var harmless = []string{"Accept", "Accept-Language", "Cache-Control", "Content-Type", "Last-Event-Id", "User-Agent"}

// withoutSecrets returns a CheckRedirect that takes headers, which may be secrets, off a request to another
// host, and then asks next. net/http does that itself for Authorization and Cookie, and only where the host
// is not a subdomain.
func withoutSecrets(headers http.Header, next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(r *http.Request, via []*http.Request) error {
		if !origin.Trusts(via[0].URL, r.URL) {
			r.Header.Del("Referer") // its query may be one, too
			for name := range headers {
				if !slices.Contains(harmless, name) {
					r.Header.Del(name)
				}
			}
		}
		if next != nil {
			return next(r, via)
		}
		if len(via) >= 10 { // as net/http has it
			return errors.New("sse: ten redirects in a row")
		}
		return nil
	}
}
