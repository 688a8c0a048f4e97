package session

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// With a log that several hubs share, the document of a session is a note in it, and a change is committed
// only if the note has not changed meanwhile. This file has what a hub knows of the other hubs' streams.

// shared is the part of a session that only several hubs need. A nil shared belongs to a hub that is alone.
// The session's mu guards it.
type shared struct {
	version uint64         // of the newest document; 0: there is none
	nodes   []node         // streams at other hubs
	here    []group.Filter // filters of this hub's streams, as in the newest document
	streams bool           // whether that document says that this hub has streams
	newest  uint32         // and the number of the newest one
	beat    time.Duration  // and the shortest heartbeat that they have promised; 0: none
	polls   bool           // and that one of them is a poll
	left    Position       // that the stream which closed last here had reached, though no document may say so yet

	stale    Reason        // why the document names a hub that is down; "": it does not
	repair   moment        // when this hub takes that hub out of the document
	pending  *cause        // of a change that was postponed
	retry    moment        // when it is tried again; zero: none was postponed
	number   uint64        // of this hub's newest change,
	stored   uint64        // the version with which it was read in the log, though its commit may not have returned yet; 0: it was not
	newer    chan struct{} // closed when a document is adopted, or is gone; nil: nobody waits
	news     uint32        // how often that has happened
	used     bool          // Do was called
	tried    uint64        // id of the last will that was set here, though that may have failed
	beaten   moment        // when a sign of life was last passed on to other hubs
	unproved []*Change     // changes whose commits failed, the oldest first; one of them may have happened
	doubted  moment        // when the last of them failed
	ending   Reason        // why the change in progress ends the session; "": it does not
}

// node is the streams that a session has at another hub.
type node struct {
	hub     string
	filters []group.Filter
	beat    time.Duration // the shortest heartbeat that they have promised; 0: none
	polls   bool          // one of them is a poll

	// newest is the highest number of them. A stream that opens while other hubs have streams gets a higher number than those, so
	// the session's newest stream is at the hub with the highest one, whatever the clocks of the hubs say. Polls have no numbers: nothing joins them.
	newest uint32
}

// Sharing makes a registry one of several that share a log.
type Sharing struct {
	Self string // the id of this hub

	// Commit stores a change, guarded by its version. It returns the new version, or ErrConflict. After other errors, the
	// change may have happened, unless the error is ErrNotStored, too.
	Commit func(*Change) (version uint64, err error)

	// Committed is called after a change of this hub has happened. It may call the registry.
	Committed func(*Change)

	// Ended is called with the version of its end if another hub has ended a session for which Do was called here. It may call the registry.
	Ended func(uid string, version uint64)

	// WillChanged is called when the last will of any session has been replaced. It must not call the registry.
	WillChanged func(old, new *Will)
}

// Share makes the registry commit its changes to a log that several hubs share. It must be called before
// anything else.
func (r *Registry) Share(o Sharing) {
	r.self.Store(&o.Self)
	r.committed, r.willChanged, r.wasEnded = o.Committed, o.WillChanged, o.Ended
	r.down = map[string]Reason{}
	r.commit = func(x *Change) (err error) {
		if x.next, err = o.Commit(x); err != nil {
			return err
		}
		x.Apply()
		o.Committed(x)
		return nil
	}
}

// sharing reports whether several hubs share the log.
func (r *Registry) sharing() bool { return r.self.Load() != nil }

// base sets what a change is based on.
func (h *shared) base(x *Change) {
	if h == nil {
		return
	}
	s := x.session
	x.self, x.number = *s.registry.self.Load(), rand.Uint64()
	x.version, x.news, x.nodes, x.streams = h.version, h.news, h.nodes, len(s.streams) > 0
	x.here = s.openHere()
	for _, a := range s.streams {
		if a.heartbeat > 0 && (x.beat == 0 || a.heartbeat < x.beat) {
			x.beat = a.heartbeat
		}
		x.polls = x.polls || a.polls
		x.newest = max(x.newest, a.no)
	}
	if a := x.cause.opened; a != nil && !a.polls {
		for _, n := range h.nodes {
			x.newest = max(x.newest, n.newest+1)
		}
		a.no = x.newest
	}
	moved := x.streams && x.newest != h.newest && len(h.nodes) > 0 // otherwise nobody asks which hub has the newest stream
	shorter := x.beat > 0 && (h.beat == 0 || x.beat < h.beat)
	x.rewrite = h.stale != "" || h.version == 0 && x.streams || x.streams != h.streams || x.polls != h.polls || moved || shorter || !slices.Equal(x.here, h.here)
}

