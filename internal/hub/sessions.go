package hub

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// The server's own groups.
const (
	presencePrefix = "$presence/" // followed by a filter: its presence messages
	statsGroup     = "$sys/stats"
	answersGroup   = delivery.SessionPrefix + "$server" // of messages that carry answers; nobody can read it: streams get only what is for their own uid
)

// ServerGroup is the group that a grant must allow for messages to the embedding program.
const ServerGroup = "$server"

// systemPolicies are the policies of the server's own groups. Their messages are short-lived, so they
// are kept in memory.
var systemPolicies = map[string]store.Policy{
	presencePrefix + "#": {MaxMessages: 100, MaxAge: 10 * time.Minute, Store: store.Memory},
	"$sys/#":             {MaxMessages: 60, Store: store.Memory},
	statsGroup + "/+":    {MaxMessages: statsMessages, MaxBytes: statsBytes, MaxAge: statsAge, Store: store.Memory},
	statsGroup:           {MaxMessages: statsMessages, MaxBytes: statsBytes, MaxAge: statsAge, Store: store.Memory},
	answersGroup:         {MaxMessages: 1000, MaxAge: 10 * time.Minute, Store: store.Memory},
}

// Errors of calls about sessions.
var (
	ErrForbidden     = errors.New("only the session itself can receive messages that were sent to it")
	ErrNobodyListens = errors.New("no program embeds this hub, or the program did not ask for messages")
	ErrBusy          = errors.New("the embedding program is too slow to accept the message: retry later")
)

// direct reports whether a group holds the messages to one session.
func direct(name string) bool { return strings.HasPrefix(name, delivery.SessionPrefix) }

// CheckRead returns an error if a caller with the grant may not read all groups that a filter matches.
func (h *Hub) CheckRead(g *access.Grant, f group.Filter) error { return checkRead(g, f) }

func checkRead(g *access.Grant, f group.Filter) error {
	if err := readable(f); err != nil {
		return err
	}
	return g.CheckSubscribe(f)
}

// Readable returns ErrForbidden for a filter that matches messages to sessions, and nil for others.
func (h *Hub) Readable(f group.Filter) error { return readable(f) }

// ReadablePrefix is Readable for a prefix of groups' names.
func (h *Hub) ReadablePrefix(prefix string) error {
	if direct(prefix) {
		return ErrForbidden
	}
	return nil
}

func readable(f group.Filter) error {
	if name := f.String(); name+"/" == delivery.SessionPrefix || direct(name) {
		return ErrForbidden
	}
	return nil
}

// onSession handles the events of one change of a session, in order and under the session's lock. It
// announces consecutive membership events with one append.
func (h *Hub) onSession(list []session.Event) {
	var presence []session.Event
	for _, e := range list {
		if _, ok := presenceEvents[e.Kind]; ok {
			presence = append(presence, e)
		} else if len(presence) > 0 {
			h.announce(presence)
			presence = nil
		}
		h.onEvent(e)
	}
	h.announce(presence)
}

func (h *Hub) onEvent(e session.Event) {
	switch e.Kind {
	case session.SendWill:
		h.sendWill(e)
	case session.WillDone:
		h.wills.Add(-willSize(e.Will))
		h.forgetWill(e.UID)
	case session.Disconnect:
		if e.Reason != session.Shutdown { // after a restart the session may return for its messages
			h.purgeDirect(e.UID)
		}
		h.notifyObserver(e)
	case session.Connect, session.Reconnect, session.Join, session.Leave:
		h.notifyObserver(e)
	}
}

func (h *Hub) notifyObserver(e session.Event) {
	if h.opts.Observer != nil {
		h.opts.Observer.Session(e)
	}
}

const (
	presenceParts = 8           // makeRoom purges the stalest 1/presenceParts of the presence groups
	noRoomPause   = time.Second // how long makeRoom does nothing after it found no presence group
)

