package mqtt

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// session is a connected client's subscriptions, its position in the log, and what it has not acknowledged. While the
// client is away, it is a cursor.Position (restore.go). Messages are never queued: those that the client does not
// take stay in the log, and the position before them.
type session struct {
	server   *Server
	conn     *conn
	grant    *access.Grant // in force; used by the goroutine that reads from the client
	listener *hub.Listener
	expiry   time.Duration // how long it is kept while the client is away; <0: for ever
	started  bool
	over     end // of the stream
	why      delivery.Reason

	mu          sync.Mutex // guards what follows
	subs        []subscription
	window      window
	aliases     *aliases         // nil: none was used
	gap         *gap             // nil: there was none to tell
	read        store.Seq        // what was logged up to here was sent, or was not for the client
	resent      store.Seq        // the same when the client connected
	returned    store.Seq        // the end of the log when the client returned
	ids         []uint32         // subscription identifiers of a message; kept for the next one
	stored      *cursor.Position // kept for the next one; nil: none was needed yet
	silent      bool             // the stream has ended
	held        bool             // nothing is sent, because a SUBACK has to be sent first
	unsure      bool             // the client may hold packet ids that the window does not have, since the server has crashed,
	lastRelease uint16           // until it has completed this one
}

// storeTimeout is how long a client waits until its session is found, or its subscription is stored.
const storeTimeout = 10 * time.Second

