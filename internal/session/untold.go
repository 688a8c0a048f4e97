package session

import (
	"errors"
	"time"
)

// ErrKicked reports that the session was kicked when none of its streams could say so.
var ErrKicked = errors.New("the session was kicked")

// untold is the end of a session that others still have to be told of. If several hubs share the log, it is the session's
// document: other hubs have to end its streams, or its client has to be told.
//
// The client has to be told if the session was kicked while it polled, since nothing tells it between two polls. Its next
// poll or stream does so, once, unless it stays away for the session timeout.
type untold struct {
	version uint64
	hub     string        // that wrote it
	tell    bool          // the client has to be told
	over    chan struct{} // closed when the registry no longer has it
}

// polling reports whether one of the session's streams, at any hub, is a poll. mu must be held.
func (s *Session) polling() bool {
	for _, a := range s.streams {
		if a.polls {
			return true
		}
	}
	if s.shared == nil {
		return false
	}
	for _, n := range s.shared.nodes {
		if n.polls {
			return true
		}
	}
	return false
}

// kicked keeps the end of a session whose client has to be told. It does so before the polls that wait can tell it.
func (r *Registry) kicked(x *Change) {
	e := r.noteUntold(x.UID, untold{version: x.next, hub: x.self, tell: true})
	if !r.sharing() { // otherwise Adopt does the same
		r.clearLater(x.UID, e, 0)
	}
}

// noteUntold replaces the untold end of a session. A zero e removes it.
func (r *Registry) noteUntold(uid string, e untold) untold {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, ok := r.untold[uid]
	if ok && old.version == e.version && r.sharing() {
		return old
	}
	if ok {
		close(old.over)
		delete(r.untold, uid)
	}
	if e != (untold{}) {
		e.over = make(chan struct{})
		r.untold[uid] = e
	}
	return e
}

// forgetUntold removes all of them.
func (r *Registry) forgetUntold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.untold {
		close(e.over)
	}
	clear(r.untold)
}

// Tell reports whether the client of a session has to be told of a kick. Then the caller tells it, and nobody else does.
func (r *Registry) Tell(uid string) bool {
	for {
		r.mu.RLock()
		e := r.untold[uid]
		r.mu.RUnlock()
		if !e.tell {
			return false
		}
		if err := r.clear(uid, e); !errors.Is(err, ErrConflict) {
			return true // after another error it may be told twice, rather than never
		}
		select {
		case <-e.over:
		case <-time.After(patience):
			return true
		}
	}
}

// clear removes an untold end. It returns ErrConflict if it was removed or replaced meanwhile.
func (r *Registry) clear(uid string, e untold) error {
	if r.sharing() {
		s := &Session{uid: uid, registry: r, gone: true}
		return r.commit(&Change{UID: uid, session: s, version: e.version, gone: Ended})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.untold[uid].over != e.over {
		return ErrConflict
	}
	close(e.over)
	delete(r.untold, uid)
	return nil
}

// clearLater removes an untold end when nobody has to be told any more, and no sooner than after a time.
func (r *Registry) clearLater(uid string, e untold, after time.Duration) {
	if e.tell {
		after += r.timeout
	}
	time.AfterFunc(after, func() {
		select {
		case <-e.over:
			return
		default:
		}
		if !r.enter() {
			return
		}
		defer r.running.Done()
		if err := r.clear(uid, e); err != nil && !errors.Is(err, ErrConflict) {
			r.clearLater(uid, untold{version: e.version, over: e.over}, retryAfter)
		}
	})
}

// clearUntold removes the untold ends that a hub which is down had to remove, if this hub repairs.
func (r *Registry) clearUntold(repairs bool) {
	if !repairs {
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for uid, e := range r.untold {
		if _, down := r.down[e.hub]; down {
			r.clearLater(uid, e, 0)
		}
	}
}
