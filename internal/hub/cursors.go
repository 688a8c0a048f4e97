package hub

import (
	"context"
	"errors"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
)

// Cursors returns the positions of readers that outlive their connections. If the log is shared, they are those
// of all its hubs. Claim returns ErrHubAway if the hub that has the position does not answer.
func (h *Hub) Cursors() *cursor.Set { return h.cursors }

// askAgain is after how long a hub is asked again to give up a position. The first call is lost if the hub dies and the
// servers do not know it yet. It is longer than the second in which the log finds out that a hub cannot be reached.
const askAgain = 2 * time.Second

func (h *Hub) newCursors() *cursor.Set {
	return cursor.New(cursor.Options{
		Log: h.notes,
		Ask: func(ctx context.Context, hub, key string, free bool) (store.Seq, error) {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			for {
				attempt, cancel := context.WithTimeout(ctx, askAgain)
				r, err := h.cluster.call(attempt, hub, &request{Do: doGive, Key: key, Free: free})
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
					return r.At, err
				}
			}
		},
		Failed: func(err error) {
			h.full.appended(err) // it logs a full store
			switch {
			case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrClosed):
			case errors.Is(err, store.ErrTooLarge):
				h.opts.Logger.Error("the position of a reader is too large for the store: there is none when the reader comes back, or an older one after a crash", "error", err)
			default:
				h.opts.Logger.Error("writing the positions of readers failed: it is tried again", "error", err)
			}
		},
	})
}

// give gives up a position for another hub.
func (h *Hub) give(ctx context.Context, key string, free bool) (store.Seq, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return h.cursors.Give(ctx, key, free)
}
