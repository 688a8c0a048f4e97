package hub

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// fullness logs that the store is full: once, however many messages it refuses, and once when that is
// over.
type fullness struct {
	logger *slog.Logger
	full   atomic.Bool // changes under mu

	mu   sync.Mutex
	last time.Time // when the store last refused a message
}

// fullQuiet is how long the store has refused nothing when it is no longer called full. A disk that is
// nearly full takes some messages and refuses others.
const fullQuiet = 10 * time.Second

// appended hears how an append ended.
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
	case time.Since(f.last) >= fullQuiet && f.full.Swap(false):
		f.logger.Info("the store takes messages again")
	}
}
