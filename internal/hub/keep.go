package hub

import (
	"context"
	"errors"
	"sync"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Epoch returns the epoch of the log's ids.
func (h *Hub) Epoch() string {
	_, newest := h.log.Bounds()
	return newest.Epoch
}

// SetPolicy replaces the policy of a filter. The zero policy removes it.
func (h *Hub) SetPolicy(f group.Filter, p store.Policy) error {
	return closedError(h.log.SetPolicy(f, p))
}

// Policy returns the policy in force for a filter.
func (h *Hub) Policy(f group.Filter) store.Policy { return h.log.Policy(f) }

// OwnPolicy returns the policy that was set for a filter, and the one that would be in force without it.
func (h *Hub) OwnPolicy(f group.Filter) (own, inherited store.Policy) { return h.log.OwnPolicy(f) }

// purgesAtOnce is how many groups are purged concurrently: a store on disk commits them together.
const purgesAtOnce = 64

// Purge evicts all held messages of the groups that f matches. It purges group by group, so that it
// holds no lock for long. It may skip a group that is created in the meantime, but none that any hub has created before.
func (h *Hub) Purge(ctx context.Context, f group.Filter) error {
	if err := readable(f); err != nil {
		return err
	}
	if !f.Wild() {
		return closedError(h.log.Purge(f.String()))
	}
	if err := h.cluster.catchUp(ctx, callTimeout); err != nil {
		return closedError(err)
	}
	for q := (store.GroupQuery{Prefix: f.Prefix(), Limit: purgesAtOnce}); ; {
		infos, next := h.log.Groups(q)
		if err := h.purgeAll(f, infos); err != nil {
			return err
		}
		if q.After = next; next == "" {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// purgeAll purges those groups in infos that f matches, concurrently.
func (h *Hub) purgeAll(f group.Filter, infos []store.GroupInfo) error {
	var wg sync.WaitGroup
	errs := make([]error, len(infos))
	for i, g := range infos {
		if f.Match(g.Group) {
			wg.Go(func() { errs[i] = h.log.Purge(g.Group) })
		}
	}
	wg.Wait()
	return closedError(errors.Join(errs...))
}
