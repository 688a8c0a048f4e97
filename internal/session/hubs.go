package session

import (
	"cmp"
	"slices"
	"time"
)

// Down tells the registry that a hub has died or is closing. Its streams are no longer open. The hub that
// repairs takes it out of the documents at once. Each other hub does so a little later if that has not happened.
func (r *Registry) Down(id string, why Reason, repairs bool) {
	r.mu.Lock()
	r.down[id] = why
	r.mu.Unlock()
	for s := range r.all() {
		s.hubDown(id, why, repairs)
	}
	r.clearUntold(repairs)
}

func (s *Session) hubDown(id string, why Reason, repairs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.shared
	i := slices.IndexFunc(h.nodes, func(n node) bool { return n.hub == id })
	if i < 0 {
		return
	}
	h.nodes = slices.Delete(slices.Clone(h.nodes), i, i+1)
	s.becomeStale(why, repairs)
}

// becomeStale makes the session's document be repaired.
func (s *Session) becomeStale(why Reason, now bool) {
	h := s.shared
	h.stale = why
	h.arm(s)
	if now {
		h.repair = monotonicNow()
	}
	s.schedule()
}

// Renamed tells the registry that the other hubs have given up this one, which has a new id now. It ends all
// streams.
func (r *Registry) Renamed(id string) {
	old := *r.self.Swap(&id)
	r.mu.Lock()
	r.down[old] = Partitioned
	r.mu.Unlock()
	for s := range r.all() {
		s.partitioned()
	}
}

func (s *Session) partitioned() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.streams {
		a.stream.End(Partitioned)
	}
	s.streams = nil
	h := s.shared
	if h.streams {
		h.here, h.streams, h.newest, h.beat, h.polls = nil, false, 0, 0, false
		s.becomeStale(Partitioned, false)
	}
}

// Renewed forgets the versions of all documents, since another log has begun. The documents are stored in it again; a hub
// with streams of a session does so itself if it takes too long.
func (r *Registry) Renewed() {
	r.forgetUntold()
	for s := range r.all() {
		s.renewed()
	}
}

// rewriteAfter is how long a hub waits for a document in another log.
const rewriteAfter = 10 * time.Second

func (s *Session) renewed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.shared
	h.version = 0
	h.wake()
	if len(s.streams) > 0 {
		now := monotonicNow()
		h.repair = now.add(rewriteAfter)
		s.schedule()
	}
}

// Named returns the ids of the other hubs that documents name, and whether a document has to be repaired
// because it names a hub that is down.
func (r *Registry) Named() (ids map[string]bool, stale bool) {
	ids = map[string]bool{}
	r.mu.RLock()
	for _, e := range r.untold {
		ids[e.hub] = true
	}
	r.mu.RUnlock()
	for s := range r.all() {
		s.mu.Lock()
		for _, n := range s.shared.nodes {
			ids[n.hub] = true
		}
		stale = stale || s.shared.stale != ""
		s.mu.Unlock()
	}
	return ids, stale
}

// Elsewhere returns the other hubs where a session has streams.
func (r *Registry) Elsewhere(uid string) (ids []string) {
	s := r.find(uid)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shared.hubs()
}

// ByNewest returns all hubs where a session has streams, this one too, beginning with the one that has the newest.
func (r *Registry) ByNewest(uid string) (ids []string) {
	s := r.find(uid)
	if s == nil {
		return nil
	}
	var list []node
	s.mu.Lock()
	if len(s.streams) > 0 {
		here := node{hub: *r.self.Load()}
		for _, a := range s.streams {
			here.newest = max(here.newest, a.no)
		}
		list = append(list, here)
	}
	list = append(list, s.shared.nodes...)
	s.mu.Unlock()
	slices.SortStableFunc(list, func(a, b node) int { return cmp.Compare(b.newest, a.newest) })
	for _, n := range list {
		ids = append(ids, n.hub)
	}
	return ids
}

// Beat records a sign of life that another hub has passed on.
func (r *Registry) Beat(uid string) {
	if s := r.find(uid); s != nil {
		s.lastSign.Store(int64(monotonicNow()))
	}
}

// Relay returns the other hubs that have to know of a sign of life of the session now.
func (r *Registry) Relay(uid string) (ids []string) {
	s := r.find(uid)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := monotonicNow()
	for _, n := range s.shared.nodes {
		if n.beat > 0 && (s.shared.beaten == 0 || now >= s.shared.beaten.add(n.beat/relays)) {
			ids = append(ids, n.hub)
		}
	}
	if ids != nil {
		s.shared.beaten = now
	}
	return ids
}

// relays is how many signs of life are passed on to another hub during a heartbeat, at most.
const relays = 4
