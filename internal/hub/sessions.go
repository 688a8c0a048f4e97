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

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// The groups of the server's own.
const (
	presencePrefix = "$presence/" // and a filter: who comes and goes there
	statsGroup     = "$sys/stats"
)

// systemPolicies bound what the server's own groups keep. What is of the moment is worth no disk.
var systemPolicies = map[string]store.Policy{
	presencePrefix + "#": {MaxMessages: 100, MaxAge: 10 * time.Minute, Store: store.Memory},
	"$sys/#":             {MaxMessages: 60, Store: store.Memory},
}

// Errors of calls about sessions.
var (
	ErrForbidden = errors.New("what is sent to a session is for that session alone")
	ErrNobody    = errors.New("no program listens: this hub hosts none, or it did not ask for messages")
	ErrBusy      = errors.New("the hosting program is too slow to take it")
)

// direct reports whether a group is that of one session.
func direct(name string) bool { return strings.HasPrefix(name, delivery.SessionPrefix) }

// Readable returns ErrForbidden for a filter whose messages are for one session alone.
func (h *Hub) Readable(f group.Filter) error { return readable(f) }

func readable(f group.Filter) error {
	if name := f.String(); name+"/" == delivery.SessionPrefix || direct(name) {
		return ErrForbidden
	}
	return nil
}

// onSession hears what happens to a session, in order, under its lock: all that one change brings
// about. Presence messages of it that follow each other are appended at once.
func (h *Hub) onSession(list []session.Event) {
	var presence []session.Event
	for _, e := range list {
		if _, ok := presenceWords[e.Kind]; ok {
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
		if e.Reason != session.Shutdown { // after which it may return
			h.forget(e.UID)
		}
		h.tell(e)
	case session.Connect, session.Reconnect, session.Join, session.Leave:
		h.tell(e)
	}
}

// forget purges what was sent to a session that is gone. Should that fail, it is tried again at the
// next start: by then there may be a new session with that uid here.
func (h *Hub) forget(uid string) {
	if err := h.log.Purge(delivery.SessionPrefix + uid); err != nil && !errors.Is(err, store.ErrClosed) && !errors.Is(err, store.ErrFull) {
		h.opts.Logger.Error("what was sent to a session that is gone could not be purged", "uid", uid, "error", err)
	}
}

func (h *Hub) tell(e session.Event) {
	if h.opts.Observer != nil {
		h.opts.Observer.Session(e)
	}
}

const (
	presenceParts = 8           // makeRoom purges one of this many parts of the presence groups
	noRoomFor     = time.Second // how long makeRoom does not look again after it has found none
)

// makeRoom purges the presence groups whose newest messages are the oldest. It reports whether there
// were any.
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
		h.noRoomUntil.Store(time.Now().Add(noRoomFor).UnixNano())
	}
	return len(list) > 0
}

// sendWill appends a session's last will, and notes that it is done with.
func (h *Hub) sendWill(e session.Event) {
	w := e.Will
	m := store.Message{
		Group: w.Group, UID: e.UID, Event: w.Event, Msg: w.Msg, Base64: w.Base64, Retain: w.Retain, Clear: w.Clear,
	}
	note := willNotes + e.UID
	send := func(notes ...store.Note) error {
		if w.TTL > 0 {
			m.Expires = time.Now().Add(w.TTL)
		}
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
		failed: func(err error) { h.lostOwn(m, err) },
		done:   func() { h.wills.Add(-willSize(w)) },
	})
}

// appendOwn appends a message that no request waits for, with notes about it.
func (h *Hub) appendOwn(m store.Message, notes ...store.Note) error {
	m.Time = time.Now()
	return h.appendEntries([]store.Entry{m.Entry(nil)}, notes)
}

// appendEntries is appendOwn for messages that are encoded already.
func (h *Hub) appendEntries(entries []store.Entry, notes []store.Note) error {
	id, err := h.appendNoted(context.Background(), entries, notes)
	if err == nil {
		h.set.Appended(id.Seq, entries, 0) // nothing is written here: a session's lock may be held
	}
	return err
}

// lostOwn logs that a message of the server's own could not be appended, unless that the store is full
// is logged already.
func (h *Hub) lostOwn(m store.Message, err error) {
	if err != nil && !errors.Is(err, store.ErrClosed) && !errors.Is(err, store.ErrFull) {
		h.opts.Logger.Error("a message of the server's own could not be appended", "group", m.Group, "error", err)
	}
}

