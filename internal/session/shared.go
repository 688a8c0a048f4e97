package session

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unique"

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
	beats   bool           // and that they have promised heartbeats

	stale    Reason        // why the document names a hub that is down; "": it does not
	repair   moment        // when this hub takes that hub out of the document
	pending  *cause        // of a change that was postponed
	retry    moment        // when it is tried again; zero: none was postponed
	newer    chan struct{} // closed when a newer document is adopted; nil: nobody waits
	number   uint64        // of the change with which this hub wrote the newest document; 0: it was another hub
	unproved *Change       // a change whose commit failed, but which may have happened
}

// node is the streams that a session has at another hub.
type node struct {
	hub     string
	filters []group.Filter
	beats   bool // they have promised heartbeats
}

// Sharing makes a registry one of several that share a log.
type Sharing struct {
	Self string // the id of this hub

	// Commit stores a change, guarded by its version. It returns the new version, or ErrConflict.
	Commit func(*Change) (version uint64, err error)

	// Committed is called after a change of this hub has happened. It may call the registry.
	Committed func(*Change)

	// WillChanged is called when the last will of any session has been replaced. It must not call the registry.
	WillChanged func(old, new *Will)
}

// Share makes the registry commit its changes to a log that several hubs share. It must be called before
// anything else.
func (r *Registry) Share(o Sharing) {
	r.self.Store(&o.Self)
	r.committed, r.willChanged = o.Committed, o.WillChanged
	r.down, r.ended = map[string]Reason{}, map[string]ending{}
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

// ending is a document that only says why its session ended.
type ending struct {
	version uint64
	hub     string // that wrote it
}

// base sets what a change is based on.
func (h *shared) base(x *Change) {
	if h == nil {
		return
	}
	s := x.session
	x.self, x.number = *s.registry.self.Load(), rand.Uint64()
	x.version, x.nodes, x.streams = h.version, h.nodes, len(s.streams) > 0
	x.here = s.openHere()
	slices.SortFunc(x.here, func(a, b group.Filter) int { return strings.Compare(a.String(), b.String()) })
	x.here = slices.Compact(x.here)
	x.beats = slices.ContainsFunc(s.streams, func(a *Attachment) bool { return a.heartbeat > 0 })
	x.rewrite = h.stale != "" || x.streams != h.streams || x.beats && !h.beats || !slices.Equal(x.here, h.here)
}

// elsewhere reports whether the session has streams at other hubs.
func (h *shared) elsewhere() bool { return h != nil && len(h.nodes) > 0 }

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
	h.version, h.here, h.streams, h.beats, h.number = x.next, x.here, x.streams, x.beats, x.number
	h.nodes, h.stale = s.registry.up(x.nodes)
	if x.self != *s.registry.self.Load() { // the others have given up this hub meanwhile
		h.here, h.streams, h.beats, h.stale = nil, false, false, Partitioned
	}
	h.arm()
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
func (h *shared) reached(s *Session) uint64 {
	if h != nil && h.pending != nil && h.pending.why != "" {
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
	if h.number != x.number {
		h.unproved = x
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()
	s.registry.committed(x)
	return true
}

// prove reports a change that has happened though its commit failed.
func (h *shared) prove(r *Registry, number uint64) {
	x := h.unproved
	h.unproved = nil
	if x != nil && x.number == number {
		r.spawn(func() { r.committed(x) })
	}
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
	for _, n := range s.shared.nodes {
		ids = append(ids, n.hub)
	}
	return ids
}

// await waits for a document that is newer than a version. It returns false if none arrives.
func (h *shared) await(s *Session, version uint64) bool {
	for late := time.After(patience); ; {
		s.mu.Lock()
		if h.version > version || s.gone {
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

// patience is how long a change waits for the document that it conflicted with.
const patience = 5 * time.Second

// arm sets when this hub repairs a document that names a hub which is down.
func (h *shared) arm() {
	h.repair = 0
	if h.stale != "" {
		h.repair = monotonicNow().add(lateness())
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

// record is a document as it is stored.
type record struct {
	Subject  *string               `json:"subject,omitempty"`
	Address  string                `json:"address"`
	Agent    string                `json:"agent,omitempty"`
	Protocol string                `json:"protocol,omitempty"`
	Since    int64                 `json:"since,omitempty"` // Unix nanoseconds, as all times
	Nodes    map[string]nodeRecord `json:"nodes,omitempty"` // by hub
	Members  []memberRecord        `json:"members,omitempty"`
	Lost     int64                 `json:"lost,omitempty"`
	Why      Reason                `json:"why,omitempty"`
	Reached  uint64                `json:"reached,omitempty"`
	Will     *Will                 `json:"will,omitempty"`
	Hub      string                `json:"hub"`            // that wrote it
	Gone     Reason                `json:"gone,omitempty"` // the session has ended, and other hubs have to end its streams
	Change   uint64                `json:"change"`         // tells apart the changes of a hub
}

type nodeRecord struct {
	Filters []string `json:"filters,omitempty"`
	Beats   bool     `json:"beats,omitempty"`
}

type memberRecord struct {
	Filter string `json:"filter"`
	Lost   int64  `json:"lost,omitempty"`
	Why    Reason `json:"why,omitempty"`
}

// Version returns the version of the document that the change is based on, 0 if there is none.
func (x *Change) Version() uint64 { return x.version }

// Document returns the document to store, or nil if it is to be removed.
func (x *Change) Document() []byte {
	out := record{Hub: x.self, Change: x.number}
	switch {
	case x.gone != "" && len(x.nodes) == 0:
		return nil
	case x.gone != "":
		out.Gone = x.gone
	default:
		d := &x.doc
		agent := d.client.Agent.Value()
		out = record{
			Hub: x.self, Change: x.number, Subject: x.session.subject.Load(), Address: d.client.Address, Agent: agent.UserAgent, Protocol: agent.Protocol, Since: d.since,
			Lost: d.lostAt, Why: d.why, Reached: d.reached, Will: d.will, Nodes: map[string]nodeRecord{},
		}
		for _, m := range d.members {
			out.Members = append(out.Members, memberRecord{m.filter.String(), m.lostAt, m.why})
		}
		for _, n := range x.nodes {
			out.Nodes[n.hub] = nodeRecord{group.Set(n.filters).Strings(), n.beats}
		}
		if x.streams {
			out.Nodes[x.self] = nodeRecord{group.Set(x.here).Strings(), x.beats}
		}
	}
	b, err := json.Marshal(&out)
	if err != nil {
		panic("session: a document: " + err.Error()) // impossible: strings, numbers and bytes
	}
	return b
}

// Adopt takes over the document of a session that some hub has stored, this one too, with its version. A
// nil document was removed. Documents must be adopted in the order of the log.
func (r *Registry) Adopt(uid string, doc []byte, version uint64) error {
	if doc == nil {
		r.mu.Lock()
		delete(r.ended, uid)
		r.mu.Unlock()
		r.adoptEnd(uid, Kicked, version)
		return nil
	}
	var in record
	if err := json.Unmarshal(doc, &in); err != nil {
		return fmt.Errorf("the document of session %s: %w", uid, err)
	}
	if in.Gone != "" {
		r.mu.Lock()
		r.ended[uid] = ending{version, in.Hub}
		r.mu.Unlock()
		r.adoptEnd(uid, in.Gone, version)
		if in.Hub == *r.self.Load() {
			r.spawn(func() { r.clear(uid) })
		}
		return nil
	}
	d, nodes, err := in.document()
	if err != nil {
		return fmt.Errorf("the document of session %s: %w", uid, err)
	}
	for {
		s := r.session(uid, in.Subject, d.client)
		if s == nil || s.adopt(&in, d, nodes, version) {
			return nil
		}
	}
}

// clear removes the document of a session that has ended.
func (r *Registry) clear(uid string) {
	r.mu.RLock()
	e, ok := r.ended[uid]
	r.mu.RUnlock()
	if ok {
		s := &Session{uid: uid, registry: r, gone: true}
		_ = r.commit(&Change{UID: uid, session: s, version: e.version, gone: Ended}) // Repair tries again
	}
}

// adoptEnd ends a session that another hub has ended.
func (r *Registry) adoptEnd(uid string, why Reason, version uint64) {
	s := r.find(uid)
	if s == nil {
		return
	}
	s.mu.Lock()
	ended := s.begun && s.shared.version < version
	if ended {
		s.shared.version = version
		s.finish(why)
		s.shared.wake()
	}
	s.mu.Unlock()
	if ended {
		r.forget(s)
	}
}

func (h *shared) wake() {
	if h.newer != nil {
		close(h.newer)
		h.newer = nil
	}
}

// document returns the document of a record. Times when something was lost are wall-clock times only.
func (in *record) document() (*document, []node, error) {
	d := &document{
		begun: true, client: Client{in.Address, unique.Make(Agent{in.Agent, in.Protocol})}, since: in.Since,
		lostAt: in.Lost, why: in.Why, reached: in.Reached, will: in.Will,
	}
	for _, m := range in.Members {
		f, err := group.ParseFilter(m.Filter)
		if err != nil {
			return nil, nil, err
		}
		d.members = append(d.members, member{filter: f, lostAt: m.Lost, why: m.Why})
	}
	var nodes []node
	for hub, n := range in.Nodes {
		list := make([]group.Filter, len(n.Filters))
		for i, text := range n.Filters {
			f, err := group.ParseFilter(text)
			if err != nil {
				return nil, nil, err
			}
			list[i] = f
		}
		nodes = append(nodes, node{hub, list, n.Beats})
	}
	slices.SortFunc(nodes, func(a, b node) int { return strings.Compare(a.hub, b.hub) })
	return d, nodes, nil
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
	h.version, h.here, h.streams, h.beats = version, nil, false, false
	if i := slices.IndexFunc(nodes, func(n node) bool { return n.hub == self }); i >= 0 {
		h.here, h.beats, h.streams = nodes[i].filters, nodes[i].beats, true
		nodes = slices.Delete(nodes, i, i+1)
	}
	if len(s.streams) > 0 {
		d.client = s.client
	}
	h.number = 0
	if in.Hub == self {
		h.number = in.Change
		h.prove(s.registry, in.Change)
	}
	h.nodes, h.stale = s.registry.up(nodes)
	h.arm()
	s.set(d)
	h.wake()
	s.schedule(now)
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

// Down tells the registry that a hub has died or is closing. Its streams are no longer open. The hub that
// repairs takes it out of the documents at once. Each other hub does so a little later if that has not happened.
func (r *Registry) Down(id string, why Reason, repairs bool) {
	r.mu.Lock()
	r.down[id] = why
	r.mu.Unlock()
	for s := range r.all() {
		s.hubDown(id, why, repairs)
	}
	r.clearEnded(repairs)
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
	h.arm()
	if now {
		h.repair = monotonicNow()
	}
	s.schedule(monotonicNow())
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
		h.here, h.streams, h.beats = nil, false, false
		s.becomeStale(Partitioned, false)
	}
}

// Named returns the ids of the other hubs that documents name.
func (r *Registry) Named() map[string]bool {
	ids := map[string]bool{}
	r.mu.RLock()
	for _, e := range r.ended {
		ids[e.hub] = true
	}
	r.mu.RUnlock()
	for s := range r.all() {
		s.mu.Lock()
		for _, n := range s.shared.nodes {
			ids[n.hub] = true
		}
		s.mu.Unlock()
	}
	return ids
}

// clearEnded removes documents of sessions that have ended, if the hubs that had to do so are down.
func (r *Registry) clearEnded(repairs bool) {
	if !repairs {
		return
	}
	r.mu.RLock()
	var uids []string
	for uid, e := range r.ended {
		if _, down := r.down[e.hub]; down {
			uids = append(uids, uid)
		}
	}
	r.mu.RUnlock()
	for _, uid := range uids {
		r.spawn(func() { r.clear(uid) })
	}
}
