package hub

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
	"unique"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// From says where a stream begins. At most one field is set. If none is set, the stream begins at the
// end of the log, after the retained messages.
type From struct {
	All    bool
	Since  time.Time
	Last   *int
	Resume string    // the id of the last event that the client received
	After  *store.ID // a position that was kept for the client, and which this hub has read in the log
}

// Subscription is a request to listen.
type Subscription struct {
	Grant     *access.Grant // must cover each filter
	Filters   group.Set
	From      From
	Secret    string // "": the server creates a secret, unless UID is set
	UID       string // of the session, if the client has proved otherwise that it is its own
	Raw       bool
	NoEcho    bool
	Retained  bool          // a poll starts with the retained messages; a stream does so if From says nothing else
	Heartbeat time.Duration // 0: the hub's

	// Codec renders the messages for another protocol, which has its own heartbeats and its own first bytes. A stream with a codec
	// starts without the retained messages.
	Codec delivery.Codec

	// Ended is called when the stream has ended, from a goroutine that may wait; nil: nobody needs to know.
	Ended func(delivery.Reason)

	// Regranted is called when the grant is replaced by another one, and must not block; nil: nobody needs to know.
	Regranted func(*access.Grant)

	Address string // of the client, without a port

	// For the log and for GET /v1/sessions. ClientID is "" unless the protocol has such ids.
	Remote, UserAgent, Protocol, ClientID string
}

// Listener is an admitted subscription. The caller must call either Run or Cancel.
type Listener struct {
	hub        *Hub
	stream     *delivery.Stream
	attachment *session.Attachment   // nil: the stream belongs to no session
	hello      []byte                // nil once the stream runs
	closed     func(delivery.Reason) // logs the end and counts it for the client; nil: there is no need
	ended      func(delivery.Reason) // Subscription.Ended
}

// Check returns an error if Subscribe would refuse the subscription regardless of the hub's limits.
func (h *Hub) Check(s *Subscription) error {
	if h.closing.Load() {
		return ErrClosed
	}
	switch {
	case s.UID != "":
		s.Grant = s.Grant.For(s.UID)
	case s.Secret != "":
		if err := session.CheckSecret(s.Secret); err != nil {
			return err
		}
		s.Grant = s.Grant.For(session.UID(s.Secret))
	}
	for _, f := range s.Filters {
		if err := checkRead(s.Grant, f); err != nil {
			return err
		}
	}
	return nil
}

// Subscribe admits a listener. At the limit of streams it returns ErrTooManyStreams; it never ends
// another stream to make room. It waits for the client's position
// until ctx ends.
func (h *Hub) Subscribe(ctx context.Context, s *Subscription) (*Listener, error) {
	secret := ""
	if s.Secret == "" && s.UID == "" {
		s.Secret = session.NewSecret()
		secret = s.Secret // the client must be sent a new secret
	}
	if err := h.Check(s); err != nil {
		return nil, err
	}
	uid := s.UID
	if uid == "" {
		uid = session.UID(s.Secret)
	}
	if err := h.sessions.Admit(uid, s.Grant.Subject, s.Filters); err != nil {
		return nil, err
	}
	client := clientOf(s.Grant, s.Address)
	if err := h.takeSlot(client); err != nil {
		return nil, err
	}
	h.opened.Add(1)
	h.handlers.add(1, 0)
	heartbeat := s.Heartbeat
	if heartbeat == 0 {
		heartbeat = h.opts.Heartbeat
	}
	l := &Listener{hub: h}
	start, id, err := h.start(ctx, s.Filters, s.From)
	if err == nil {
		err = h.attach(l, s, uid, start, heartbeat)
	}
	if err != nil {
		h.handlers.add(-1, 0)
		h.giveSlot(client)
		return nil, err
	}
	if s.Codec != nil {
		return l, nil
	}
	id.Seq = l.stream.Position()
	at := id.String()
	if start.Unknown != "" {
		at = "" // a client that is cut off now must keep its unknown id, so that its next stream reports the gap
	}
	l.hello = h.hello(at, uid, secret, heartbeat, s.Grant)
	return l, nil
}

