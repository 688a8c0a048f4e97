package hub

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// Prefixes of the keys of the notes that a hub keeps in a persistent store.
const (
	answerNotes = "answer/" // answers to requests with an idempotency key, by slot
	memberNotes = "member/" // memberships of sessions, by uid and filter
	willNotes   = "will/"   // last wills of sessions, by uid

	clientNotes = "client/" // notes of clients that PublishEach stores, by uid

	revocationNotes    = "revoked/" // by kind, jti or sub, and value
	subjectRevocations = revocationNotes + "sub/"
)

// note returns the answer as a note. It replaces the note of the previous answer in the slot. The seq
// of the first message is the note's own seq. The value is
//
//	key (16 bytes) | fingerprint (16) | time in ms, uvarint | count, uvarint | group, if a hook chose it
func (a *answer) note(slot int) store.Note {
	b := append(append(make([]byte, 0, 64), a.key[:]...), a.fingerprint[:]...)
	b = binary.AppendUvarint(b, uint64(a.time))
	b = binary.AppendUvarint(b, uint64(a.count))
	return store.Note{Key: answerNotes + strconv.Itoa(slot), Value: append(b, a.movedTo...)}
}

// sharedNote returns the answer as a note for all hubs: the first one with an answer for the key wins.
func (a *answer) sharedNote() store.Note {
	n := a.note(0)
	n.Key, n.Guarded, n.Brief = answerNotes+hex.EncodeToString(a.key[:]), true, true
	return n
}

var errAnswerNote = errors.New("the stored note of an idempotency key is corrupt")

// readAnswer parses the note of an answer.
func readAnswer(n store.Note, epoch string) (a answer, err error) {
	if len(n.Value) < 2*len(a.key) {
		return a, errAnswerNote
	}
	b := n.Value[copy(a.key[:], n.Value):]
	b = b[copy(a.fingerprint[:], b):]
	at, size := binary.Uvarint(b)
	if size <= 0 {
		return a, errAnswerNote
	}
	count, more := binary.Uvarint(b[size:])
	if more <= 0 {
		return a, errAnswerNote
	}
	a.time, a.count, a.movedTo = int64(at), uint32(count), string(b[size+more:])
	a.first = store.ID{Epoch: epoch, Seq: n.Seq}
	return a, nil
}

// appendNoted appends entries to the log, with notes if the log keeps notes. If there are too many
// groups, it purges old presence groups to make room, and tries once more.
func (h *Hub) appendNoted(ctx context.Context, entries []store.Entry, notes []store.Note) (store.ID, error) {
	return h.appendSettling(ctx, entries, nil, notes)
}

// appendSettling is appendNoted with a function for store.Settling, if it is not nil.
func (h *Hub) appendSettling(ctx context.Context, entries []store.Entry, stored func(store.ID), notes []store.Note) (store.ID, error) {
	id, err := h.tryAppend(ctx, entries, stored, notes)
	if errors.Is(err, store.ErrTooManyGroups) && h.makeRoom() {
		return h.tryAppend(ctx, entries, stored, notes)
	}
	return id, err
}

func (h *Hub) tryAppend(ctx context.Context, entries []store.Entry, stored func(store.ID), notes []store.Note) (id store.ID, err error) {
	switch {
	case stored != nil:
		id, err = h.settling.AppendSettling(ctx, entries, stored, notes...)
	case h.notes == nil || len(notes) == 0:
		id, err = h.log.Append(ctx, entries)
	default:
		id, err = h.notes.AppendNoted(ctx, entries, notes...)
	}
	h.full.appended(err)
	return id, err
}

// answerNotes returns the note to store with the messages of a request with a key.
func (h *Hub) answerNotes(p *Publication, c *claim, e *encoder) []store.Note {
	if h.notes == nil || c == nil {
		return nil
	}
	first := &e.entries[0]
	a := c.answer(p, &Receipt{Group: first.Group, Time: first.Time, Count: len(e.entries)})
	if h.cluster != nil {
		return []store.Note{a.sharedNote()}
	}
	return []store.Note{a.note(c.slot)}
}

// hasAnswered reports whether another hub has answered a request before, as far as this one can find out in time: a program has its message.
func (c *cluster) hasAnswered(ctx context.Context, mine *claim) bool {
	if c == nil {
		return false
	}
	_ = c.catchUp(ctx, catchUpTimeout) // an error: it may have read the answer all the same
	return c.hub.keys.knows(mine.key)
}

