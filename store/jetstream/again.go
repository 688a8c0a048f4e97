package jetstream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// An operator may set limits by which the servers remove what is at the front of the stream. Notes that are in force must stay:
// without the note of a revocation, a hub that starts takes the token. So the janitor stores notes again when half of what the
// limits allow has been stored behind them. Those that are removed nevertheless are stored again by any hub that has them.
//
// A note that is stored again has another place in the stream, but is the same version: readers that know it are not told, and
// their guards hold. If a hub has missed that a newer version replaced the note, and both were removed from the front, the
// hubs that know the newer one store that one again.

// bounds are the limits by which the servers remove what is at the front of the stream; 0: none.
type bounds struct {
	bytes, messages int64
	age             time.Duration
}

func boundsOf(c *jetstream.StreamConfig) (b bounds) {
	b.age = c.MaxAge
	if c.Discard == jetstream.DiscardOld {
		b.bytes, b.messages = max(c.MaxBytes, 0), max(c.MaxMsgs, 0)
	}
	return b
}

// place is where the stream has a message.
type place struct {
	seq   store.Seq
	bytes int64 // how many the tail had received with it
	size  int64
	time  int64 // when it was stored, Unix ms
}

// recordOverhead is about how many bytes a server keeps of a note beside its subject and body.
const recordOverhead = 150

// passed takes into account that the tail has received a message.
func (t *tail) passed(m *nats.Msg, seq store.Seq) (p place) {
	size := int64(len(m.Subject) + len(m.Data) + recordOverhead)
	t.flow.seq, t.flow.bytes = seq, t.flow.bytes+size
	b := t.bounds.Load()
	if b != nil && (b.bytes > 0 && t.flow.bytes-t.woken.bytes > b.bytes/8 || b.messages > 0 && int64(seq-t.woken.seq) > b.messages/8) {
		t.woken = t.flow
		t.l.notes.wakeJanitor()
	}
	return place{seq: seq, bytes: t.flow.bytes, size: size}
}

// flowed returns where the tail is, as the place of a note that is stored now.
func (t *tail) flowed() place {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.flow
	p.time = time.Now().UnixMilli()
	return p
}

// near reports whether a note at a place may be removed before long, when the newest one would be at now.
func (b *bounds) near(p, now place) bool {
	return b.bytes > 0 && now.bytes-p.bytes > b.bytes/2 ||
		b.messages > 0 && int64(now.seq-p.seq) > b.messages/2 ||
		b.age > 0 && now.time-p.time > b.age.Milliseconds()/2
}

// holds reports whether the limits have room for n notes of so many bytes in all. With more, each note that is stored again would bring
// another one near the front.
func (b *bounds) holds(n int, bytes int64) bool {
	return (b.bytes == 0 || bytes <= b.bytes/2) && (b.messages == 0 || int64(n) <= b.messages/2)
}

// lasts reports whether a note stays in force when what was stored with it is removed. A mark need not: one of all groups says more. The
// note of the epoch tells whether somebody has purged the stream, see janitor.watch. Those about room are written as they are needed.
func lasts(key string) bool {
	group, isMark := markedGroup(key)
	return key != epochKey && !isRoom(key) && (!isMark || group == everyGroup)
}

// wakeJanitor makes the janitor look for notes to store again.
func (t *noteTable) wakeJanitor() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// passed is called when the stream has nothing up to a seq.
func (l *Log) passed(through store.Seq) {
	l.notes.pass(through)
	for _, key := range roomKeys {
		if l.notes.isLost(key) {
			l.room.apply(key, nil)
		}
	}
}

// isLost reports whether the stream has no version of a note.
func (t *noteTable) isLost(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.notes[key]
	return ok && v.place.seq <= t.front
}

// pass records that the stream has nothing up to a seq.
func (t *noteTable) pass(through store.Seq) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if through > t.front {
		t.front, t.lost = through, true
	}
}

// abandon records that a note is too large to be stored again.
func (t *noteTable) abandon(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.behind, key)
	if v, ok := t.notes[key]; ok {
		v.large = true
		t.notes[key] = v
	}
}

