package cursor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// The most that is written in one step. A log that hubs share takes 1000 notes.
const (
	maxNotes      = 900
	maxNotesBytes = 4 << 20
)

// pending is a note that is being written, and the result.
type pending struct {
	entry *entry
	note  store.Note
	err   error
}

// waiter waits for an entry to be written.
type waiter struct {
	entry *entry
	done  chan error
}

// Flush writes a position, or its removal, and returns when it is in the log. It writes what else is due at the same
// time. It returns ErrElsewhere if another hub has got the position before, and store.ErrTooLarge if the log does not take a
// position of its size. After other errors, the write is tried again later.
func (s *Set) Flush(ctx context.Context, key string) error {
	s.mu.Lock()
	e := s.entries[key]
	if e == nil || !e.dirty && !e.writing {
		defer s.mu.Unlock()
		return e.failure()
	}
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	w := waiter{e, make(chan error, 1)}
	s.waiting = append(s.waiting, w)
	s.arm()
	s.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failure returns why an entry that is not to be written is not in the log as it is here, or nil.
func (e *entry) failure() error {
	switch {
	case e == nil:
		return nil
	case !e.kept():
		return ErrElsewhere
	case e.large:
		return store.ErrTooLarge
	}
	return nil
}

// arm sets the timer to the next time at which something is due.
func (s *Set) arm() {
	if s.busy || s.closed {
		return // the turn arms it when it ends
	}
	var next time.Time
	switch {
	case len(s.waiting) > 0:
		next = time.Now()
	case len(s.dirty) > 0:
		next = s.written.Add(s.opts.Interval)
	}
	if len(s.due) > 0 {
		if t := time.UnixMilli(s.due[0].deadline); next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if next.IsZero() || !s.armed.IsZero() && !next.Before(s.armed) {
		return
	}
	s.armed = next
	if s.timer == nil {
		s.timer = time.AfterFunc(time.Until(next), s.turn)
	} else {
		s.timer.Reset(time.Until(next))
	}
}

// turn lets positions expire and writes what is due. One turn runs at a time.
func (s *Set) turn() {
	s.mu.Lock()
	if s.busy || s.closed {
		s.mu.Unlock()
		return
	}
	s.busy, s.armed = true, time.Time{}
	now := time.Now()
	s.expire(now)
	var list []pending
	var waiting []waiter
	if len(s.waiting) > 0 || !now.Before(s.written.Add(s.opts.Interval)) {
		list, waiting, s.waiting = s.take(), s.waiting, nil
	}
	s.mu.Unlock()
	s.complete(list, waiting)
	s.announce()
	s.mu.Lock()
	s.busy = false
	s.arm()
	s.idle.Broadcast()
	s.mu.Unlock()
}

// expire removes the positions that expire.
func (s *Set) expire(now time.Time) {
	for len(s.due) > 0 && s.due[0].deadline <= now.UnixMilli() {
		e := s.due[0]
		e.expired = true
		s.remove(e)
	}
}

// announce calls the functions of OnExpire for the positions that have expired.
func (s *Set) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := s.expired
	s.expired = nil
	if len(keys) == 0 {
		return
	}
	s.running.Go(func() {
		for _, key := range keys {
			s.mu.Lock()
			gone := under(s.gone, key)
			s.mu.Unlock()
			if gone != nil {
				gone(key)
			}
		}
	})
}

// take returns what is to be written.
func (s *Set) take() (list []pending) {
	for _, e := range s.dirty {
		if !e.dirty {
			continue // another hub has the position
		}
		e.dirty, e.writing = false, true
		n := store.Note{Key: Prefix + e.key, Guarded: s.shared != nil, At: e.at}
		if !e.removed {
			n.Value = e.value
		}
		list = append(list, pending{entry: e, note: n})
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
	return list
}

// complete writes a list, and tells those who wait for it.
func (s *Set) complete(list []pending, waiting []waiter) {
	var failed []error
	err := s.write(list)
	s.mu.Lock()
	results := map[*entry]error{}
	for i := range list {
		if s.finish(&list[i]) {
			failed = append(failed, fmt.Errorf("%s: %w", list[i].entry.key, list[i].err))
		}
		if len(waiting) > 0 {
			results[list[i].entry] = list[i].err
		}
	}
	for i := range waiting {
		w := &waiting[i]
		err, taken := results[w.entry]
		switch {
		case !taken:
			err = w.entry.failure()
		case errors.Is(err, store.ErrConflict):
			err = ErrElsewhere
		}
		w.done <- err // it has room
	}
	if len(list) > 0 {
		s.written = time.Now()
	}
	if err != nil && !s.failing {
		failed = append(failed, err)
	}
	s.failing = err != nil
	s.mu.Unlock()
	for _, err := range failed {
		if s.opts.Failed != nil {
			s.opts.Failed(err)
		}
	}
}

// write writes a list in as few steps as the log takes, and sets the results. After an error it does not try the rest.
func (s *Set) write(list []pending) (err error) {
	for len(list) > 0 {
		n, size := 0, 0
		for n < len(list) && n < maxNotes && (n == 0 || size+len(list[n].note.Value) <= maxNotesBytes) {
			size += len(list[n].note.Value)
			n++
		}
		if err == nil {
			err = s.append(list[:n])
		} else {
			setError(list[:n], err)
		}
		list = list[n:]
	}
	return err
}

// append writes a list in one step, unless other hubs have changed some of its positions, or some are too large. Those fail, and
// that is no error.
func (s *Set) append(list []pending) error {
	notes := make([]store.Note, len(list))
	for i := range list {
		notes[i] = list[i].note
	}
	_, err := s.opts.Log.AppendNoted(context.Background(), nil, notes...)
	if len(list) > 1 && (errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrTooLarge)) {
		half := len(list) / 2
		if err = s.append(list[:half]); err != nil {
			setError(list[half:], err)
			return err
		}
		return s.append(list[half:])
	}
	setError(list, err)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrTooLarge) {
		return nil
	}
	return err
}

func setError(list []pending, err error) {
	for i := range list {
		list[i].err = err
	}
}

// finish takes note of the result of a write. The new version of a note in a shared log is known by Learn. It reports whether the
// position has become too large.
func (s *Set) finish(p *pending) bool {
	e, was := p.entry, p.entry.large
	e.writing, e.large = false, errors.Is(p.err, store.ErrTooLarge)
	switch {
	case s.entries[e.key] != e || e.large:
	case p.err != nil && e.kept():
		s.mark(e)
	case p.err == nil && e.removed && !e.dirty:
		s.drop(e)
	}
	return e.large && !was
}

// Close writes everything. The readers that are here are away from now on. Close returns when the writing has ended,
// even if the log does not take it. Later calls change nothing.
func (s *Set) Close() {
	self := s.self()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	now := time.Now()
	for _, e := range s.entries {
		switch {
		case !e.ours || !e.here || e.removed:
		case e.blank:
			s.remove(e)
		default:
			s.change(e, self, func(p *Position) { p.Away = now })
		}
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	for s.busy {
		s.idle.Wait()
	}
	list, waiting := s.take(), s.waiting
	s.waiting = nil
	s.mu.Unlock()
	s.complete(list, waiting)
	s.running.Wait()
}