// makeRoom purges the stalest presence groups: those whose newest message is the oldest. It reports
// whether there were any.
func (h *Hub) makeRoom() bool {
	if time.Now().UnixNano() < h.noRoomUntil.Load() {
		return false
	}
	list := slices.Collect(store.EachGroup(h.log, presencePrefix))
	slices.SortFunc(list, func(a, b store.GroupInfo) int { return cmp.Compare(a.Newest, b.Newest) })
	for _, g := range list[:(len(list)+presenceParts-1)/presenceParts] {
		if err := h.log.Purge(g.Group); err != nil {
			return false
		}
	}
	if len(list) == 0 {
		h.noRoomUntil.Store(time.Now().Add(noRoomPause).UnixNano())
	}
	return len(list) > 0
}

// sendWill appends a session's last will and removes the will's note. It retries while the store is full.
func (h *Hub) sendWill(e session.Event) {
	w := e.Will
	m := willMessage(e)
	note := willNotes + e.UID
	send := func(notes ...store.Note) error {
		m.Expires = expiry(w.TTL, time.Now())
		return h.appendOwn(m, notes...)
	}
	h.retries.do(&task{
		note: note,
		do: func(newer bool) error {
			if newer {
				return send()
			}
			return send(store.Note{Key: note})
		},
		failed: func(err error) { h.logLost(m, err) },
		done:   func() { h.wills.Add(-willSize(w)) },
	})
}

// willMessage returns the message of a last will that is sent now.
func willMessage(e session.Event) store.Message {
	w := e.Will
	return store.Message{
		Group: w.Group, UID: e.UID, Event: w.Event, Meta: w.Meta, Msg: w.Msg, Base64: w.Base64, Retain: w.Retain, Clear: w.Clear,
		Expires: expiry(w.TTL, time.Now()),
	}
}

// appendOwn appends a message of the server's own, which no request waits for, with its notes.
func (h *Hub) appendOwn(m store.Message, notes ...store.Note) error {
	m.Time = time.Now()
	return h.appendEntries([]store.Entry{m.Entry(nil)}, notes)
}

// appendEntries is appendOwn for messages that are encoded already.
func (h *Hub) appendEntries(entries []store.Entry, notes []store.Note) error {
	id, err := h.appendNoted(context.Background(), entries, notes)
	if err == nil {
		h.set.Appended(id.Seq, entries, 0) // 0: write to no stream here, since a session's lock may be held
	}
	return err
}

// logLost logs that appending a message of the server's own failed. It does not log a full store, which
// fullness logs, or a shared log that is away, which logs that itself.
func (h *Hub) logLost(m store.Message, err error) {
	if err != nil && !errors.Is(err, store.ErrClosed) && !errors.Is(err, store.ErrFull) &&
		!errors.Is(err, store.ErrAway) && !errors.Is(err, store.ErrUnknownOutcome) {
		h.opts.Logger.Error("appending a message of the server's own failed", "group", m.Group, "error", err)
	}
}

// Send appends a message to one session. The session receives it like the messages of its groups.
func (h *Hub) Send(ctx context.Context, uid string, p *Publication) (Receipt, error) {
	if h.closing.Load() {
		return Receipt{}, ErrClosed
	}
	p.Group = delivery.SessionPrefix + uid
	if err := p.Grant.CheckPublish(p.Group); err != nil {
		return Receipt{}, err
	}
	r, err := h.publish(ctx, p, func(do func() error) error {
		return h.ifKnown(ctx, func() error { return h.sessions.Do(uid, do) }) // the message must not outlive the session
	})
	if err == nil && h.cluster != nil && !h.sessions.Exists(uid) { // another hub has ended it before the message was stored
		h.cluster.purgeDirectThrough(uid, uint64(r.ID.Seq))
	}
	return r, err
}

// SendToServer passes a message to the embedding program only. The receipt sets only Replayed.
func (h *Hub) SendToServer(ctx context.Context, p *Publication) (Receipt, error) {
	if h.closing.Load() {
		return Receipt{}, ErrClosed
	}
	if err := p.Grant.CheckPublish(ServerGroup); err != nil {
		return Receipt{}, err
	}
	if o := h.opts.Observer; o == nil || !o.Listens() {
		return Receipt{}, ErrNobodyListens
	}
	return h.keys.once(ctx, p, func(c *claim) (Receipt, error) {
		if c != nil && h.cluster.hasAnswered(ctx, c) {
			return Receipt{}, store.ErrConflict
		}
		err := h.encodeAndPass(ctx, p)
		if err == nil && c != nil && h.cluster != nil {
			err = h.cluster.tellAnswer(ctx, p, c)
		}
		return Receipt{}, err
	})
}

