package hub

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// What a hub has a store note that outlives it, by the beginning of the note's key.
const (
	keyNotes  = "key/"  // idempotency keys, with their answers
	willNotes = "will/" // of sessions, by uid
)

// keyNote is an idempotency key whose request was answered. Its seq is that of the first message.
type keyNote struct {
	Sender, Group, Key string
	Print              []byte
	To                 string // the group that it was appended to
	Time               time.Time
	Count              int
}

// noteKey returns the name of a key's note: of bounded length, whatever the key is.
func (id keyID) noteKey() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", id.sender, id.group, id.key))
	return keyNotes + base64.RawURLEncoding.EncodeToString(sum[:])
}

// appendNoted appends entries to the log with notes, where it keeps some. What presence keeps of the
// past gives way to groups that are new.
func (h *Hub) appendNoted(ctx context.Context, entries []store.Entry, notes []store.Note) (store.ID, error) {
	id, err := h.tryAppend(ctx, entries, notes)
	if errors.Is(err, store.ErrTooManyGroups) && h.makeRoom() {
		return h.tryAppend(ctx, entries, notes)
	}
	return id, err
}

func (h *Hub) tryAppend(ctx context.Context, entries []store.Entry, notes []store.Note) (store.ID, error) {
	if h.notes == nil || len(notes) == 0 {
		return h.log.Append(ctx, entries)
	}
	return h.notes.AppendNoted(ctx, entries, notes...)
}

// keyNotes returns what is to be noted of a request that is about to be answered.
func (h *Hub) keyNotes(p *Publication, e *encoder) (notes []store.Note) {
	if h.notes == nil || p.Key == "" {
		return nil
	}
	id, sum := p.keyID(), print(p)
	value, err := json.Marshal(keyNote{
		Sender: id.sender, Group: id.group, Key: id.key, Print: sum[:],
		To: e.entries[0].Group, Time: e.entries[0].Time, Count: len(e.entries),
	})
	if err != nil {
		panic("hub: an idempotency key: " + err.Error()) // strings and numbers
	}
	for _, old := range h.keys.takeForgotten() {
		notes = append(notes, store.Note{Key: old.noteKey()})
	}
	return append(notes, store.Note{Key: id.noteKey(), Value: value})
}

// noteWill notes a session's last will, or with nil that there is none any more.
func (h *Hub) noteWill(uid string, w *session.Will) error {
	if h.notes == nil {
		return nil
	}
	n := store.Note{Key: willNotes + uid}
	write := func() error {
		_, err := h.notes.AppendNoted(context.Background(), nil, n)
		return err
	}
	if w == nil {
		return write()
	}
	var err error
	if n.Value, err = json.Marshal(w); err != nil {
		panic("hub: a will: " + err.Error()) // strings and bytes
	}
	return h.owed.replace(n.Key, write)
}

// forgetWill notes that a session's last will is done with.
func (h *Hub) forgetWill(uid string) {
	h.owed.pay(&debt{
		note: willNotes + uid,
		do: func(newer bool) error {
			if newer {
				return nil
			}
			return h.noteWill(uid, nil)
		},
		failed: func(err error) {
			h.opts.Logger.Error("a last will is still noted: the next start may send it again", "uid", uid, "error", err)
		},
	})
}

// recall brings back what a store has noted in an earlier life: the answers to requests with a key,
// and the sessions that had a will or messages. They have the session timeout to return.
func (h *Hub) recall() error {
	if h.notes == nil {
		return nil
	}
	_, newest := h.log.Bounds()
	wills := map[string]*session.Will{}
	var answers []answered
	err := h.notes.Notes(func(n store.Note) error {
		if uid, ok := strings.CutPrefix(n.Key, willNotes); ok {
			w := &session.Will{}
			wills[uid] = w
			return json.Unmarshal(n.Value, w)
		}
		var k keyNote
		if err := json.Unmarshal(n.Value, &k); err != nil {
			return err
		}
		answers = append(answers, k.answered(store.ID{Epoch: newest.Epoch, Seq: n.Seq}))
		return nil
	})
	if err != nil {
		return fmt.Errorf("what the store has noted: %w", err)
	}
	slices.SortFunc(answers, func(a, b answered) int { return int(a.receipt.First.Seq) - int(b.receipt.First.Seq) })
	h.keys.recall(answers)
	for _, g := range h.log.Groups() {
		if uid, ok := strings.CutPrefix(g.Group, delivery.SessionPrefix); ok && wills[uid] == nil {
			h.sessions.Recall(uid, nil)
		}
	}
	for uid, w := range wills {
		h.sessions.Recall(uid, w)
	}
	return nil
}

// answered is a request with a key, and how it was answered.
type answered struct {
	id      keyID
	print   [sha256.Size]byte
	receipt Receipt
}

func (k *keyNote) answered(first store.ID) answered {
	last := first
	last.Seq += store.Seq(k.Count) - 1
	a := answered{
		id:      keyID{k.Sender, k.Group, k.Key},
		receipt: Receipt{First: first, ID: last, Group: k.To, Time: k.Time, Count: k.Count},
	}
	copy(a.print[:], k.Print)
	return a
}
