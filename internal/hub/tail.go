package hub

import (
	"context"
	"math"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// End returns the position of the end of the log.
func (h *Hub) End() store.ID {
	_, newest := h.log.Bounds()
	return newest
}

// Start returns the position where a stream of a filter begins. Its error is one of Subscribe: it is not known whether the log
// has the client's position.
func (h *Hub) Start(f group.Filter, from From) (store.ID, error) {
	_, id, err := h.start(context.Background(), group.Set{f}, from)
	return id, err
}

// Tail returns a stream with a codec that belongs to no session, after a position as in From.After. The caller must call Run.
func (h *Hub) Tail(filters group.Set, after store.ID, codec delivery.Codec, ended func(delivery.Reason)) *Listener {
	start, _ := h.after(after)
	h.handlers.add(1, 0)
	l := &Listener{hub: h, ended: ended}
	l.stream = h.set.New(delivery.Config{Filters: filters, Heartbeat: math.MaxInt64 / 2, Start: start, Codec: codec, Done: l.done})
	return l
}

// Announce appends a message of the server's own to one of its groups.
func (h *Hub) Announce(name string, msg []byte) error {
	return closedError(h.appendOwn(store.Message{Group: name, Msg: msg}))
}

// Uptime returns how long the hub has been running.
func (h *Hub) Uptime() time.Duration { return time.Since(h.began) }
