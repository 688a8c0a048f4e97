package mqtt

import (
	"context"
	"errors"
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
// The position is kept while a member is connected, or the session of one is kept (cursor.Set.KeepFor). With several hubs on a log, one of
// them has the position. It lends messages to the others (loan.go), which give them to their members (borrow.go).
type share struct {
	server *Server
	key    string // of the position
	filter group.Filter

	turn    sync.Mutex // held while members come and go; guards what follows
	ended   bool       // the last member has left
	ours    bool       // this hub has the position
	tail    *hub.Listener
	began   chan struct{}      // closed when the stream runs
	over    chan struct{}      // closed when it has ended
	borrows context.CancelFunc // ends the goroutine that borrows messages; nil: there is none
	watch   *time.Timer        // looks at the hubs that have borrowed messages; nil: there are none

	mu        sync.Mutex // guards what follows
	members   []*member
	borrowers []*borrower
	newest    map[string]uint64 // the number of the newest request, by hub
	debts     *debts            // nil unless another hub has the position
	running   *hub.Listener     // tail
	next      int               // where pick begins
	lent      []lending         // in the order of the log
	read      store.Seq         // what was logged up to here was given to a member at least once
	joined    store.Seq         // the end of the log when the share began to borrow
	resent    store.Seq         // the same when the stream began
	gap       gap               // to be told with the next message behind it
	kept      bool              // sessions of members at other hubs are kept, or were
	stored    cursor.Position
}

// member is a session with its subscription.
type member struct {
	session *session
	subscription
}

// lending is a message that a member has not acknowledged.
type lending struct {
	seq    store.Seq
	to     *session  // a member here
	at     *borrower // a hub with a member that has it
	gap    gap       // that was told with it, or will be
	behind bool      // the stream has passed it, and the next stream gives it again
	done   bool      // it was acknowledged before the stream has reached it
}

// lose takes note that nobody has a message any more. The gap that was told with it has to be told again. h.mu is held.
func (h *share) lose(x *lending) {
	untold := x.gap
	if h.debts == nil { // otherwise it is given back with the message
		h.gap.add(untold)
		untold = gap{}
	}
	*x = lending{seq: x.seq, gap: untold, behind: true}
}

// free reports whether the message has to be given to somebody again.
func (x *lending) free() bool { return x.to == nil && x.at == nil && !x.done }

// enter makes a session a member of the share of a subscription that the client makes. After an error it is none.
func (s *session) enter(x *subscription) error {
	h := s.join(x)
	defer h.turn.Unlock()
	err := h.start()
	if err != nil {
		h.drop(s)
	}
	return err
}

// enterAgain makes a session a member of the share of a subscription that it has. After an error, the share tries again.
func (s *session) enterAgain(x *subscription) {
	h := s.join(x)
	defer h.turn.Unlock()
	if err := h.start(); err != nil && !h.ours {
		h.borrow()
	}
}

// join adds a session to the members of the share of a subscription, and locks the share's turn.
func (s *session) join(x *subscription) *share {
	h := s.server.shares.of(s.server, x)
	h.turn.Lock()
	if h.ended { // between of and Lock
		h.turn.Unlock()
		return s.join(x)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members = append(h.members, &member{s, *x})
	return h
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
	switch {
	case h.ours:
		h.tail.Resume()
		return nil
	case h.borrows != nil:
		h.resume()
		return nil
	}
	err := h.claim()
	if errors.Is(err, cursor.ErrElsewhere) {
		h.borrow()
		return nil
	}
	return err
}

// claim makes this hub the one that has the position, and begins delivery from there. It returns cursor.ErrElsewhere if
// another one has it. h.turn is held.
func (h *share) claim() error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	p, found, err := h.server.hub.Cursors().ClaimFree(ctx, h.key)
	if err != nil {
		return err
	}
	h.stop()
	h.mu.Lock()
	h.ours = true
	end := h.server.hub.End()
	switch {
	case found && p.Epoch == end.Epoch:
		h.read = p.Read
	case found: // the positions mean nothing
		h.read, h.lent, p.Window = 0, nil, nil
	case h.debts != nil: // it was removed meanwhile
		h.read = max(h.read, h.joined)
	default:
		h.read = end.Seq
	}
	h.settleDebts(&p)
	if found {
		h.stored = p
		h.gap = h.server.gapAfter(string(p.Data))
	}
	h.mu.Unlock()
	h.run()
	h.look()
	if err = h.store(); errors.Is(err, cursor.ErrElsewhere) {
		h.giveUp()
	}
	return err
}

// run starts the stream at the position.
func (h *share) run() {
	h.mu.Lock()
	h.resent = h.read
	for i := range h.lent {
		h.lent[i].behind = false
	}
	id := h.server.hub.End()
	if h.stored.Epoch != "" {
		id.Epoch = h.stored.Epoch
	}
	id.Seq = h.done()
	h.mu.Unlock()
	h.over = make(chan struct{})
	over := h.over
	h.tail = h.server.hub.Tail(group.Set{h.filter}, id, h, func(delivery.Reason) { close(over) })
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
	h.debts.changed()
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
		if x := &h.lent[i]; x.to == s {
			h.lose(x)
			again = true
		}
	}
	if h.debts != nil {
		h.giveBack()
	}
	h.mu.Unlock()
	h.goOn(again)
}

// goOn goes on after members or hubs with members have left, or ends the share if there are none any more. again says that
// messages have to be given again. h.turn is held.
func (h *share) goOn(again bool) {
	h.mu.Lock()
	left := len(h.members)
	if h.server.ctx.Err() == nil {
		left += len(h.borrowers)
	}
	h.mu.Unlock()
	switch {
	case left == 0:
		h.end()
	case again && h.ours:
		h.stop()
		h.run()
	case h.tail != nil:
		h.tail.Resume()
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
	h.look() // at nobody any more
	if h.borrows != nil {
		h.repay()
	}
	if !h.ours {
		return
	}
	h.ours = false
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.position()
	needed := h.kept || len(h.borrowers) > 0 || h.server.hub.Cursors().Named(h.key)
	h.dismiss()
	if !needed {
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
	untold := h.gap
	for _, x := range h.lent {
		untold.add(x.gap)
	}
	p.Key, p.Epoch, p.Expiry, p.Away = h.key, h.server.hub.Epoch(), cursor.ForEver, time.Time{}
	p.Done, p.Read = h.done(), h.read
	p.Filters = append(p.Filters[:0], cursor.Filter{Filter: h.filter.String()})
	p.Data = append(p.Data[:0], untold.after...)
	p.Window = p.Window[:0]
	for _, x := range h.lent {
		p.Window = append(p.Window, cursor.Unacked{Seq: x.seq})
	}
	h.noteLoans(p)
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
