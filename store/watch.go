package store

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Watchers are the channels to wake after an append. They are few; each append reads the list, which
// rarely changes. The zero value has none.
type Watchers struct {
	mu   sync.Mutex
	list atomic.Pointer[[]chan<- struct{}]
}

// Add adds a channel, which is woken until stop is called.
func (w *Watchers) Add(ch chan<- struct{}) (stop func()) {
	w.change(func(l []chan<- struct{}) []chan<- struct{} { return append(l, ch) })
	return func() {
		w.change(func(l []chan<- struct{}) []chan<- struct{} {
			return slices.DeleteFunc(l, func(c chan<- struct{}) bool { return c == ch })
		})
	}
}

func (w *Watchers) change(f func([]chan<- struct{}) []chan<- struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var l []chan<- struct{}
	if p := w.list.Load(); p != nil {
		l = slices.Clone(*p)
	}
	l = f(l)
	w.list.Store(&l)
}

// Wake wakes all channels without blocking.
func (w *Watchers) Wake() {
	p := w.list.Load()
	if p == nil {
		return
	}
	for _, ch := range *p {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
