package hub

import (
	"sync"
	"time"
)

// handlers counts the HTTP handlers of streams.
type handlers struct {
	mu      sync.Mutex    // guards what follows
	opening int           // admitted, not yet running
	serving int           // running a stream
	none    chan struct{} // closed when there are no handlers; nil if no call of wait has asked for it
}

// add changes the counts.
func (h *handlers) add(opening, serving int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opening += opening
	h.serving += serving
	if h.none != nil && h.opening+h.serving == 0 {
		close(h.none)
		h.none = nil
	}
}

// wait waits until there are no handlers, for at most d. It returns how many run a stream then.
func (h *handlers) wait(d time.Duration) (stuck int) {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-h.gone():
	case <-late.C:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.serving
}

// gone returns a channel that is closed when there are no handlers.
func (h *handlers) gone() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	none := h.none
	if none == nil {
		none = make(chan struct{})
	}
	if h.opening+h.serving == 0 {
		close(none)
		return none
	}
	h.none = none
	return none
}