// tellAnswer tells the other hubs the answer to a message to the embedding program, which has it already. It returns store.ErrConflict if
// another hub had the same request at the same time. If the log is away, only this hub knows the answer.
func (c *cluster) tellAnswer(ctx context.Context, p *Publication, to *claim) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), catchUpTimeout) // the program has the message
	defer cancel()
	m := store.Message{Group: answersGroup, Time: time.Now(), Event: "answer", Msg: []byte("null")}
	a := to.answer(p, &Receipt{Time: m.Time})
	_, err := c.hub.appendNoted(ctx, []store.Entry{m.Entry(nil)}, []store.Note{a.sharedNote()})
	if errors.Is(err, store.ErrConflict) {
		return err
	}
	c.hub.logLost(m, err)
	return nil
}

// learn keeps the answer that some hub has given to a request with a key.
func (c *cluster) learn(n store.Note) {
	if n.Value == nil {
		return
	}
	_, newest := c.hub.log.Bounds()
	a, err := readAnswer(n, newest.Epoch)
	if err != nil {
		c.hub.opts.Logger.Error("a note of the shared log cannot be read", "error", err)
		return
	}
	c.hub.keys.learn(a)
}

// noteWill stores the note of a session's last will. A nil will removes the note.
func (h *Hub) noteWill(uid string, w *session.Will) error {
	if h.notes == nil {
		return nil
	}
	n := store.Note{Key: willNotes + uid}
	write := func() error {
		_, err := h.notes.AppendNoted(context.Background(), nil, n)
		return closedError(err)
	}
	if w == nil {
		return write()
	}
	var err error
	if n.Value, err = json.Marshal(w); err != nil {
		panic("hub: a will: " + err.Error()) // impossible: a struct of strings and bytes
	}
	return h.retries.replace(n.Key, write)
}

// forgetWill removes the note of a session's last will. It retries while the store is full.
func (h *Hub) forgetWill(uid string) {
	h.retries.do(&task{
		note: willNotes + uid,
		do: func(newer bool) error {
			if newer {
				return nil
			}
			return h.noteWill(uid, nil)
		},
		failed: func(err error) {
			h.opts.Logger.Error("removing the note of a last will failed: the next start may send the will", "uid", uid, "error", err)
		},
	})
}

// restore restores what an earlier process noted in the store: the answers to requests with a key, the
// positions of readers, and the sessions that had filters, a will or messages. The sessions have the session timeout to return.
func (h *Hub) restore() error {
	if h.notes == nil {
		return nil
	}
	_, newest := h.log.Bounds()
	wills := map[string]*session.Will{}
	filters := map[string][]group.Filter{} // by uid
	remember := func(uid string) {         // a session may be known though it had no filters
		if _, ok := filters[uid]; !ok {
			filters[uid] = nil
		}
	}
	subjects := map[string]*string{} // by uid
	answers := map[int]answer{}
	err := h.notes.Notes(func(n store.Note) error {
		kind, rest, _ := strings.Cut(n.Key, "/")
		switch kind + "/" {
		case willNotes:
			w := &session.Will{}
			wills[rest] = w
			remember(rest)
			err := json.Unmarshal(n.Value, w)
			subjects[rest] = &w.Subject
			return err
		case memberNotes:
			uid, f, err := readMember(n)
			filters[uid] = append(filters[uid], f)
			subject := string(n.Value[min(1, len(n.Value)):])
			subjects[uid] = &subject
			return err
		case clientNotes:
			h.clients.set(rest, n.Value)
			return nil
		case revocationNotes:
			return h.restoreRevocation(n)
		case cursor.Prefix:
			return h.cursors.Learn(n)
		case answerNotes:
			a, err := readAnswer(n, newest.Epoch)
			slot, wrong := strconv.Atoi(rest)
			if err != nil || wrong != nil || slot < 0 {
				return errAnswerNote
			}
			answers[slot] = a
			return nil
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the notes of the store: %w", err)
	}
	h.keys.restore(answers)
	for g := range store.EachGroup(h.log, delivery.SessionPrefix) {
		remember(strings.TrimPrefix(g.Group, delivery.SessionPrefix))
	}
	for uid, list := range filters {
		h.wills.Add(willSize(wills[uid]))
		h.sessions.Restore(uid, subjects[uid], list, wills[uid])
	}
	return nil
}