// attach creates the stream and adds it to its session.
func (h *Hub) attach(l *Listener, s *Subscription, uid string, start delivery.Start, heartbeat time.Duration) (err error) {
	c := delivery.Config{
		Filters: s.Filters, UID: uid, View: delivery.View{Raw: s.Raw},
		Heartbeat: heartbeat, Start: start, Codec: s.Codec,
	}
	if s.Codec != nil {
		c.Start.Retained = false
	}
	if s.NoEcho {
		c.View.NotFrom = uid
	}
	c.Done = l.done // it must not refer to s: a stream may last for weeks and would keep all of s in memory
	stream := h.set.New(c)
	l.stream, l.ended = stream, s.Ended
	client := s.describe()
	l.attachment, err = h.sessions.Attach(uid, &session.Opening{
		Client: client, Grant: s.Grant, Filters: s.Filters, Heartbeat: s.Heartbeat, Stream: sessionStream{stream},
		Regranted: s.Regranted, End: sessionPosition(h.End()),
	})
	switch {
	case errors.Is(err, session.ErrKicked): // between two polls: this stream tells the client
		l.closed = h.clientLeft(s, h.count)
		stream.End(delivery.Reason(session.Kicked))
		return nil
	case errors.Is(err, session.ErrClosed):
		return ErrClosed
	case err != nil:
		return err
	}
	l.closed = h.clientLeft(s, h.closed(s, uid))
	if s.From.Resume == "" && s.From.After == nil {
		h.deliverMissed(uid, l)
	}
	if h.opts.Access != nil { // the token may have been revoked meanwhile
		if _, err := h.opts.Access.Current(s.Grant); err != nil {
			stream.End(delivery.Reason(session.ReasonOf(err)))
		}
	}
	return nil
}

// sessionPosition returns a position in the log for a session.
func sessionPosition(id store.ID) session.Position {
	return session.Position{Epoch: id.Epoch, Seq: uint64(id.Seq)}
}

// deliverMissed delivers the messages to a session that it missed before a stream without an id.
func (h *Hub) deliverMissed(uid string, l *Listener) {
	reached, others, ok := l.attachment.Missed()
	if !ok {
		return
	}
	epoch := l.stream.Epoch()
	from := reachedIn(epoch, reached)
	if len(others) > 0 {
		open, left := h.cluster.open(uid, others, epoch)
		if open {
			return
		}
		from = max(from, left)
	}
	l.stream.DeliverMissed(from)
}

// reachedIn returns what a position of a session is in an epoch.
func reachedIn(epoch string, p session.Position) store.Seq {
	return seqIn(epoch, store.ID{Epoch: p.Epoch, Seq: store.Seq(p.Seq)})
}

// done is called when the stream has ended.
func (l *Listener) done(why delivery.Reason) {
	if l.attachment != nil {
		l.attachment.Detach(session.Reason(why), sessionPosition(l.Position()))
		l.hub.count(why)
	}
	if l.closed != nil {
		l.closed(why)
	}
	if l.ended != nil {
		l.ended(why)
	}
}

// closed logs the opening of the stream if streams are logged. It returns the function to call when the stream ends, which logs
// that; nil if streams are not logged.
func (h *Hub) closed(s *Subscription, uid string) func(delivery.Reason) {
	log := h.streamLog()
	if log == nil {
		return nil
	}
	begin, remote := time.Now(), s.Remote
	filters := strings.Join(s.Filters.Strings(), " ")
	log("stream opened", "filters", filters, "uid", uid, "remote", remote)
	return func(why delivery.Reason) {
		log("stream closed", "filters", filters, "uid", uid, "remote", remote,
			"reason", string(why), "after", duration.Format(time.Since(begin).Round(time.Millisecond)))
	}
}

// clientLeft adds to the end of a stream that it no longer counts for its client.
func (h *Hub) clientLeft(s *Subscription, closed func(delivery.Reason)) func(delivery.Reason) {
	if h.perClient.limit == 0 {
		return closed
	}
	client := clientOf(s.Grant, s.Address)
	return func(why delivery.Reason) {
		if closed != nil {
			closed(why)
		}
		h.perClient.leave(client)
	}
}

// count removes an ended stream from the count of open streams.
func (h *Hub) count(why delivery.Reason) {
	h.streams.Add(-1)
	h.ended.add(why)
}

// sessionStream makes a delivery stream a session.Stream.
type sessionStream struct{ *delivery.Stream }

func (s sessionStream) End(why session.Reason) { s.Stream.End(delivery.Reason(why)) }

// start returns the position where a stream begins, and the id of its session event. It returns an error while it is not known
// whether the log has the position that the client has, or messages cannot be read.
func (h *Hub) start(ctx context.Context, filters group.Set, f From) (s delivery.Start, id store.ID, err error) {
	_, newest := h.log.Bounds()
	s = delivery.Start{After: newest.Seq, Epoch: newest.Epoch}
	switch {
	case f.Resume != "":
		at, known, err := h.position(ctx, f.Resume)
		s, id = h.resume(at, known, f.Resume)
		return s, id, err
	case f.After != nil:
		s, id = h.after(*f.After)
		return s, id, nil
	case f.All:
		s.After, s.Held = 0, true
	case f.Last != nil:
		s.Held = true
		if *f.Last > 0 {
			s.After, err = h.log.Find(filters, store.Start{Last: *f.Last})
		}
	case !f.Since.IsZero():
		s.After, err = h.log.Find(filters, store.Start{Since: f.Since})
	default:
		s.Retained = true
	}
	s.Live = s.After == newest.Seq
	return s, store.ID{Epoch: newest.Epoch, Seq: s.After}, err
}

