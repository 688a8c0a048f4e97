package hub

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// ErrSessionEnded reports that a session was ended while it polled, or between two polls.
var ErrSessionEnded = errors.New("the session was ended: the client is not meant to come back by itself")

// Poll is a subscription that is answered once: when there are messages behind its position, or when its wait is
// over. While it waits it is a stream, without a connection, that ends with the first thing to write. The answer is
// then read from the log, from the position on that the stream reached.
//
// A poll that names its session's secret is one of the session's streams until the next poll, or until the session
// timeout has passed without one. So the session is not lost between two polls.
type Poll struct {
	hub     *Hub
	sub     *Subscription
	uid     string // of the session; "": none
	client  string // that its slot counts for
	start   delivery.Start
	stream  *delivery.Stream
	ended   chan struct{} // closed when the stream has ended
	why     delivery.Reason
	reached store.ID // messages up to here were not for it, or are part of the answer
	told    bool     // the client was told that the session has ended
	polling pollStream
}

// changed ends a poll whose filters change. The client's next poll names the new ones.
const changed delivery.Reason = "changed"

// waited ends a poll whose wait is over.
const waited delivery.Reason = "waited"

// Poll admits a subscription and waits until there is something for it, for at most wait. The caller must call Close.
// Without a secret, no session takes part.
func (h *Hub) Poll(ctx context.Context, s *Subscription, wait time.Duration) (*Poll, error) {
	if err := ctx.Err(); err != nil { // the client has left: it must not become present
		return nil, err
	}
	p, err := h.openPoll(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := p.wait(ctx, wait); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// openPoll admits a poll and adds it to its session.
func (h *Hub) openPoll(ctx context.Context, s *Subscription) (*Poll, error) {
	p := &Poll{hub: h, sub: s, client: clientOf(s.Grant, s.Address), ended: make(chan struct{})}
	if err := h.Check(s); err != nil {
		return nil, err
	}
	if s.Secret != "" {
		p.uid = session.UID(s.Secret)
		if err := h.sessions.Admit(p.uid, s.Grant.Subject, s.Filters); err != nil {
			return nil, err
		}
	}
	earlier, err := p.begin(ctx)
	if earlier != nil {
		defer earlier.replaced() // after p has its place
	}
	if err != nil {
		return nil, err
	}
	if err := p.attach(); err != nil {
		h.giveSlot(p.client)
		return nil, err
	}
	h.opened.Add(1)
	return p, nil
}

// begin takes the poll's slot and finds its start. A poll that waits for its position has a slot, too: its own, or that of the
// earlier poll that it continues and that begin returns. If the start is not found, the earlier poll keeps its place.
func (p *Poll) begin(ctx context.Context) (earlier *Poll, err error) {
	h, s := p.hub, p.sub
	earlier = h.polls.claim(p.uid, s.Filters)
	if earlier == nil {
		if p.uid != "" && h.polls.full(h.sessions.MaxLost) {
			return nil, session.ErrTooManySessions
		}
		if err := h.takeSlot(p.client); err != nil {
			return nil, err
		}
	}
	p.start, _, err = h.start(ctx, s.Filters, s.From)
	switch {
	case err == nil && earlier != nil:
		h.giveSlot(earlier.client) // p takes it over
		return earlier, h.takeSlot(p.client)
	case earlier != nil:
		h.polls.keep(earlier, h.opts.SessionTimeout)
	case err != nil:
		h.giveSlot(p.client)
	}
	return nil, err
}

// attach creates the stream and adds it to the session.
func (p *Poll) attach() (err error) {
	h, s := p.hub, p.sub
	p.start.Retained = s.Retained
	c := delivery.Config{Filters: s.Filters, UID: p.uid, Heartbeat: math.MaxInt64 / 2, Start: p.start}
	if s.NoEcho {
		c.View.NotFrom = p.uid
	}
	c.Done = func(why delivery.Reason) {
		p.why = why
		close(p.ended)
	}
	p.stream = h.set.New(c)
	p.polling.sessionStream = sessionStream{p.stream}
	if p.uid == "" {
		return nil
	}
	client := s.describe()
	p.polling.attachment, err = h.sessions.Attach(p.uid, &session.Opening{Client: client, Grant: s.Grant, Filters: s.Filters, Stream: &p.polling, Polls: true, End: sessionPosition(h.End())})
	switch {
	case errors.Is(err, session.ErrClosed):
		return ErrClosed
	case errors.Is(err, session.ErrKicked):
		return ErrSessionEnded
	}
	return err
}

// wait runs the stream until it ends, and returns why the poll has no answer.
func (p *Poll) wait(ctx context.Context, most time.Duration) error {
	if end := p.sub.Grant.Expires; !end.IsZero() {
		most = min(most, time.Until(end))
	}
	p.hub.handlers.add(0, 1)
	defer p.hub.handlers.add(0, -1)
	if !p.stream.Run(doorbell{}) {
		return ErrClosed
	}
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-p.ended:
	case <-late.C:
		p.stream.End(waited)
	case <-ctx.Done():
		p.stream.End(waited)
	}
	<-p.ended
	p.reached = store.ID{Epoch: p.stream.Epoch(), Seq: p.stream.Position()}
	if err := ctx.Err(); err != nil { // nobody gets an answer
		return err
	}
	switch session.Reason(p.why) {
	case session.Shutdown:
		return ErrClosed
	case session.Kicked, session.Ended:
		p.told = true
		return ErrSessionEnded
	}
	return p.recheck()
}

// recheck returns an error if the caller may no longer read what it asked for.
func (p *Poll) recheck() (err error) {
	g := p.sub.Grant
	if p.hub.opts.Access != nil {
		if g, err = p.hub.opts.Access.Current(g); err != nil {
			return err
		}
	}
	for _, f := range p.sub.Filters {
		if err := checkRead(g.For(p.uid), f); err != nil {
			return err
		}
	}
	return nil
}

// UID returns the uid of the poll's session, or "".
func (p *Poll) UID() string { return p.uid }

// Read passes the retained messages that the poll starts with to retained, and gaps and messages as Replay does. It
// returns the position after which to continue.
func (p *Poll) Read(ctx context.Context, limit int, to Answer) (store.ID, error) {
	q := &History{Filters: p.sub.Filters, Limit: limit, uid: p.uid}
	if p.sub.NoEcho {
		q.notFrom = p.uid
	}
	if p.sub.Retained {
		r := &Retained{Filters: p.sub.Filters, through: store.ID{Epoch: p.start.Epoch, Seq: p.start.After}}
		if _, err := p.hub.Retained(ctx, r, to.Retained); err != nil {
			return store.ID{}, err
		}
	}
	start := p.start
	if p.reached.Epoch == start.Epoch && p.reached.Seq > start.After { // otherwise the answer tells that the epoch is another
		start = delivery.Start{After: p.reached.Seq, Epoch: start.Epoch, Live: true}
	}
	next, end, err := p.hub.replay(ctx, q, start, to)
	if err != nil {
		return store.ID{}, err
	}
	if next != nil {
		end = *next
	}
	p.reached = end
	return end, nil
}

// Close ends the poll. Its session keeps its place until the next poll, or for the session timeout.
func (p *Poll) Close() {
	switch {
	case p.uid == "":
		p.hub.giveSlot(p.client)
		return
	case p.told:
		p.detach()
		return
	}
	p.hub.polls.keep(p, p.hub.opts.SessionTimeout)
}

// replaced removes the poll from its session, because another one continues it.
func (p *Poll) replaced() { p.polling.attachment.Replaced(sessionPosition(p.reached)) }

// leave ends the session's presence if no other poll followed. Its slot is free then.
func (p *Poll) leave() {
	if p.hub.polls.leave(p) {
		p.detach()
	}
}

// detach takes the poll away from its session.
func (p *Poll) detach() {
	p.polling.attachment.Detach(session.Timeout, sessionPosition(p.reached))
	p.hub.giveSlot(p.client)
}

// takeSlot counts a stream of a client, unless a limit is reached.
func (h *Hub) takeSlot(client string) error {
	if n := h.streams.Add(1); h.opts.MaxStreams > 0 && n > int64(h.opts.MaxStreams) {
		h.streams.Add(-1)
		return ErrTooManyStreams
	}
	if err := h.perClient.enter(client); err != nil {
		h.streams.Add(-1)
		return err
	}
	return nil
}

// giveSlot reverses takeSlot.
func (h *Hub) giveSlot(client string) {
	h.streams.Add(-1)
	h.perClient.leave(client)
}

// errRung is the error of each write to a doorbell.
var errRung = errors.New("there is something to write")

// doorbell is the connection of a poll's stream. The first write ends the stream.
type doorbell struct{}

func (doorbell) TryWrite([]byte) (int, error) { return 0, errRung }
func (doorbell) Write([]byte) (int, error)    { return 0, errRung }
func (doorbell) Blocking() bool               { return false }
func (doorbell) Watch(func(error))            {}
func (doorbell) Serve()                       {}
func (doorbell) Close() error                 { return nil }

var _ sse.Conn = doorbell{}
