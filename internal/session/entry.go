package session

import "iter"

// Entry is a session in the list of all sessions.
type Entry struct{ session *Session }

// Entries yields the sessions in the order in which they began: those with a number above no, or all if no is 0. It
// may miss sessions that begin or end in the meantime.
func (r *Registry) Entries(no uint64) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for s := range r.after(no) {
			if !yield(Entry{s}) {
				return
			}
		}
	}
}

// Number returns the session's place in the order.
func (e Entry) Number() uint64 { return e.session.no }

// Since returns when the session began, in Unix ns. It is the same at all hubs once it is stored.
func (e Entry) Since() int64 {
	e.session.mu.Lock()
	defer e.session.mu.Unlock()
	return e.session.since
}

// UID returns the session's uid.
func (e Entry) UID() string { return e.session.uid }

// Info describes the session. ok is false if it is gone.
func (e Entry) Info() (i Info, ok bool) { return e.session.info(nil) }

// Streams calls visit with each stream that is open at this hub. visit must not call the registry.
func (e Entry) Streams(visit func(Stream)) {
	e.session.mu.Lock()
	defer e.session.mu.Unlock()
	for _, a := range e.session.streams {
		visit(a.stream)
	}
}