// use records that Do was called.
func (h *shared) use(s *Session) {
	if h == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.used = true
}

// try records that a will is being set here.
func (h *shared) try(s *Session, w *Will) {
	if h == nil || w == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.tried = w.ID
}

// openHere returns the filters of the streams at this hub, sorted.
func (s *Session) openHere() (list []group.Filter) {
	for _, a := range s.streams {
		list = append(list, a.filters...)
	}
	slices.SortFunc(list, func(a, b group.Filter) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(list)
}

// elsewhere reports whether the session has streams at other hubs.
func (h *shared) elsewhere() bool { return h != nil && len(h.nodes) > 0 }

// hubs returns the other hubs where the session has streams.
func (h *shared) hubs() (ids []string) {
	if h == nil {
		return nil
	}
	for _, n := range h.nodes {
		ids = append(ids, n.hub)
	}
	return ids
}

// others returns the filters of the streams at other hubs.
func (h *shared) others() (list []group.Filter) {
	if h == nil {
		return nil
	}
	for _, n := range h.nodes {
		list = append(list, n.filters...)
	}
	return list
}

func (h *shared) whyStale() Reason {
	if h == nil {
		return ""
	}
	return h.stale
}

// apply takes over what a committed change says of the hubs. It returns false if a newer document is known already.
func (h *shared) apply(s *Session, x *Change) bool {
	switch {
	case h == nil:
		return true
	case h.version >= x.next:
		return false
	}
	h.version, h.here, h.streams, h.newest, h.beat, h.polls, h.unproved = x.next, x.here, x.streams, x.newest, x.beat, x.polls, nil
	h.nodes, h.stale = s.registry.up(x.nodes)
	if x.self != *s.registry.self.Load() { // the others have given up this hub meanwhile
		h.here, h.streams, h.newest, h.beat, h.polls, h.stale = nil, false, 0, 0, false, Partitioned
	}
	h.arm(s)
	return true
}

// failed reports whether a change was postponed.
func (h *shared) failed(s *Session) bool {
	if h == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.pending != nil
}

// reached returns the position of the stream that closed last.
func (h *shared) reached(s *Session) Position {
	if h != nil && h.pending != nil && h.pending.why != "" && h.pending.reached != (Position{}) {
		return h.pending.reached
	}
	return s.document.reached
}

// happened reports whether a change whose commit failed has happened nevertheless. If it turns out later,
// it is reported then.
func (h *shared) happened(s *Session, x *Change) bool {
	if h == nil {
		return false
	}
	s.mu.Lock()
	if h.stored == 0 {
		h.doubt(x)
		s.mu.Unlock()
		return false
	}
	x.next = h.stored
	s.mu.Unlock()
	s.registry.committed(x)
	return true
}

// mostUnproved is how many changes are kept whose commits failed. While the log does not answer, there is one more every few seconds.
const mostUnproved = 8

// doubt keeps a change whose commit failed. If there are too many, those in the middle give way: the first may have been stored just
// before the log was away, and the last just when it was back.
func (h *shared) doubt(x *Change) {
	if len(h.unproved) == mostUnproved {
		h.unproved = h.unproved[:mostUnproved-1]
	}
	h.unproved, h.doubted = append(h.unproved, x), monotonicNow()
}

// doubtful reports whether a change may have happened though its commit failed, no longer than a time ago.
func (h *shared) doubtful(now moment, since time.Duration) bool {
	return h != nil && len(h.unproved) > 0 && now < h.doubted.add(since)
}

// prove is called when a document is read in the log, with the number of its change and its version. It reports a change that has happened though
// its commit failed. The others have not, since only one of those that are based on the same document can happen.
func (h *shared) prove(s *Session, number, version uint64) {
	if number == h.number {
		h.stored = version
	}
	list := h.unproved
	h.unproved = nil
	if i := slices.IndexFunc(list, func(x *Change) bool { return x.number == number }); i >= 0 {
		x, r := list[i], s.registry
		x.next = version
		r.spawn(func() { r.committed(x) })
	}
}

// proveEnd is called when the log says that this hub has removed the document. It was a change whose commit failed, which is reported, or
// the one in progress, if that ends the session, too. It returns why the session has ended.
func (h *shared) proveEnd(s *Session, version uint64) Reason {
	if h.ending != "" { // its commit tells which one it was
		h.stored = version
		return h.ending
	}
	x := h.unprovedEnd()
	if x == nil {
		return ""
	}
	h.unproved, x.next = nil, version
	r := s.registry
	r.spawn(func() { r.committed(x) })
	return x.gone
}

// unprovedEnd returns the last change that ends the session and whose commit failed, or nil.
func (h *shared) unprovedEnd() *Change {
	for _, x := range slices.Backward(h.unproved) {
		if x.gone != "" {
			return x
		}
	}
	return nil
}

// ended is called when a change conflicts. It reports whether an earlier change of this hub has ended the session, though its commit failed, and
// reports that one.
func (h *shared) ended(s *Session) bool {
	s.mu.Lock()
	x := h.unprovedEnd()
	ended := s.gone && h.stored != 0 && x != nil
	version := h.stored
	s.mu.Unlock()
	if ended {
		x.next = version
		s.registry.committed(x)
	}
	return ended
}

// spawn runs f on a goroutine that Close waits for, unless the registry is closed.
func (r *Registry) spawn(f func()) {
	if r.enter() {
		go func() {
			defer r.running.Done()
			f()
		}()
	}
}

// hubs returns the ids of the hubs where streams are open.
func (s *Session) hubs() (ids []string) {
	if s.shared == nil {
		return nil
	}
	if len(s.streams) > 0 {
		ids = append(ids, *s.registry.self.Load())
	}
	ids = append(ids, s.shared.hubs()...)
	slices.Sort(ids)
	return ids
}

// await waits until more was heard than before. It returns false if nothing is. Versions do not tell that: a document may come
// and go.
func (h *shared) await(s *Session, before uint32) bool {
	for late := time.After(patience); ; {
		s.mu.Lock()
		if h.news != before || s.gone {
			s.mu.Unlock()
			return true
		}
		if h.newer == nil {
			h.newer = make(chan struct{})
		}
		newer := h.newer
		s.mu.Unlock()
		select {
		case <-newer:
		case <-late:
			return false
		}
	}
}

// wake records that something was heard, for those who wait. s.mu is held.
func (h *shared) wake() {
	h.news++
	if h.retry == never { // it may succeed now
		h.retry = monotonicNow().add(retryAfter)
	}
	if h.newer != nil {
		close(h.newer)
		h.newer = nil
	}
}

// patience is how long a change waits for the document that it conflicted with.
const patience = 5 * time.Second

// arm sets when this hub repairs a document that names a hub which is down, or is wrong about this hub's
// streams: a change may have been stored though its commit failed.
func (h *shared) arm(s *Session) {
	h.repair = 0
	switch {
	case h.stale != "":
		h.repair = monotonicNow().add(lateness())
	case h.streams != (len(s.streams) > 0) || !slices.Equal(h.here, s.openHere()):
		h.repair = monotonicNow().add(retryAfter)
	}
}

// repaired records that the document is right.
func (h *shared) repaired() {
	if h != nil {
		h.repair = 0
	}
}

// lateness is how much later than the hub that is responsible any other hub acts. The other one may be down.
func lateness() time.Duration {
	return 2*time.Second + rand.N(time.Second)
}

// up returns the nodes of hubs that are not down, and why one of them is down.
func (r *Registry) up(list []node) (up []node, why Reason) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, n := range list {
		if w, down := r.down[n.hub]; down {
			why = w
		} else {
			up = append(up, n)
		}
	}
	return up, why
}
