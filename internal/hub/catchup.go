package hub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// A hub answers from what it has read of the log. That may be some milliseconds behind what other hubs have answered already: a
// client that has just opened a stream at one of them calls this one. The calls for which that matters catch up first, or when
// there seems to be no such session. A call that has written to the log for itself has caught up by that.

// catchUpTimeout is how long a call waits for what other hubs have answered if it can do without. One that cannot waits for callTimeout, in
// which the servers have mostly elected another leader.
const catchUpTimeout = time.Second

// catchUp waits until this hub has read what any hub has answered before. It returns store.ErrAway if that is not certain in time. A hub that
// is alone knows it.
func (c *cluster) catchUp(ctx context.Context, most time.Duration) error {
	if c == nil {
		return nil
	}
	if f, ok := c.log.(store.Failing); ok && errors.Is(f.Err(), store.ErrAway) { // it would wait in vain
		return store.ErrAway
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := c.log.CatchUp(ctx)
	switch {
	case err == nil, errors.Is(err, store.ErrAway):
		return err
	case errors.Is(err, store.ErrClosed):
		return ErrClosed
	}
	return fmt.Errorf("%w: %w", store.ErrAway, err)
}

// catchUpToShow is catchUp for a call that shows what this hub knows. If it cannot catch up soon, it shows what it has. It reports whether it
// has caught up.
func (c *cluster) catchUpToShow() bool {
	return c.catchUp(context.Background(), catchUpTimeout) == nil
}

// ifKnown calls f, which needs a session. If there is none, it may have begun at another hub just now: f is called again when this hub
// has caught up. If that fails, nobody can say that there is no such session: the error is store.ErrAway.
func (h *Hub) ifKnown(ctx context.Context, f func() error) error {
	err := f()
	if h.cluster == nil || !errors.Is(err, session.ErrUnknown) {
		return err
	}
	if err := h.cluster.catchUp(ctx, callTimeout); err != nil {
		return err
	}
	return f()
}
