package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
)

// Besides the header Authorization, a token may be in a cookie or a query parameter (RFC 6750, 2.3).
const (
	tokenCookie       = "watchbox_token"
	secureTokenCookie = "__Host-watchbox_token" // over TLS, also that of a proxy; RFC 6265bis, 4.1.3.2
	tokenParameter    = "access_token"
)

// Token returns the token of a request, or "" if it has none: from the header Authorization, the
// cookie or the query, in this order. Different tokens in one request are an error.
func Token(r *http.Request) (string, error) {
	list, err := presented(r)
	if err != nil || len(list) == 0 {
		return "", err
	}
	for _, t := range list[1:] {
		if t != list[0] {
			return "", &problem{status: http.StatusBadRequest, code: "token-ambiguous",
				detail: "the request has more than one token: send only one, in the header Authorization"}
		}
	}
	return list[0], nil
}

// presented returns the tokens of a request in the order of Token.
func presented(r *http.Request) (list []string, err error) {
	for _, v := range r.Header["Authorization"] {
		scheme, token, _ := strings.Cut(v, " ")
		if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
			return nil, access.ErrInvalid // another scheme is no token, and must not count as an anonymous caller
		}
		list = append(list, token)
	}
	if len(r.Header["Cookie"]) > 0 && !replacesCookie(r) {
		for _, c := range r.CookiesNamed(cookieName(r)) {
			if c.Value != "" {
				list = append(list, c.Value)
			}
		}
	}
	if hasTokenParameter(r) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return nil, access.ErrInvalid // otherwise a caller with a malformed token would count as an anonymous one
		}
		list = append(list, query[tokenParameter]...)
	}
	if slices.Contains(list, "") {
		return nil, access.ErrInvalid
	}
	return list, nil
}

// loginPath is the path that sets the cookie.
const loginPath = "/v1/login"

// replacesCookie reports whether a request sets the cookie anew. The old one does not count then: a page logs in
// again when its token is about to expire, or was revoked, and cannot keep the browser from sending the cookie.
func replacesCookie(r *http.Request) bool {
	return r.Method == http.MethodPost && routePath(r) == loginPath
}

func hasTokenParameter(r *http.Request) bool {
	return strings.Contains(r.URL.RawQuery, tokenParameter)
}

// withoutToken returns the request without the token in its query, so that handlers and logs do not see it.
func withoutToken(r *http.Request) *http.Request {
	if !hasTokenParameter(r) {
		return r
	}
	u := *r.URL
	u.RawQuery = withoutParameters(u.RawQuery, []string{tokenParameter})
	r2 := *r
	r2.URL = &u
	return &r2
}

// isSecure reports whether the client uses TLS, up to the hub or up to a proxy that says so. A client that lies
// about it affects only its own cookie.
func isSecure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

func cookieName(r *http.Request) string {
	if isSecure(r) {
		return secureTokenCookie
	}
	return tokenCookie
}

// login sets the cookie that carries the request's token, for pages of the hub's own origin: EventSource
// cannot send a header.
func (a *api) login(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	token, err := Token(r)
	if err != nil || token == "" || len(r.Header["Authorization"]) == 0 {
		return access.ErrMissing
	}
	c := newCookie(r, token)
	if !g.Expires.IsZero() {
		c.Expires = g.Expires
		c.MaxAge = max(1, int(time.Until(g.Expires)/time.Second))
	}
	http.SetCookie(w, c)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// logout deletes the cookie.
func (a *api) logout(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	if _, err := parameters(withoutToken(r)); err != nil {
		return err
	}
	c := newCookie(r, "")
	c.MaxAge = -1
	http.SetCookie(w, c)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func newCookie(r *http.Request, value string) *http.Cookie {
	return &http.Cookie{
		Name: cookieName(r), Value: value, Path: "/", HttpOnly: true, Secure: isSecure(r), SameSite: http.SameSiteStrictMode,
	}
}