// encodeAndPass passes the messages of a publication to the embedding program.
func (h *Hub) encodeAndPass(ctx context.Context, p *Publication) error {
	held, err := h.takeEncoding(ctx, p)
	if err != nil {
		return err
	}
	defer h.budget.encodings.give(held)
	e := encoders.Get().(*encoder)
	defer e.put()
	e.begin(ctx, h)
	if err := e.encode(p); err != nil {
		return err
	}
	if err := h.rates.of(p, len(e.copies)); err != nil {
		return err
	}
	if len(e.copies) > 0 && !h.opts.Observer.Messages(e.copies) {
		return ErrBusy
	}
	return nil
}

// SignOfLife records a sign of life of a session. It returns session.ErrUnknown if there is none, and
// session.ErrOfAnother if it belongs to another subject.
func (h *Hub) SignOfLife(uid string, g *access.Grant) error {
	if err := h.sessions.SignOfLife(uid, g.Subject); err != nil {
		return err
	}
	h.cluster.beat(uid)
	return nil
}

// OwnRequest is SignOfLife for a request about the session itself. It also knows a session that has begun at another hub just
// now. It returns store.ErrAway if it is not certain that there is none.
func (h *Hub) OwnRequest(ctx context.Context, uid string, g *access.Grant) error {
	return h.ifKnown(ctx, func() error { return h.SignOfLife(uid, g) })
}

// JoinGroup adds a filter to the session's newest stream, which stays open. Both the caller's grant and the
// stream's must cover it.
func (h *Hub) JoinGroup(g *access.Grant, uid string, f group.Filter) error {
	if err := checkRead(g.For(uid), f); err != nil {
		return err
	}
	if h.cluster == nil {
		return h.sessions.Join(uid, f, h.opts.MaxFilters)
	}
	if err := h.cluster.catchUp(context.Background(), callTimeout); err != nil { // the newest stream may be one that this hub does not know yet
		return err
	}
	return h.cluster.joinNewest(uid, f)
}

// LeaveGroup removes a filter from all streams of the session.
func (h *Hub) LeaveGroup(uid string, f group.Filter) error {
	late := h.cluster.catchUp(context.Background(), callTimeout)
	if _, err := h.cluster.ask(uid, request{Do: doLeave, Filter: f.String()}); err != nil {
		return err
	}
	err := h.sessions.Leave(uid, f)
	if late != nil { // a stream that this hub does not know yet may still have the filter
		return late
	}
	return err
}

// leaveHere removes a filter from the session's streams at this hub. They still get the messages that any hub has answered before.
func (h *Hub) leaveHere(ctx context.Context, uid string, f group.Filter) error {
	_ = h.cluster.catchUp(ctx, catchUpTimeout) // an error: the session leaves where this hub is
	return h.sessions.Leave(uid, f)
}

// SetWill sets the session's last will. The message d is published when the session ends without a
// request of its own or, with a delay, when the session has been lost that long. BeforePublish runs
// now, so that it can refuse the request. The grant must allow the group now; it may expire before the will
// is sent.
func (h *Hub) SetWill(ctx context.Context, g *access.Grant, uid string, d *Draft, delay *time.Duration) error {
	w, err := h.will(ctx, g.For(uid), d)
	if err != nil {
		return err
	}
	w.Delay = delay
	return h.storeWill(uid, w)
}

// SetHoldingWill is SetWill for a session that is kept until the delay has passed.
func (h *Hub) SetHoldingWill(ctx context.Context, g *access.Grant, uid string, d *Draft, delay time.Duration) error {
	w, err := h.will(ctx, g.For(uid), d)
	if err != nil {
		return err
	}
	w.Delay, w.Holds = &delay, true
	return h.storeWill(uid, w)
}

