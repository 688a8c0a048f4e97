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
// The client has to be told if the session was kicked while it polled, since nothing tells it between two polls. All its
// polls and streams do so for tellFor: a client may not get the answer to one of them.
type untold struct {
	version uint64
	hub     string // that wrote it
	why     Reason // the session has ended
	tell    bool   // the client has to be told
}

// tellFor is how long a client is told of a kick, unless the session timeout is shorter. A client that polls comes back within
// that time. One that comes back later was away, and begins a new session as one that had a stream does.
const tellFor = time.Minute

// left returns the version of the document that is left of a session that has ended; 0: none is.
func (e *untold) left() uint64 {
	if e == nil {
		return 0
	}
	return e.version
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

// kicked keeps the end of a session whose client has to be told. It does so before the session is forgotten.
func (r *Registry) kicked(x *Change) {
	e := r.noteUntold(x.UID, &untold{version: x.next, hub: x.self, why: x.gone, tell: true})
	if !r.sharing() { // otherwise Adopt does the same
		r.clearLater(x.UID, e, 0)
	}
}

// noteUntold replaces the untold end of a session; nil removes it. It returns the one that the registry has then.
func (r *Registry) noteUntold(uid string, e *untold) *untold {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.untold[uid]
	switch {
	case e == nil:
		delete(r.untold, uid)
	case old != nil && old.version == e.version && r.sharing():
		return old
	default:
		r.untold[uid] = e
	}
	return e
}

// forgetUntold removes all of them.
func (r *Registry) forgetUntold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.untold)
}

// clear removes an untold end. It returns ErrConflict if it was removed or replaced meanwhile.
func (r *Registry) clear(uid string, e *untold) error {
	if r.sharing() {
		s := &Session{uid: uid, registry: r, gone: true}
		return r.commit(&Change{UID: uid, session: s, version: e.version, gone: e.why})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.untold[uid] != e {
		return ErrConflict
	}
	delete(r.untold, uid)
	return nil
}

// clearLater removes an untold end when nobody has to be told any more, and no sooner than after a time.
func (r *Registry) clearLater(uid string, e *untold, after time.Duration) {
	if e.tell {
		after += min(r.timeout, tellFor)
	}
	r.clearAfter(uid, e, after)
}

func (r *Registry) clearAfter(uid string, e *untold, after time.Duration) {
	time.AfterFunc(after, func() {
		if !r.has(uid, e) || !r.enter() {
			return
		}
		defer r.running.Done()
		if err := r.clear(uid, e); err != nil && !errors.Is(err, ErrConflict) {
			r.clearAfter(uid, e, retryAfter)
		}
	})
}

func (r *Registry) has(uid string, e *untold) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.untold[uid] == e
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
