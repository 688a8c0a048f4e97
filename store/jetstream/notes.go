package jetstream

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Keys of the notes that are the log's own.
const (
	epochKey   = store.EpochNote
	policyKeys = "policy/" // by filter
	evictKeys  = "evict/"  // by group
	lostKey    = "lost"    // what was lost according to marks that are forgotten
	goneKey    = "gone"    // what groups may have lost of which nothing is left
	toldKey    = "told"    // behind all marks of what a comparison has found
)

// isOwn reports whether a note is the log's own, and not the hub's.
func isOwn(key string) bool {
	return key == epochKey || key == lostKey || key == goneKey || key == toldKey || isRoom(key) || strings.HasPrefix(key, policyKeys) || strings.HasPrefix(key, evictKeys)
}

// maxBrief is how many notes that may be forgotten are kept. A hub that starts reads the newest of them.
const maxBrief = 1 << 16

// noteTable has the newest version of each note.
type noteTable struct {
	wake chan struct{} // notes may have to be stored again

	mu       sync.Mutex // guards the fields below; the tail changes them
	notes    map[string]version
	brief    []store.Note // a ring once it has maxBrief
	next     int          // where the next brief note goes, if it is a ring
	follow   func(store.Note)
	policies int

	behind  map[string]version // notes of an earlier epoch that may have to be stored again
	renewed time.Time          // when the epoch began

	front store.Seq // the stream has nothing up to here
	lost  bool      // notes may have to be stored again
}

// reset forgets all notes. The hub learns of it by a note with the new epoch.
func (t *noteTable) reset(epoch string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaveBehind()
	t.notes, t.brief, t.next, t.policies = map[string]version{}, nil, 0, 0
	t.front, t.lost = 0, false
	if t.follow != nil {
		t.follow(store.Note{Key: epochKey, Value: []byte(epoch)})
	}
}

// version is the newest version of a note.
type version struct {
	value   []byte    // if removed: store.Note.Why
	first   store.Seq // of the append
	at      store.Seq
	place   place  // where the stream has it now
	number  uint64 // of the version
	removed bool
	forget  time.Time // if removed: when the servers have forgotten it, too
	stale   bool      // the stream has an older version at this place
	large   bool      // a limit is too low to store it again
}

func (t *noteTable) init() { t.notes, t.wake = map[string]version{}, make(chan struct{}, 1) }

// set records the newest version of a note. own says that this log has appended it. It returns false if the version was known
// before and is only stored again. A hub that does not know yet that the stream was replaced may store a note again with its position in
// the old stream. If the new stream has not reached that position, the version counts as a new one. Otherwise later versions would be
// taken for older ones.
func (t *noteTable) set(r *record, first store.Seq, own bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	key, at := strings.Clone(r.key), r.seq
	if r.is(isAgain) && r.was < r.seq {
		if t.moved(r) {
			return false
		}
		at, first = r.was, r.was
	}
	v := version{value: bytes.Clone(r.value), first: first, at: at, place: r.place, number: r.version, removed: r.is(isRemoval)}
	switch {
	case v.removed:
		v.forget = time.Now().Add(ttlOfRemovals + sweepEvery)
	case v.value == nil:
		v.value = []byte{}
	}
	if strings.HasPrefix(key, policyKeys) {
		if old, ok := t.notes[key]; ok && !old.removed {
			t.policies--
		}
		if !v.removed {
			t.policies++
		}
	}
	t.notes[key] = v
	if t.follow != nil && !isOwn(key) {
		n := v.note(key)
		n.Own = own
		t.follow(n)
	}
	return true
}

func (v version) note(key string) store.Note {
	n := store.Note{Key: key, Seq: v.first, At: v.at}
	if v.removed {
		n.Why = string(v.value)
	} else {
		n.Value = v.value
	}
	return n
}

// get returns the newest version of a note.
func (t *noteTable) get(key string) (v version, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok = t.notes[key]
	return v, ok && !v.removed
}

