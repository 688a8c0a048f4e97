package mqtt

import (
	"slices"
	"sync"
	"time"
)

// workers run the turns of all connections. A worker that has finished a turn waits for another one for a while, because the stack
// of a new goroutine has to grow in each turn: that took a sixth of the hub's time with 1,000 publishers.
type workers struct {
	all sync.WaitGroup

	mu     sync.Mutex // guards what follows
	idle   []worker   // the last one has waited for the shortest time, and is next
	least  int        // how many were idle at any time since the timer was set
	timer  *time.Timer
	closed bool
}

// worker is where an idle worker gets its next turn. It is closed if there is none.
type worker chan *conn

// idleFor is how long a worker waits at least.
const idleFor = time.Second

// run runs a turn of a connection on another goroutine.
func (w *workers) run(c *conn) {
	if next := w.take(); next != nil {
		next <- c
		return
	}
	w.all.Go(func() {
		for next := make(worker, 1); c != nil; c = <-next {
			c.turn()
			w.put(next)
		}
	})
}

// take returns an idle worker, or nil.
func (w *workers) take() worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := len(w.idle) - 1
	if last < 0 {
		return nil
	}
	next := w.idle[last]
	w.idle = w.idle[:last]
	w.least = min(w.least, last)
	return next
}

// put makes a worker wait, or end if the workers are closed.
func (w *workers) put(next worker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		close(next)
		return
	}
	w.idle = append(w.idle, next)
	if w.timer == nil {
		w.timer = time.AfterFunc(idleFor, w.thin)
	}
}

// thin ends as many workers as were idle all the time.
func (w *workers) thin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed { // meanwhile
		return
	}
	w.end(w.least)
	w.least, w.timer = len(w.idle), nil
	if len(w.idle) > 0 {
		w.timer = time.AfterFunc(idleFor, w.thin)
	}
}

// end ends the n workers that have waited for the longest time. The caller holds mu.
func (w *workers) end(n int) {
	for _, next := range w.idle[:n] {
		close(next)
	}
	w.idle = slices.Delete(w.idle, 0, n)
}

// close ends all workers, and waits for them. The connections have ended.
func (w *workers) close() {
	w.mu.Lock()
	w.closed = true
	w.end(len(w.idle))
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	w.all.Wait()
}
