package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// queryParameters are the parameters of all calls. They are never ignored.
var queryParameters = append([]string{
	"group", "stream", "event", "ttl", "retain", "filter", "prefix", "depth", "sort", "limit", "after", "wait", "retained",
	"action", "token", "anonymous", "grant", "uid", "part", "state",
}, subscribeParameters...)

// ignore removes query parameters that belong to the embedding program or to a proxy. A name may end in
// "*", such as utm_*. The hub neither reads nor logs these parameters.
func ignore(names []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			shown := *r.URL
			shown.RawQuery = withoutParameters(shown.RawQuery, names)
			r2 := *r
			r2.URL = &shown
			r = &r2
		}
		next.ServeHTTP(w, r)
	})
}

// withoutParameters returns a query without the named parameters. Parts that do not parse stay, and are
// refused later.
func withoutParameters(query string, names []string) string {
	parts := strings.Split(query, "&")
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool {
		name, _, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		return err == nil && name != "" && !slices.Contains(queryParameters, name) && matchesAny(names, name)
	}), "&")
}

func matchesAny(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		prefix, wild := strings.CutSuffix(n, "*")
		return name == n || wild && strings.HasPrefix(name, prefix)
	})
}
