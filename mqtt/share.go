package mqtt

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
)

// share is the members of a shared subscription, $share/NAME/FILTER. It has one position in the log and a stream of
// its own. Each message goes to the member with the most room in its window. A message that a member has not acknowledged when
// its connection ends goes to another one, before later messages.
//
// The position is kept while a member is connected, or the session of one is kept. With several hubs on a log, one of
// them has the position; the members at the others wait until it has no members any more.
type share struct {
	server *Server
	key    string // of the position
	filter group.Filter

	turn  sync.Mutex // held while members come and go; guards what follows
	ended bool       // the last member has left
	ours  bool       // this hub has the position
	tail  *hub.Listener
	began chan struct{} // closed when the stream runs
	over  chan struct{} // closed when it has ended
	wait  *time.Timer   // looks again whether another hub has the position; nil: no need

	mu      sync.Mutex // guards what follows
	members []*member
	running *hub.Listener // tail
	next    int           // where pick begins
	lent    []lending     // in the order of the log
	read    store.Seq     // what was logged up to here was given to a member at least once
	resent  store.Seq     // the same when the stream began
	gap     gap           // to be told with the next message behind it
	kept    retention
	stored  cursor.Position
}

// member is a session with its subscription.
type member struct {
	session *session
	subscription
	expiry time.Duration // of the session, as long as its client is connected
}

// lending is a message that a member has not acknowledged.
type lending struct {
	seq store.Seq
	to  *session // nil: it has to be given to somebody again
	gap gap      // that was told with it
}

// retention is until when sessions of members that are away are kept.
type retention struct {
	forEver bool
	until   time.Time
}

// extend adds a session that is kept for a time.
func (r *retention) extend(expiry time.Duration, since time.Time) {
	if until := since.Add(expiry); expiry > 0 && until.After(r.until) {
		r.until = until
	}
	r.forEver = r.forEver || expiry < 0
}

// left returns how long a session is still kept; <0: for ever; 0: none is.
func (r *retention) left() time.Duration {
	if r.forEver {
		return -1
	}
	return max(0, time.Until(r.until))
}

// shares are the shares with members at this hub.
type shares struct {
	mu    sync.Mutex
	byKey map[string]*share
}

// lookAgain is how often a share asks whether the hub that has its position has members still.
const lookAgain = 5 * time.Second

// sharedPrefix begins the keys of the positions of shares.
const sharedPrefix = "share/"

func shareKey(x *subscription) string { return sharedPrefix + x.share + "/" + x.filter.String() }

// find returns the share of a subscription, or nil.
func (l *shares) find(x *subscription) *share {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byKey[shareKey(x)]
}

// of returns the share of a subscription. It may be a new one.
func (l *shares) of(srv *Server, x *subscription) *share {
	key := shareKey(x)
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.byKey[key]
	if h == nil {
		h = &share{server: srv, key: key, filter: x.filter}
		if l.byKey == nil {
			l.byKey = map[string]*share{}
		}
		l.byKey[key] = h
	}
	return h
}

// forget tells shares that the session with a position is not kept any more. It removes their positions if nobody is a
// member of them without it.
func (l *shares) forget(srv *Server, p *cursor.Position) {
	for i := range p.Filters {
		x, err := restoreSubscription(&p.Filters[i])
		if err != nil || !x.shared() {
			continue
		}
		kept := srv.retention(&x, p.Key)
		if h := l.find(&x); h != nil {
			h.mu.Lock()
			h.kept = kept
			h.mu.Unlock()
		} else if kept.left() == 0 {
			srv.hub.Cursors().Remove(shareKey(&x))
		}
	}
}

// retention returns until when sessions with a shared subscription are kept, except one of them.
func (srv *Server) retention(x *subscription, except string) (r retention) {
	for p := range srv.hub.Cursors().Each(sessionPrefix) {
		if p.Key != except && slices.ContainsFunc(p.Filters, func(f cursor.Filter) bool {
			y, err := restoreSubscription(&f)
			return err == nil && y.topic == x.topic
		}) {
			since := p.Away
			if since.IsZero() {
				since = time.Now()
			}
			r.extend(p.Expiry, since)
		}
	}
	return r
}

