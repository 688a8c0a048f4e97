package session

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// Adopt takes over the document of a session that some hub has stored, this one too, with its version. A
// nil document was removed or, if the version is 0, lost: the log does not have it any more, though no hub has removed it. Documents
// must be adopted in the order of the log. why is what Change.Gone says of the change that removed it; a hub of an
// earlier version does not say it. own says that a change of this
// registry has stored or removed it.
func (r *Registry) Adopt(uid string, doc []byte, why Reason, version uint64, own bool) error {
	if doc == nil {
		r.noteUntold(uid, nil)
		if s := r.find(uid); s != nil && version == 0 {
			s.renewed()
			return nil
		}
		r.adoptEnd(uid, &record{Gone: cmp.Or(why, Kicked)}, version, own)
		return nil
	}
	var in record
	if err := json.Unmarshal(doc, &in); err != nil {
		return fmt.Errorf("the document of session %s: %w", uid, err)
	}
	if in.Gone != "" {
		e := r.noteUntold(uid, &untold{version: version, hub: in.Hub, why: in.Gone, tell: in.Tell})
		r.adoptEnd(uid, &in, version, false)
		switch {
		case in.Hub == *r.self.Load():
			r.clearLater(uid, e, 0)
		case r.isDown(in.Hub):
			r.clearLater(uid, e, lateness())
		}
		return nil
	}
	d, nodes, err := in.document()
	if err != nil {
		return fmt.Errorf("the document of session %s: %w", uid, err)
	}
	r.noteUntold(uid, nil)
	for {
		s, err := r.session(uid, in.Subject, d.client)
		if err != nil || s.adopt(&in, d, nodes, version) {
			return nil
		}
		r.forget(s) // it is gone: the document is of a new session
	}
}

func (r *Registry) isDown(hub string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, down := r.down[hub]
	return down
}

// adoptEnd ends a session that another hub has ended. If its client has to be told, none begins that would tell it nothing. A
// session that is about to begin after that one goes on. removed says that this hub has removed the document.
func (r *Registry) adoptEnd(uid string, in *record, version uint64, removed bool) {
	r.mu.RLock()
	s, left := r.byUID[uid], r.untold[uid].left()
	r.mu.RUnlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	newer := s.shared.version < version
	ended := (s.begun || in.Tell) && newer
	used := ended && s.shared.used
	switch {
	case newer && !ended && !s.gone:
		s.shared.version = left // its first document is based on what is there now
		s.shared.wake()
	case ended:
		why := in.Gone
		if removed {
			proved := s.shared.proveEnd(s, version)
			used = used && proved == "" // otherwise it is reported as a change of this hub
			why = cmp.Or(proved, why)
		} else {
			s.shared.prove(s, in.Change, version)
		}
		if s.shared.ending != "" { // it is this hub's own change, which is not applied yet
			why = s.shared.ending
		}
		s.shared.version = version
		s.finish(why)
		s.shared.wake()
	}
	s.mu.Unlock()
	if ended {
		r.forget(s)
	}
	if used {
		r.spawn(func() { r.wasEnded(uid, version) })
	}
}

// adopt replaces the session's document by a newer one. It returns false if the session is gone.
func (s *Session) adopt(in *record, d *document, nodes []node, version uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.shared
	switch {
	case s.gone:
		return false
	case version <= h.version:
		return true
	}
	s.subject.Store(in.Subject)
	self := *s.registry.self.Load()
	now := monotonicNow()
	lost := now
	if in.Hub != self {
		lost = now.add(lateness()) // the other hub acts first
	}
	s.date(d, lost)
	h.version, h.here, h.streams, h.newest, h.beat, h.polls = version, nil, false, 0, 0, false
	if i := slices.IndexFunc(nodes, func(n node) bool { return n.hub == self }); i >= 0 {
		h.here, h.newest, h.beat, h.polls, h.streams = nodes[i].filters, nodes[i].newest, nodes[i].beat, nodes[i].polls, true
		nodes = slices.Delete(nodes, i, i+1)
	}
	h.prove(s, in.Change, version)
	h.nodes, h.stale = s.registry.up(nodes)
	h.arm(s)
	if h.pending != nil && !d.client.same(&s.client) {
		h.pending.client = nil // a later stream has opened elsewhere
	}
	s.set(d)
	h.wake()
	s.schedule()
	return true
}

// date sets the moments at which d and its memberships were lost: those known already, or else lost.
func (s *Session) date(d *document, lost moment) {
	if d.lostAt != 0 {
		d.lost = lost
		if s.lostAt == d.lostAt {
			d.lost = s.lost
		}
	}
	for i := range d.members {
		m := &d.members[i]
		if m.lostAt == 0 {
			continue
		}
		m.lost = lost
		if k := s.member(m.filter); k >= 0 && s.members[k].lostAt == m.lostAt {
			m.lost = s.members[k].lost
		}
	}
}
