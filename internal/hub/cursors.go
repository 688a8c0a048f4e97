package hub

import (
	"context"
	"errors"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
)

// Cursors returns the positions of readers that outlive their connections. If the log is shared, they are those
// of all its hubs. Claim returns ErrHubAway if the hub that has the position does not answer.
func (h *Hub) Cursors() *cursor.Set { return h.cursors }

func (h *Hub) newCursors() *cursor.Set {
	return cursor.New(cursor.Options{
		Log: h.notes,
		Ask: func(ctx context.Context, hub, key string) (store.Seq, error) {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			r, err := h.cluster.call(ctx, hub, &request{Do: doGive, Key: key})
			return r.At, err
		},
		Failed: func(err error) {
			h.full.appended(err) // it logs a full store
			if !errors.Is(err, store.ErrFull) && !errors.Is(err, store.ErrClosed) {
				h.opts.Logger.Error("writing the positions of readers failed: it is tried again", "error", err)
			}
		},
	})
}

// give gives up a position for another hub.
func (h *Hub) give(ctx context.Context, key string) (store.Seq, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return h.cursors.Give(ctx, key)
}