// resumeShares tells the shares that the session takes messages again.
func (s *session) resumeShares() {
	var shared []subscription
	s.mu.Lock()
	for i := range s.subs {
		if s.subs[i].shared() {
			shared = append(shared, s.subs[i])
		}
	}
	s.mu.Unlock()
	for i := range shared {
		if h := s.server.shares.find(&shared[i]); h != nil {
			h.resume()
		}
	}
}

// enter makes a session a member of the share of a subscription.
func (s *session) enter(x *subscription) error {
	h := s.server.shares.of(s.server, x)
	h.turn.Lock()
	defer h.turn.Unlock()
	if h.ended {
		return s.enter(x) // it ended between of and Lock
	}
	h.mu.Lock()
	h.members = append(h.members, &member{s, *x, s.expiry})
	h.mu.Unlock()
	if err := h.start(); err != nil {
		h.drop(s)
		return err
	}
	return nil
}

// reenter changes the options of a session's membership, because it has subscribed again.
func (s *session) reenter(x *subscription) {
	h := s.server.shares.find(x)
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.members {
		if m.session == s {
			m.subscription = *x
		}
	}
}

// start begins or resumes delivery. h.turn is held.
func (h *share) start() error {
	if h.tail != nil {
		h.tail.Resume()
		return nil
	}
	if !h.ours {
		if err := h.claim(); err != nil || !h.ours {
			return err
		}
	}
	h.run()
	return h.store()
}

