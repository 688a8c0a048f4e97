package hub

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// owed is what the store had no room for, and what is therefore done later: nobody waits for it who
// would try again, and it must not be lost. Its zero value owes nothing.
type owed struct {
	mu     sync.Mutex // guards what follows
	list   []*debt
	closed chan struct{} // made with the goroutine; nil: there is none
	ended  bool

	running sync.WaitGroup
}

// debt is something to do about what a note says, and what to do if it fails for another reason than
// want of room.
type debt struct {
	note   string                 // its key
	do     func(newer bool) error // newer: there is another note by that key now
	failed func(error)
	done   func() // called in the end, whether it was done or has failed; may be nil

	since time.Time
	newer bool
}

// When it is tried again, and for how long.
const (
	owedAfter = time.Second
	owedFor   = time.Hour
)

// pay does something, now or when there is room. What is still owed as the hub ends is dropped: the
// store has noted it.
func (o *owed) pay(d *debt) {
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

// replace writes a new note by a key, which what is owed leaves alone from then on.
func (o *owed) replace(note string, write func() error) error {
	o.mu.Lock()
	if !slices.ContainsFunc(o.list, func(d *debt) bool { return d.note == note }) {
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

// try reports whether it is done with.
func (d *debt) try() bool {
	err := d.do(d.newer)
	if errors.Is(err, store.ErrFull) && time.Since(d.since) < owedFor {
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

// run tries again from time to time, until nothing is owed any more.
func (o *owed) run(closed <-chan struct{}) {
	for {
		select {
		case <-closed:
			return
		case <-time.After(owedAfter):
		}
		if o.tryAll() {
			return
		}
	}
}

// tryAll reports whether nothing is owed any more.
func (o *owed) tryAll() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = slices.DeleteFunc(o.list, (*debt).try)
	if len(o.list) == 0 {
		o.closed = nil
	}
	return o.closed == nil
}

// close ends it. It may be called again.
func (o *owed) close() {
	o.mu.Lock()
	if !o.ended && o.closed != nil {
		close(o.closed)
	}
	o.ended = true
	o.mu.Unlock()
	o.running.Wait()
}
