package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/store"
)

// Revocations of hubs that share a log.

// revoked puts a revocation of another hub in force.
func (c *cluster) revoked(n store.Note) {
	if n.Value == nil {
		return
	}
	if err := c.hub.restoreRevocation(n); err != nil && !errors.Is(err, access.ErrTooManyRevocations) {
		c.hub.opts.Logger.Error("a note of the shared log cannot be read", "error", err)
	}
}

// remember keeps the newest version of a revocation for revoke. That of a token says the same in each version.
func (c *cluster) remember(n store.Note) {
	if !strings.HasPrefix(n.Key, subjectRevocations) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.Value == nil {
		n.Value = c.revocations[n.Key].Value
	}
	c.revocations[n.Key] = n
}

// forgetVersions is called when a log begins that has no notes. What is revoked stays so.
func (c *cluster) forgetVersions() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, n := range c.revocations {
		n.At = 0
		c.revocations[key] = n
	}
}

// maxConflicts is how often a revocation is merged with those of other hubs.
const maxConflicts = 100

// revoke stores a revocation. That of a subject replaces the one before it, so that it must have the later one of both times: another hub may
// have stored a later one that this hub has not read yet.
func (c *cluster) revoke(ctx context.Context, v access.Revocation) error {
	if v.Subject == "" {
		_, err := c.log.AppendNoted(ctx, nil, revocationNote(v))
		return err
	}
	for range maxConflicts {
		c.mu.Lock()
		before := c.revocations[subjectRevocations+v.Subject]
		c.mu.Unlock()
		c.revoked(before)
		v, err := c.hub.opts.Access.Revoke(v)
		if err != nil {
			return err
		}
		n := revocationNote(v)
		n.Guarded, n.At = true, before.At
		if _, err = c.log.AppendNoted(ctx, nil, n); !errors.Is(err, store.ErrConflict) {
			return err
		}
		if err := c.catchUp(ctx, callTimeout); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: other hubs write the same note", store.ErrAway)
}
