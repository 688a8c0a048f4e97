package hub

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// ErrNoAccess reports that no token can be revoked, because authentication is off.
var ErrNoAccess = errors.New("authentication is off, so there is no token to revoke")

// recheck ends the streams whose tokens have become invalid, and adjusts those whose grants have changed.
func (h *Hub) recheck() { h.sessions.Recheck(h.opts.Access.Current) }

// Renew replaces the grant of all streams of a session. They leave filters that it does not cover.
func (h *Hub) Renew(uid string, g *access.Grant) error {
	g = g.For(uid)
	late := h.cluster.catchUp(context.Background(), callTimeout)
	err := h.renewAll(uid, g)
	if late != nil { // a stream that this hub does not know yet may still have the old grant
		return late
	}
	return err
}

// renewAll is Renew for the streams that this hub knows.
func (h *Hub) renewAll(uid string, g *access.Grant) error {
	err := h.renewHere(uid, g)
	if len(h.cluster.elsewhere(uid)) == 0 || err != nil && !errors.Is(err, session.ErrNoStream) {
		return err
	}
	n, elsewhere := h.cluster.ask(uid, request{Do: doRenew, Grant: g.Encode()})
	if elsewhere == nil && n > 0 {
		return nil
	}
	return errors.Join(err, elsewhere)
}

// renewHere replaces the grant of the session's streams at this hub.
func (h *Hub) renewHere(uid string, g *access.Grant) error {
	err := h.sessions.Renew(uid, g)
	if err == nil && h.opts.Access != nil {
		if _, refused := h.opts.Access.Current(g); refused != nil { // the token was revoked meanwhile
			h.recheck()
		}
	}
	return err
}

// Revoke puts a revocation in force: at once, for open streams too. A persistent store keeps it over a
// restart.
func (h *Hub) Revoke(ctx context.Context, v access.Revocation) error {
	if h.opts.Access == nil {
		return ErrNoAccess
	}
	v, err := h.opts.Access.Revoke(v)
	if err != nil || h.notes == nil {
		return err
	}
	if h.cluster != nil {
		return closedError(h.cluster.revoke(ctx, v))
	}
	_, err = h.notes.AppendNoted(ctx, nil, revocationNote(v))
	return closedError(err)
}

// Tokens returns the API tokens of the token file.
func (h *Hub) Tokens() ([]access.APIToken, error) {
	if h.opts.Access == nil {
		return nil, access.ErrNoTokenFile
	}
	return h.opts.Access.Tokens()
}

// CreateToken creates an API token.
func (h *Hub) CreateToken(ctx context.Context, t *access.APIToken, validity time.Duration) (string, error) {
	if h.opts.Access == nil {
		return "", access.ErrNoTokenFile
	}
	return h.opts.Access.CreateToken(ctx, t, validity)
}

// RevokeToken removes an API token and ends the streams that use it.
func (h *Hub) RevokeToken(ctx context.Context, name string) error {
	if h.opts.Access == nil {
		return access.ErrNoTokenFile
	}
	return h.opts.Access.RevokeToken(ctx, name)
}

func revocationNote(v access.Revocation) store.Note {
	key := revocationNotes + "jti/" + v.ID
	if v.ID == "" {
		key = subjectRevocations + v.Subject
	}
	value, err := json.Marshal(v)
	if err != nil {
		panic("hub: a revocation: " + err.Error()) // impossible: strings and a time that was parsed
	}
	return store.Note{Key: key, Value: value}
}

// restoreRevocation puts a revocation in force that an earlier process stored.
func (h *Hub) restoreRevocation(n store.Note) error {
	var v access.Revocation
	if err := json.Unmarshal(n.Value, &v); err != nil || !strings.HasPrefix(n.Key, revocationNotes) {
		return errRevocationNote
	}
	if h.opts.Access == nil {
		return nil // it is in force again when authentication is on again
	}
	_, err := h.opts.Access.Revoke(v)
	return err
}

var errRevocationNote = errors.New("the stored note of a revocation is corrupt")