// open returns the session of a client that has been admitted: the one that was kept, unless the client wants a clean
// one. No other connection uses the session then. An error is one for the CONNACK.
func (srv *Server) open(c *conn) (s *session, present bool, err error) {
	s = &session{server: srv, conn: c, grant: c.grant, expiry: c.expiry}
	s.window.size = min(int(c.limits.receive), maxWindow)
	if s.expiry == 0 {
		s.window.size = min(int(c.limits.receive), maxBriefWindow)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	p, present, err := srv.hub.Cursors().Claim(ctx, s.conn.key)
	if err != nil {
		return nil, false, err
	}
	if p.Taken {
		srv.takenElsewhere(c)
	}
	if present && c.clean {
		if err := srv.discard(&p); err != nil {
			s.giveUp(&p, true)
			return nil, false, err
		}
		present = false
	}
	from := hub.From{}
	if present {
		if err := s.restore(&p); err != nil {
			return nil, false, err
		}
		from.After = &store.ID{Epoch: p.Epoch, Seq: s.window.done(s.read)}
		s.returned = srv.hub.End().Seq
	}
	err = s.subscribeAll(from)
	if err == nil {
		err = s.save()
	}
	if err != nil {
		s.giveUp(&p, present)
		return nil, false, err
	}
	return s, present, nil
}

// discard drops what was kept of a session, because its client wants a clean one.
func (srv *Server) discard(p *cursor.Position) error {
	err := srv.hub.CloseSession(p.Key[len(sessionPrefix):], sessions.Closed)
	if err != nil && !errors.Is(err, sessions.ErrUnknown) { // it may have ended before
		return err
	}
	return srv.hub.Cursors().Save(&cursor.Position{Key: p.Key, Epoch: srv.hub.Epoch()})
}

// giveUpSession ends the connection of a session that another hub wants, and returns when its position is saved.
func (srv *Server) giveUpSession(key string) {
	srv.mu.Lock()
	c := srv.holders[key]
	srv.mu.Unlock()
	if c != nil {
		_ = srv.takeOver(c, nil) // an error: the server is closed, and ends the connection itself
	}
}

// subscribeAll opens the session's stream.
func (s *session) subscribeAll(from hub.From) (err error) {
	c := s.conn
	s.listener, err = s.server.hub.Subscribe(s.server.ctx, &hub.Subscription{
		Grant: c.grant, UID: c.uid(), Filters: s.filters(), From: from, Codec: s, Ended: s.ended, Regranted: c.regranted,
		Address: c.address(), Remote: c.remote, ClientID: c.clientID, Protocol: "mqtt", Heartbeat: c.keepAlive,
	})
	if err == nil {
		s.keep()
	}
	return err
}

// filters returns the filters of the stream. The client may have lost the right to some of them.
func (s *session) filters() (set group.Set) {
	s.dropEnding()
	kept := s.subs[:0]
	for _, x := range s.subs {
		if s.mayRead(&x) != nil {
			continue
		}
		if kept = append(kept, x); x.logged() {
			set = append(set, x.filter)
		}
	}
	s.subs = kept
	return set
}

// giveUp keeps a session as it was, whose client could not be served.
func (s *session) giveUp(p *cursor.Position, present bool) {
	if s.listener != nil {
		s.listener.Cancel()
	}
	if !present {
		s.server.hub.Cursors().Remove(s.conn.key)
		return
	}
	p.Away = time.Now()
	_ = s.server.hub.Cursors().Save(p) // an error: then it is as it was
}

// start begins to deliver. The CONNACK is queued already.
func (s *session) start() {
	s.mu.Lock()
	for i := range s.window.list {
		if e := &s.window.list[i]; e.state == awaitComp {
			s.release(e.id, packets.CodeSuccess.Code)
		}
	}
	if s.unsure {
		s.releaseAll()
	}
	s.mu.Unlock()
	s.reopen()
	for i := range s.subs {
		if x := &s.subs[i]; x.shared() {
			s.enterAgain(x)
		}
	}
	if slices.ContainsFunc(s.subs, func(x subscription) bool { return x.system() }) {
		s.server.watchSystem(s)
	}
	s.started = true
	s.server.running.Go(func() { s.listener.Run(s.conn) })
}

// reopen asks again for what subscriptions were to be sent when they began, and for retained messages that are not
// acknowledged. The stream reads them again, and Append leaves out what was sent.
func (s *session) reopen() {
	at := s.listener.Position().Seq
	if s.window.retained() {
		for i := range s.subs {
			if x := &s.subs[i]; x.logged() {
				_ = s.listener.Rejoin(x.filter, delivery.JoinOptions{Retained: true, At: at}) // an error: there are too many
			}
		}
	}
	opening := slices.DeleteFunc(slices.Clone(s.subs), func(x subscription) bool { return x.opening == opening{} })
	slices.SortFunc(opening, func(x, y subscription) int { return cmp.Compare(x.opening.to, y.opening.to) })
	for _, x := range opening {
		o := delivery.JoinOptions{Retained: x.opening.retained.wanted(), At: max(at, x.opening.to)}
		if x.opening.earlier.wanted() {
			reached := x.opening.earlier.reached()
			o.After = &reached
		}
		_ = s.listener.Rejoin(x.filter, o)
	}
}

// ended is called when the stream has ended.
func (s *session) ended(why delivery.Reason) {
	s.why = why
	s.mu.Lock()
	s.silent = true
	s.mu.Unlock()
	s.changed() // the hub may close its positions before the connection ends
	s.over.reach()
}

// packet answers a SUBSCRIBE, UNSUBSCRIBE, PUBACK, PUBREC or PUBCOMP. It does not keep pk or its parts. An error is a
// packets.Code, with which the connection ends.
func (s *session) packet(pk *packets.Packet) error {
	switch pk.FixedHeader.Type {
	case packets.Subscribe:
		return s.subscribe(pk)
	case packets.Unsubscribe:
		return s.unsubscribe(pk)
	}
	s.acknowledge(pk)
	return nil
}

// close keeps the session for conn.expiry, when its stream has ended. The connection is closed, and the stream knows it.
func (s *session) close() {
	if !s.started {
		s.listener.Cancel()
	}
	<-s.over.reached()
	s.expiry = s.conn.expiry // the DISCONNECT may have changed it
	switch sessions.Reason(s.why) {
	case sessions.Ended, sessions.Kicked:
		s.expiry = 0
	}
	s.leaveAll()
	s.server.unwatchSystem(s)
	h := s.server.hub
	if s.expiry == 0 {
		h.Cursors().Remove(s.conn.key)
		_ = h.CloseSession(s.conn.uid(), s.conn.whyEnded()) // it may have ended already. After another error, keep ends it
		return
	}
	s.mu.Lock()
	p := s.position(false)
	s.mu.Unlock()
	p.Away = time.Now()
	_ = h.Cursors().Save(p) // an error: another hub has the session, or there is no room for a longer position
}

// keep tells the hub how long its session is kept after the connection. One that ends with the connection is gone a second
// later at the latest.
func (s *session) keep() {
	lost := max(s.conn.expiry, time.Second)
	if s.conn.expiry < 0 {
		lost = 0 // as long as any other session
	}
	s.listener.Keep(lost)
}

// changed stores the position of a session that is kept.
func (s *session) changed() {
	if s.expiry != 0 {
		_ = s.save() // an error: see close
	}
}

// save stores the position of the session if it is kept. If hubs share the log, one that is not kept remains claimed, so that
// a connection at another hub ends this one.
func (s *session) save() error {
	if s.expiry == 0 {
		if s.server.hub.ID() == "" {
			s.server.hub.Cursors().Remove(s.conn.key)
		}
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server.hub.Cursors().Save(s.position(true))
}
