package hub

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// fullness logs once that the store is full, however many messages it refuses, and once that it has
// room again.
type fullness struct {
	logger *slog.Logger
	full   atomic.Bool // changes under mu

	mu   sync.Mutex
	last time.Time // when the store last refused a message
}

// fullLogInterval is how long the store must refuse nothing before it counts as no longer full. A disk that
// is nearly full accepts some messages and refuses others.
const fullLogInterval = 10 * time.Second

// appended records the result of an append.
func (f *fullness) appended(err error) {
	refused := errors.Is(err, store.ErrFull)
	if !refused && (err != nil || !f.full.Load()) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case refused:
		f.last = time.Now()
		if !f.full.Swap(true) {
			f.logger.Error("the store is full: messages are refused", "reason", err)
		}
	case time.Since(f.last) >= fullLogInterval && f.full.Swap(false):
		f.logger.Info("the store accepts messages again")
	}
}
