package hub

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// retries holds writes for which the store had no room, and tries them again. No client waits for
// them and would repeat them, and they must not be lost. Its zero value is ready to use.
type retries struct {
	mu     sync.Mutex // guards what follows
	list   []*task
	closed chan struct{} // made with the goroutine; nil: there is none
	ended  bool

	running sync.WaitGroup
}

// task is a write that belongs to a note. failed is called if it fails for another reason than a
// full store.
type task struct {
	note   string                 // its key
	do     func(newer bool) error // newer: there is another note by that key now
	failed func(error)
	done   func() // called in the end, whether it was done or has failed; may be nil

	since time.Time
	newer bool
}

// How often a task is tried again, and for how long.
const (
	retryAfter = time.Second
	retryFor   = time.Hour
)

// do runs a task now or, if the store is full, later. Tasks that still wait when the hub closes are
// dropped: the store has noted them.
func (o *retries) do(d *task) {
	d.since = time.Now()
	if d.try() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	o.list = append(o.list, d)
	if o.closed == nil {
		o.closed = make(chan struct{})
		o.running.Go(func() { o.run(o.closed) })
	}
}

// replace writes a new note by a key. Tasks that wait with that key do not remove it.
func (o *retries) replace(note string, write func() error) error {
	o.mu.Lock()
	if !slices.ContainsFunc(o.list, func(d *task) bool { return d.note == note }) {
		o.mu.Unlock()
		return write()
	}
	defer o.mu.Unlock() // nothing is tried meanwhile
	err := write()
	if err == nil {
		for _, d := range o.list {
			d.newer = d.newer || d.note == note
		}
	}
	return err
}

// try runs the task, and reports whether it need not run again.
func (d *task) try() bool {
	err := d.do(d.newer)
	if errors.Is(err, store.ErrFull) && time.Since(d.since) < retryFor {
		return false
	}
	if err != nil && !errors.Is(err, store.ErrClosed) {
		d.failed(err)
	}
	if d.done != nil {
		d.done()
	}
	return true
}

// run tries the tasks again from time to time, until none is left.
func (o *retries) run(closed <-chan struct{}) {
	for {
		select {
		case <-closed:
			return
		case <-time.After(retryAfter):
		}
		if o.tryAll() {
			return
		}
	}
}

// tryAll tries each task, and reports whether none is left.
func (o *retries) tryAll() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = slices.DeleteFunc(o.list, (*task).try)
	if len(o.list) == 0 {
		o.closed = nil
	}
	return o.closed == nil
}

// close stops the goroutine and drops the tasks. It may be called again.
func (o *retries) close() {
	o.mu.Lock()
	if !o.ended && o.closed != nil {
		close(o.closed)
	}
	o.ended = true
	o.mu.Unlock()
	o.running.Wait()
}
