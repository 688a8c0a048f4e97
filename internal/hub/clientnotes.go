package hub

import (
	"bytes"
	"context"
	"sync"

	"github.com/watchbox-go/watchbox/store"
)

// clients holds a note of each client that needs one, beside the messages that it publishes. Only the client's
// protocol understands it.
type clients struct {
	mu    sync.Mutex // guards what follows
	byUID map[string][]byte
}

func (c *clients) set(uid string, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(value) == 0 {
		delete(c.byUID, uid)
		return
	}
	if c.byUID == nil {
		c.byUID = map[string][]byte{}
	}
	c.byUID[uid] = bytes.Clone(value)
}

func (c *clients) get(uid string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.byUID[uid])
}

// clientNote returns a client's note as it is stored. An empty value removes it.
func clientNote(uid string, value []byte) store.Note {
	if len(value) == 0 {
		value = nil
	}
	return store.Note{Key: clientNotes + uid, Value: value}
}

// ClientNote returns what PublishEach has stored for a client, or nil.
func (h *Hub) ClientNote(uid string) []byte { return h.clients.get(uid) }

// SetClientNote replaces a client's note. An empty value removes it.
func (h *Hub) SetClientNote(ctx context.Context, uid string, value []byte) error {
	if len(value) == 0 && h.clients.get(uid) == nil {
		_ = h.cluster.catchUp(ctx, callTimeout) // another hub may have stored one; an error: thousands of clients may leave while the log is away
		if h.clients.get(uid) == nil {
			return nil
		}
	}
	if h.notes != nil {
		if _, err := h.notes.AppendNoted(ctx, nil, clientNote(uid, value)); err != nil {
			return closedError(err)
		}
	}
	h.noteStored(uid, value)
	return nil
}

// noteStored keeps a note that the log has. If hubs share the log, follow has kept it already, or a newer one of another hub.
func (h *Hub) noteStored(uid string, value []byte) {
	if h.cluster == nil {
		h.clients.set(uid, value)
	}
}