// resume is start for a client that has an id. known says that the log has it, or had it a moment ago.
func (h *Hub) resume(at store.ID, known bool, text string) (delivery.Start, store.ID) {
	_, newest := h.log.Bounds()
	if !known || at.Epoch != newest.Epoch {
		return delivery.Start{Epoch: newest.Epoch, Held: true, Live: newest.Seq == 0, Unknown: cut(text, maxUnknown)}, store.ID{Epoch: newest.Epoch}
	}
	at.Seq = min(at.Seq, newest.Seq) // other hubs may know a position behind the newest message
	return delivery.Start{After: at.Seq, Epoch: at.Epoch, Live: at.Seq == newest.Seq}, at
}

// after is start for From.After. This hub has read a position that it was given in the log that others share: if it is not
// one of this epoch, it is one of an earlier epoch.
func (h *Hub) after(at store.ID) (delivery.Start, store.ID) {
	_, newest := h.log.Bounds()
	return h.resume(at, h.cluster != nil || at.Seq <= newest.Seq, at.String())
}

// reachTimeout is how long a client that comes from another hub waits for this hub to have what that one had.
const reachTimeout = 5 * time.Second

// position reads the id of a position that a client has, and reports whether the log has it. If this hub does not, another one
// may: an error says that this could not be found out in time, or before ctx has ended.
func (h *Hub) position(ctx context.Context, text string) (id store.ID, known bool, err error) {
	if id, err = store.ParseID(text); err != nil {
		return store.ID{}, false, nil
	}
	_, newest := h.log.Bounds()
	known = id.Epoch == newest.Epoch && id.Seq <= newest.Seq
	if known || h.cluster == nil {
		return id, known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	defer context.AfterFunc(h.cluster.closed, cancel)()
	known, err = h.cluster.log.Reach(ctx, id)
	if err != nil && h.closing.Load() {
		err = ErrClosed
	}
	return id, known, err
}

// describe returns what the session shows of its client. The ids of devices are all different, so they are not shared. An id is not
// copied, since the protocol that has it keeps it, too.
func (s *Subscription) describe() session.Client {
	c := session.Client{Address: s.Remote, Agent: unique.Make(session.Agent{UserAgent: cut(s.UserAgent, maxUserAgent), Protocol: s.Protocol})}
	if s.ClientID != "" {
		id := strings.ToValidUTF8(s.ClientID[:min(len(s.ClientID), maxUserAgent)], "\uFFFD")
		c.ID = &id
	}
	return c
}

// maxUserAgent is how many bytes of a client's User-Agent are kept and shown.
const maxUserAgent = 256

// cut returns a copy of the first limit bytes of s, as valid UTF-8.
func cut(s string, limit int) string {
	return strings.Clone(strings.ToValidUTF8(s[:min(len(s), limit)], "\uFFFD"))
}

// maxUnknown is how many bytes of an unknown id a gap event repeats. There is one such event for each filter.
const maxUnknown = 128

// hello returns the first bytes of a stream: the reconnect delay and the session event.
func (h *Hub) hello(id, uid, secret string, heartbeat time.Duration, g *access.Grant) []byte {
	data := store.AppendQuote([]byte(`{"uid":`), uid)
	if secret != "" {
		data = store.AppendQuote(append(data, `,"secret":`...), secret)
	}
	data = store.AppendQuote(append(data, `,"heartbeat":`...), heartbeat.String())
	if seconds, ok := g.ExpiresIn(); ok {
		data = strconv.AppendInt(append(data, `,"expires_in":`...), seconds, 10)
	}
	data = append(data, '}')
	return sse.AppendEvent(h.retryField(), "session", id, data)
}

// retryField returns the reconnect delay, which is part of a stream's first event.
func (h *Hub) retryField() []byte {
	return append(strconv.AppendInt([]byte("retry: "), h.opts.Retry.Milliseconds(), 10), '\n')
}

// Bye returns all bytes of a stream that ends before it begins.
func (h *Hub) Bye(why delivery.Reason) []byte { return append(h.retryField(), delivery.Bye(why)...) }

// Hello returns the first bytes of the stream's body.
func (l *Listener) Hello() []byte { return l.hello }

// Cancel releases the listener if its connection could not be set up.
func (l *Listener) Cancel() {
	l.hub.handlers.add(-1, 0)
	l.done(delivery.Closed)
}

// Run delivers messages to the connection, to which the caller has already written Hello. It returns
// when the HTTP handler may return. With a codec it returns when the stream has caught up, or has to wait for Resume.
func (l *Listener) Run(conn sse.Conn) {
	l.hello = nil
	l.hub.handlers.add(-1, 1)
	defer l.hub.handlers.add(0, -1)
	if !l.stream.Run(conn) {
		_ = conn.Close()
		l.done(delivery.Closed)
		return
	}
	conn.Serve()
}