// claim makes this hub the one that has the position, unless another one has members.
func (h *share) claim() error {
	cursors := h.server.hub.Cursors()
	if p, found := cursors.Get(h.key); found && p.Away.IsZero() {
		h.wait = time.AfterFunc(lookAgain, h.look)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	p, found, err := cursors.Claim(ctx, h.key)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ours = true
	end := h.server.hub.End()
	if !found {
		h.read = end.Seq
		return nil
	}
	h.read, h.stored = p.Read, p
	h.kept.extend(p.Expiry, time.Now())
	h.gap = h.server.gapAfter(string(p.Data))
	for _, u := range p.Window {
		h.lent = append(h.lent, lending{seq: u.Seq})
	}
	if p.Epoch != end.Epoch { // the positions mean nothing
		h.read, h.lent = 0, nil
	}
	return nil
}

// look tries again to get the position.
func (h *share) look() {
	h.turn.Lock()
	defer h.turn.Unlock()
	if h.wait == nil {
		return
	}
	h.wait = nil
	if err := h.start(); err != nil {
		h.wait = time.AfterFunc(lookAgain, h.look)
	}
}

// run starts the stream at the position.
func (h *share) run() {
	h.mu.Lock()
	h.resent = h.read
	id := h.server.hub.End()
	if h.stored.Epoch != "" {
		id.Epoch = h.stored.Epoch
	}
	id.Seq = h.done()
	h.mu.Unlock()
	h.over = make(chan struct{})
	over := h.over
	h.tail = h.server.hub.Tail(group.Set{h.filter}, hub.From{After: &id}, h, func(delivery.Reason) { close(over) })
	tail := h.tail
	h.mu.Lock()
	h.running = tail
	h.mu.Unlock()
	began := make(chan struct{})
	h.began = began
	h.server.running.Go(func() { tail.Run(nowhere{began}) })
}

// resume tells the stream that a member takes messages again.
func (h *share) resume() {
	h.mu.Lock()
	tail := h.running
	h.mu.Unlock()
	if tail != nil {
		tail.Resume()
	}
}

// stop ends the stream.
func (h *share) stop() {
	if h.tail != nil {
		select {
		case <-h.began:
			h.tail.Gone(io.EOF)
			<-h.over
		case <-h.over:
		}
		h.tail = nil
		h.mu.Lock()
		h.running = nil
		h.mu.Unlock()
	}
}

// leave ends a session's membership, because it has unsubscribed.
func (s *session) leave(x *subscription) {
	if h := s.server.shares.find(x); h != nil {
		h.turn.Lock()
		defer h.turn.Unlock()
		h.drop(s)
	}
}

// leaveAll ends the memberships of a session whose client has left.
func (s *session) leaveAll() {
	for i := range s.subs {
		x := &s.subs[i]
		if !x.shared() {
			continue
		}
		h := s.server.shares.find(x)
		if h == nil {
			continue
		}
		h.turn.Lock()
		h.mu.Lock()
		h.kept.extend(s.expiry, time.Now())
		h.mu.Unlock()
		h.drop(s)
		h.turn.Unlock()
	}
}

// drop removes a member. h.turn is held.
func (h *share) drop(s *session) {
	if h.ended {
		return
	}
	h.mu.Lock()
	h.members = slices.DeleteFunc(h.members, func(m *member) bool { return m.session == s })
	again := false
	for i := range h.lent {
		if h.lent[i].to == s {
			h.gap.add(h.lent[i].gap)
			h.lent[i], again = lending{seq: h.lent[i].seq}, true
		}
	}
	left := len(h.members)
	h.mu.Unlock()
	switch {
	case left == 0:
		h.end()
	case again && h.ours:
		h.stop()
		h.run()
	}
}

// end gives the position up, or keeps it for members that are away.
func (h *share) end() {
	h.ended = true
	l := &h.server.shares
	l.mu.Lock()
	delete(l.byKey, h.key)
	l.mu.Unlock()
	h.stop()
	if h.wait != nil {
		h.wait.Stop()
		h.wait = nil
	}
	if !h.ours {
		return
	}
	h.ours = false
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.position()
	if p.Expiry == 0 && h.server.hub.ID() != "" { // members at other hubs may wait
		p.Expiry = 2 * lookAgain
	}
	if p.Expiry == 0 {
		h.server.hub.Cursors().Remove(h.key)
		return
	}
	p.Away = time.Now()
	_ = h.server.hub.Cursors().Save(p) // an error: it is as it was a moment ago
}

// done returns the position up to which all messages are acknowledged. h.mu is held.
func (h *share) done() store.Seq {
	if len(h.lent) > 0 {
		return min(h.read, h.lent[0].seq-1)
	}
	return h.read
}

// position returns what is kept. h.mu is held.
func (h *share) position() *cursor.Position {
	p := &h.stored
	kept := h.kept
	for _, m := range h.members {
		kept.extend(m.expiry, time.Now())
	}
	untold := h.gap
	for _, x := range h.lent {
		untold.add(x.gap)
	}
	p.Key, p.Epoch, p.Expiry, p.Away = h.key, h.server.hub.Epoch(), kept.left(), time.Time{}
	p.Done, p.Read = h.done(), h.read
	p.Filters = append(p.Filters[:0], cursor.Filter{Filter: h.filter.String()})
	p.Data = append(p.Data[:0], untold.after...)
	p.Window = p.Window[:0]
	for _, x := range h.lent {
		p.Window = append(p.Window, cursor.Unacked{Seq: x.seq})
	}
	return p
}

// save stores the position. h.mu is held.
func (h *share) save() error {
	return h.server.hub.Cursors().Save(h.position())
}

// store stores the position and waits for it.
func (h *share) store() error {
	h.mu.Lock()
	err := h.save()
	h.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	return h.server.hub.Cursors().Flush(ctx, h.key)
}

// nowhere is the connection of a stream that writes nothing.
type nowhere struct{ began chan struct{} }

func (nowhere) TryWrite(p []byte) (int, error) { return len(p), nil }
func (nowhere) Write(p []byte) (int, error)    { return len(p), nil }
func (nowhere) Blocking() bool                 { return false }
func (n nowhere) Watch(func(error))            { close(n.began) }
func (nowhere) Serve()                         {}
func (nowhere) Close() error                   { return nil }