// Send appends a message for one session, which gets it as it gets those of its groups.
func (h *Hub) Send(ctx context.Context, uid string, p *Publication) (Receipt, error) {
	if h.closing.Load() {
		return Receipt{}, ErrClosed
	}
	p.Group = delivery.SessionPrefix + uid
	return h.publish(ctx, p, func(do func() error) error {
		return h.sessions.Do(uid, do) // the message must not outlive the session
	})
}

// Tell gives a message to the hosting program alone. Of the receipt, only Replayed says something.
func (h *Hub) Tell(ctx context.Context, p *Publication) (Receipt, error) {
	if h.closing.Load() {
		return Receipt{}, ErrClosed
	}
	if o := h.opts.Observer; o == nil || !o.Listens() {
		return Receipt{}, ErrNobody
	}
	return h.keys.once(ctx, p, func(*claim) (Receipt, error) { return Receipt{}, h.hand(ctx, p) })
}

// hand gives the program the messages of a publication.
func (h *Hub) hand(ctx context.Context, p *Publication) error {
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
	if len(e.heard) > 0 && !h.opts.Observer.Messages(e.heard) {
		return ErrBusy
	}
	return nil
}

// Heard notes a sign of life of a session. It reports whether the session is known.
func (h *Hub) Heard(uid string) bool { return h.sessions.Heard(uid) }

// JoinLive adds a filter to the session's newest stream, without reconnecting it.
func (h *Hub) JoinLive(uid string, f group.Filter) error {
	if err := readable(f); err != nil {
		return err
	}
	if err := h.sessions.Join(uid, f, h.opts.MaxFilters); err != nil {
		return err
	}
	if matchesStats(f) {
		h.stats.start(h)
	}
	return nil
}

// LeaveLive takes a filter from the session's streams.
func (h *Hub) LeaveLive(uid string, f group.Filter) error { return h.sessions.Leave(uid, f) }

// SetWill sets the session's last will: d is published when the session ends or, with a delay, that
// long after the session was lost. BeforePublish runs now, while there is a request to refuse.
func (h *Hub) SetWill(ctx context.Context, uid string, d *Draft, delay *time.Duration) error {
	e := encoders.Get().(*encoder)
	defer e.put()
	e.begin(ctx, h)
	m, err := e.message(d, false)
	switch {
	case err != nil:
		return err
	case len(m.Msg) > MaxWill:
		return &SizeError{"a will", MaxWill}
	case delay != nil && (*delay < 0 || *delay > MaxDelay):
		return &BodyError{fmt.Sprintf("delay: a will's delay is from 0s to %v", MaxDelay)}
	}
	return h.keepWill(uid, &session.Will{
		Group: m.Group, Event: m.Event, Msg: bytes.Clone(m.Msg), Base64: m.Base64,
		Retain: m.Retain, Clear: m.Clear, TTL: d.TTL, Delay: delay,
	})
}

// ClearWill drops the session's last will.
func (h *Hub) ClearWill(uid string) error { return h.keepWill(uid, nil) }

func (h *Hub) keepWill(uid string, w *session.Will) error {
	return h.sessions.SetWill(uid, w, func(old *session.Will) error {
		more := willSize(w) - willSize(old)
		if n := h.wills.Add(more); more > 0 && n > maxWills {
			h.wills.Add(-more)
			return ErrTooManyWills
		}
		err := h.noteWill(uid, w)
		if err != nil {
			h.wills.Add(-more)
		}
		return err
	})
}

// Bounds of last wills.
const (
	MaxWill   = 64 << 10       // bytes of a will's body
	MaxDelay  = 24 * time.Hour // of a will
	maxWills  = 16 << 20       // bytes of all wills
	willExtra = 512            // what a will takes beside its texts, and at least counts
)

// ErrTooManyWills says that there is no memory for another will.
var ErrTooManyWills = fmt.Errorf("the last wills of all sessions take as much memory as they may together, %d bytes", maxWills)

// willSize returns how many bytes a will counts, from the time when it is set until it is sent or
// dropped.
func willSize(w *session.Will) int64 {
	if w == nil {
		return 0
	}
	return int64(willExtra + len(w.Group) + len(w.Event) + len(w.Msg))
}

// EndSession ends a session: at its own wish, or because somebody kicks it.
func (h *Hub) EndSession(uid string, why session.Reason) error { return h.sessions.End(uid, why) }
