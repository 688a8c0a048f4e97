package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/session"
)

// need is the authorization that a call requires.
type need int

const (
	nothing    need = iota // no token
	subscribes             // the filters of the request are checked with the caller's grant
	publishes              // the groups of the request are checked with the caller's grant
	ownSession             // the session's secret, and the subject that the session belongs to
	anyGrant               // a grant for anything, of a token or of callers without one
	ownToken               // any token that is valid
	admin                  // a grant for administration
)

// authorized calls do with the grant of the request's caller, if that grant meets the need n. A refused
// request has no effect.
func (a *api) authorized(w http.ResponseWriter, r *http.Request, n need, do call) error {
	if a.opts.Authorize != nil {
		w.Header()["Referrer-Policy"] = noReferrer
	}
	if n == nothing {
		return do(w, r, nil)
	}
	g := access.Everything
	if a.opts.Authorize != nil {
		var err error
		if g, err = a.opts.Authorize(r); err != nil {
			return err
		}
		r = withoutToken(r)
		switch {
		case g.Anonymous && (n == ownToken || g.IsEmpty()):
			return access.ErrMissing
		case n == admin:
			if err := g.CheckAdmin(); err != nil {
				return err
			}
		}
	}
	if secret := r.Header[sessionHeader]; len(secret) == 1 { // every request is a sign of life
		uid := session.UID(secret[0])
		if err := a.signOfLife(uid, g); err != nil {
			return err
		}
		g = g.For(uid)
	}
	return do(w, r, g)
}

// signOfLife records a sign of life of a session, if there is one. It returns an error if it belongs to another
// subject.
func (a *api) signOfLife(uid string, g *access.Grant) error {
	return ofOwner(a.hub.SignOfLife(uid, g), g)
}

// ownRequest is signOfLife for a request about the session itself, which may have begun at another hub just now.
func (a *api) ownRequest(ctx context.Context, uid string, g *access.Grant) error {
	return ofOwner(a.hub.OwnRequest(ctx, uid, g), g)
}

// ofOwner returns the error for a request with a session's secret.
func ofOwner(err error, g *access.Grant) error {
	switch {
	case errors.Is(err, session.ErrUnknown):
		return nil
	case err != nil && g.Anonymous:
		return access.ErrMissing // the session's owner sent no token
	}
	return err
}

// expiresHeader has the number of seconds after which the new token of a stream expires.
const expiresHeader = "Watchbox-Expires-In"

// noReferrer keeps a browser from sending a URL with a token to other sites.
var noReferrer = []string{"no-referrer"}

// renewToken gives the session's streams the grant of the request's token.
func (a *api) renewToken(w http.ResponseWriter, r *http.Request, g *access.Grant) error {
	uid, err := a.ownSession(r, g)
	if err != nil {
		return err
	}
	if err := a.hub.Renew(uid, g); err != nil {
		return err
	}
	if seconds, ok := g.ExpiresIn(); ok {
		w.Header().Set(expiresHeader, strconv.FormatInt(seconds, 10))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// revoke revokes tokens.
func (a *api) revoke(w http.ResponseWriter, r *http.Request, _ *access.Grant) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	var v access.Revocation
	err := a.readObject(w, r, shape{"a revocation", 4 << 10, `a revocation is {"jti":"…"}, or {"sub":"…","before":"2026-01-02T15:04:05Z"}`}, &v)
	if err != nil {
		return err
	}
	if err := a.hub.Revoke(r.Context(), v); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