// will returns the last will with the message d.
func (h *Hub) will(ctx context.Context, g *access.Grant, d *Draft) (*session.Will, error) {
	if err := g.CheckPublish(d.Group); err != nil {
		return nil, err
	}
	d.Subject = g.Subject
	e := encoders.Get().(*encoder)
	defer e.put()
	e.begin(ctx, h)
	m, err := e.message(d, false)
	switch {
	case err != nil:
		return nil, err
	case len(m.Msg) > MaxWill:
		return nil, &SizeError{"a will", MaxWill}
	}
	return &session.Will{
		Group: m.Group, Subject: g.Subject, Event: m.Event, Meta: m.Meta, Msg: bytes.Clone(m.Msg), Base64: m.Base64,
		Retain: m.Retain, Clear: m.Clear, TTL: d.TTL,
	}, nil
}

// ClearWill removes the session's last will.
func (h *Hub) ClearWill(uid string) error { return h.storeWill(uid, nil) }

// DelayWill changes the delay of the session's last will, if there is one.
func (h *Hub) DelayWill(uid string, delay time.Duration) error {
	return h.sessions.SetWill(uid, func(old *session.Will) (*session.Will, error) {
		if old == nil {
			return nil, nil
		}
		w := *old
		w.Delay = &delay
		return &w, h.replaceWill(uid, old, &w)
	})
}

func (h *Hub) storeWill(uid string, w *session.Will) error {
	return h.sessions.SetWill(uid, func(old *session.Will) (*session.Will, error) {
		return w, h.replaceWill(uid, old, w)
	})
}

// replaceWill counts a will instead of another one, and stores it if the session has no document.
func (h *Hub) replaceWill(uid string, old, w *session.Will) error {
	more := willSize(w) - willSize(old)
	if h.cluster != nil { // the will is part of the session's document
		if more > 0 && h.wills.Load()+more > maxWills {
			return ErrTooManyWills
		}
		return nil
	}
	if n := h.wills.Add(more); more > 0 && n > maxWills {
		h.wills.Add(-more)
		return ErrTooManyWills
	}
	err := h.noteWill(uid, w)
	if err != nil {
		h.wills.Add(-more)
	}
	return err
}

// Limits of last wills.
const (
	MaxWill   = 64 << 10 // bytes of a will's body
	maxWills  = 16 << 20 // bytes of all wills
	willExtra = 512      // bytes that a will counts besides its texts
)

// ErrTooManyWills reports that there is no memory for another will.
var ErrTooManyWills = fmt.Errorf("the last wills of all sessions have reached their memory limit of %d bytes", maxWills)

// willSize returns the bytes that a will counts towards maxWills, from SetWill until it is sent or dropped.
func willSize(w *session.Will) int64 {
	if w == nil {
		return 0
	}
	return int64(willExtra + len(w.Group) + len(w.Event) + metaSize(w.Meta) + len(w.Msg))
}

// EndSession ends a session with the reason Ended, for its own request, or Kicked, and removes its position in the log. A
// session that is away has nothing but a position. When EndSession returns nil, the session does not come back at any
// hub, also after a restart.
func (h *Hub) EndSession(uid string, why session.Reason) error {
	if err := h.cluster.catchUp(context.Background(), callTimeout); err != nil { // another hub may have taken over its position
		return err
	}
	if at := h.cursors.Elsewhere(SessionPositions + uid); at != "" {
		if err := h.cluster.end(at, uid, why); !errors.Is(err, store.ErrNoHub) && !errors.Is(err, session.ErrUnknown) {
			return err
		}
	}
	return h.endHere(uid, why)
}

// endHere is EndSession at the hub that has the position, or may take it.
func (h *Hub) endHere(uid string, why session.Reason) error {
	position := h.endPosition(uid) // first, so that a client that is back at once keeps its new one
	ended := h.CloseSession(uid, why)
	switch {
	case errors.Is(position, session.ErrUnknown):
		return ended
	case errors.Is(ended, session.ErrUnknown):
		return position
	}
	return errors.Join(position, ended)
}

// CloseSession ends a session, but leaves its position to the caller.
func (h *Hub) CloseSession(uid string, why session.Reason) error { return h.sessions.End(uid, why) }
