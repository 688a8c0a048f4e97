package hub

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// retries repeats writes that failed because the store was full. These writes must not be lost, and no
// client waits for them that could repeat them. The zero value is ready to use.
type retries struct {
	mu     sync.Mutex // guards the fields below
	list   []*task
	closed chan struct{} // stops the goroutine; nil if none runs
	ended  bool

	running sync.WaitGroup
}

// task is a write that belongs to a note.
type task struct {
	note   string                 // the note's key
	do     func(newer bool) error // newer: the note has been replaced in the meantime
	failed func(error)            // called if do fails for another reason than a full store, or for retryFor
	done   func()                 // called last, after success and after failure; may be nil

	since time.Time
	newer bool
}

const (
	retryAfter = time.Second // time between tries of a task
	retryFor   = time.Hour   // how long a task is retried
)

// do runs a task now or, if the store is full, later. Tasks that still wait when the hub closes are
// dropped: their notes are still in the store, and the next start runs them.
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

// replace writes a new note with a key. It tells waiting tasks with that key, so that they do not remove it.
func (o *retries) replace(note string, write func() error) error {
	o.mu.Lock()
	if !slices.ContainsFunc(o.list, func(d *task) bool { return d.note == note }) {
		o.mu.Unlock()
		return write()
	}
	defer o.mu.Unlock() // no task may run during the write
	err := write()
	if err == nil {
		for _, d := range o.list {
			d.newer = d.newer || d.note == note
		}
	}
	return err
}

// try runs the task and reports whether it is finished.
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

// run retries the tasks every retryAfter until none is left.
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

// tryAll tries each task once and reports whether none is left.
func (o *retries) tryAll() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = slices.DeleteFunc(o.list, (*task).try)
	if len(o.list) == 0 {
		o.closed = nil
	}
	return o.closed == nil
}

// close stops the goroutine and drops the tasks. It may be called more than once.
func (o *retries) close() {
	o.mu.Lock()
	if !o.ended && o.closed != nil {
		close(o.closed)
	}
	o.ended = true
	o.mu.Unlock()
	o.running.Wait()
}