// moved records that the version of a note, or an older one, is stored again. It returns false if the version is not known. t.mu is held.
func (t *noteTable) moved(r *record) bool {
	v, ok := t.notes[r.key]
	if !ok || v.at < r.was {
		return false
	}
	v.place, v.number, v.stale = r.place, r.version, v.at > r.was
	t.notes[strings.Clone(r.key)] = v
	t.lost = t.lost || v.stale
	return true
}

// hasLost reports whether notes may have been removed from the stream.
func (t *noteTable) hasLost() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost
}

// again returns the notes to store again, the oldest first: those that the stream has lost, and those that are near its front. It also returns how many there are in
// all, and their bytes.
func (t *noteTable) again(near func(place) bool) (list []store.Note, n int, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost = false
	for key, v := range t.notes {
		gone := v.place.seq <= t.front
		if !lasts(key) {
			if _, isMark := markedGroup(key); isMark && gone {
				delete(t.notes, key)
			}
			continue
		}
		if !v.removed {
			n, bytes = n+1, bytes+v.place.size
		}
		if !v.large && (v.stale || !v.removed && (gone || near(v.place))) {
			t.lost = t.lost || v.stale || gone // until it is stored
			note := v.note(key)
			note.Seq, note.Guarded = v.place.seq, true
			list = append(list, note)
		}
	}
	slices.SortFunc(list, func(a, b store.Note) int { return int(a.Seq - b.Seq) })
	return list, n, bytes
}

// storeNear stores notes again that are near the front of the stream, and those that were removed.
func (j *janitor) storeNear(ctx context.Context) error {
	b, now := j.l.tail.bounds.Load(), j.l.tail.flowed()
	if *b == (bounds{}) && !j.l.notes.hasLost() {
		return nil
	}
	return j.storeAgain(ctx, func(p place) bool { return b.near(p, now) })
}

// storeLost stores notes again that were removed from the stream. Hubs that are not the first do so, too: the first one may have started later.
func (j *janitor) storeLost(ctx context.Context) error {
	if !j.l.notes.hasLost() {
		return nil
	}
	info, err := j.l.streamInfo(ctx) // only the first one looks at each turn which limits there are
	if err != nil {
		return err
	}
	j.l.tail.configured(&info.Config)
	return j.storeAgain(ctx, func(place) bool { return false })
}

func (j *janitor) storeAgain(ctx context.Context, near func(place) bool) error {
	epoch := j.l.epoch()
	list, n, bytes := j.l.notes.again(near)
	b := j.l.tail.bounds.Load()
	crowded := !b.holds(n, bytes)
	if crowded && !j.crowded {
		j.l.opts.Logger.Error("policies, revocations, sessions and other notes take more than half of what the limits of the stream allow, so that those at its front are lost when a hub starts: raise max_bytes or max_msgs",
			"notes", n, "bytes", bytes, "max_bytes", b.bytes, "max_msgs", b.messages)
	}
	if j.crowded = crowded; crowded {
		return nil // they would remove each other for ever
	}
	return j.l.store(ctx, list, appendOptions{flags: isAgain, epoch: epoch})
}

// store stores notes in parts. Notes that have changed meanwhile are left out, and so are those for which a limit is too low now.
func (l *Log) store(ctx context.Context, list []store.Note, o appendOptions) error {
	for len(list) > 0 {
		n := min(len(list), maxBatch/4)
		_, err := l.append(ctx, nil, list[:n], o)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrTooLarge) {
			err = l.storeEach(ctx, list[:n], o)
		}
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (l *Log) storeEach(ctx context.Context, list []store.Note, o appendOptions) error {
	for i, n := range list {
		switch _, err := l.append(ctx, nil, list[i:i+1], o); {
		case errors.Is(err, store.ErrTooLarge):
			l.opts.Logger.Error("a note is too large for the stream now: it is not stored again", "note", n.Key, "error", err)
			l.notes.abandon(n.Key)
		case err != nil && !errors.Is(err, store.ErrConflict):
			return err
		}
	}
	return nil
}