// versionOf returns the number of the newest version of a note, or 0.
func (t *noteTable) versionOf(key string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.notes[key].number
}

// sweep forgets removals that the servers have forgotten.
func (t *noteTable) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, v := range t.notes {
		if v.removed && now.After(v.forget) {
			delete(t.notes, key)
		}
	}
}

// addBrief records a note that is kept with a message.
func (t *noteTable) addBrief(n store.Note, seq store.Seq) {
	n = store.Note{Key: strings.Clone(n.Key), Value: append([]byte{}, n.Value...), Seq: seq, At: seq, Brief: true}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.brief) < maxBrief {
		t.brief = append(t.brief, n)
	} else {
		t.brief[t.next] = n
		t.next = (t.next + 1) % maxBrief
	}
	if t.follow != nil {
		t.follow(n)
	}
}

// hasBrief reports whether a note that is kept with a message is known.
func (t *noteTable) hasBrief(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.brief, func(n store.Note) bool { return n.Key == key })
}

// all returns the notes of the hub: those by key, sorted, and then the brief ones in the order of the log.
func (t *noteTable) all() []store.Note {
	var out []store.Note
	for key, v := range t.notes {
		if !v.removed && !isOwn(key) {
			out = append(out, v.note(key))
		}
	}
	slices.SortFunc(out, func(a, b store.Note) int { return strings.Compare(a.Key, b.Key) })
	out = append(out, t.brief[t.next:]...)
	return append(out, t.brief[:t.next]...)
}

// Notes implements store.Noter.
func (l *Log) Notes(yield func(store.Note) error) error {
	if l.closed.Load() {
		return store.ErrClosed
	}
	l.notes.mu.Lock()
	list := l.notes.all()
	l.notes.mu.Unlock()
	for _, n := range list {
		if err := yield(n); err != nil {
			return err
		}
	}
	return nil
}

// Follow implements store.Shared.
func (l *Log) Follow(f func(store.Note)) error {
	if l.closed.Load() {
		return store.ErrClosed
	}
	l.notes.mu.Lock()
	defer l.notes.mu.Unlock()
	for _, n := range l.notes.all() {
		f(n)
	}
	l.notes.follow = f
	return nil
}

// guard fills in which versions the records replace. It returns store.ErrConflict if a note that is guarded has
// another version than its caller knows.
func (t *noteTable) guard(list []store.Note, records []record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, n := range list {
		v, r := t.notes[n.Key], &records[i]
		switch {
		case n.Guarded && n.At != v.at && !(v.removed && n.At == 0), r.is(isAgain) && n.Seq != v.place.seq:
			return store.ErrConflict
		}
		r.prev, r.was, r.version = v.place.seq, v.at, v.number+1
		if r.prev <= t.front {
			r.prev = 0
		}
	}
	return nil
}

// forget forgets a note that the stream no longer has. For the hub that is its removal.
func (t *noteTable) forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.notes[key]
	delete(t.notes, key)
	if ok && !v.removed && t.follow != nil && !isOwn(key) {
		t.follow(store.Note{Key: key})
	}
}

// purged records that the stream does not have a version of a note any more. The next one has the number behind it.
func (t *noteTable) purged(key string, at store.Seq) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v := t.notes[key]; v.place.seq == at {
		v.at, v.place.seq = 0, 0
		t.notes[key] = v
	}
}

// apply does what a note says. The tail calls it.
func (l *Log) apply(r *record, first store.Seq) {
	if isRoom(r.key) {
		l.room.apply(r.key, r.value)
		r.value = nil
	}
	l.took(r)
	if !l.notes.set(r, first, r.by.log == l.self) {
		return
	}
	switch {
	case r.key == epochKey:
		l.tail.adopt(string(r.value))
	case strings.HasPrefix(r.key, policyKeys):
		l.applyPolicy(r)
	case r.key == lostKey, r.key == goneKey, strings.HasPrefix(r.key, evictKeys) && !r.is(isRemoval):
		l.applyMark(r)
	}
}
