package jetstream

import (
	"context"

	"github.com/watchbox-go/watchbox/store"
)

// Notes may use up the reserve. Those that make room must be written nevertheless: what a policy or a purge evicts, policies, and
// notes that are removed. So the stream has a last share, another note of many bytes. It stays while messages, and then
// notes, use the room of the reserve.
//
// A hub whose note is refused though the reserve is spent writes no others that need room, until it reads from the stream that
// the janitor has found some. If the note makes room, the hub purges the last share, which needs no room, and writes that it
// is spent. From then on all hubs write only notes that make room, and notes that replace an earlier version, as when a
// session is lost before it ends. Those may grow by up to half of the share in all. Each hub counts what it reads of them,
// and has only a part of it on the way, so that together they exceed it by less than a quarter.
//
// Messages are removed only after the note that tells of them is in the stream, also here: no hub can miss a gap. If others take the room of
// the share in the moment in which it is spent, the note is refused, and the messages stay.

// shareParts is how many such shares make a reserve.
const shareParts = 8

// share is what a hub knows of the last share.
type share struct {
	there  bool // the stream has it
	shut   bool // though it is there, a note of this hub was refused
	taken  int  // by notes that have grown since it was spent
	flying int  // by those of this hub that are on their way
}

// shareSize returns how many bytes the last share has.
func (l *Log) shareSize() int { return max(l.reserveSize()/shareParts, minReserve) }

// makesRoom reports whether notes make room: those of the log itself, and those that are removed.
func makesRoom(list []store.Note) bool {
	for _, n := range list {
		if n.Value != nil && !isOwn(n.Key) {
			return false
		}
	}
	return true
}

// growth returns how many bytes more than their newest versions notes take, and whether all of them have one.
func (t *noteTable) growth(list []store.Note) (n int, replace bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	replace = true
	for _, note := range list {
		if note.Value == nil || isOwn(note.Key) {
			continue
		}
		v, ok := t.notes[note.Key]
		replace = replace && ok && !v.removed
		n += max(len(note.Value)-len(v.value), 0)
	}
	return n, replace
}

// admitNotes returns why notes without messages cannot be stored now. If they can, done must be called once they are.
func (l *Log) admitNotes(list []store.Note) (done func(), err error) {
	r := &l.room
	done = func() {}
	if !r.onlyFreeing() || makesRoom(list) {
		return done, nil
	}
	growth, replace := l.notes.growth(list)
	size, hubs := l.shareSize(), len(l.hubs.List())
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.share
	switch {
	case r.full == nil: // meanwhile there is room
		return done, nil
	case !replace, s.taken+s.flying+growth > size/2, s.flying+growth > size/4/hubs:
		return nil, r.full
	}
	s.flying += growth
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.flying -= growth
	}, nil
}

// onlyFreeing reports whether notes are refused that need room.
func (r *room) onlyFreeing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told && !r.armed && (r.share.shut || !r.share.there)
}

// spendShare is called when notes were refused for lack of room though the reserve is spent. It returns false if they have to
// wait until there is some.
func (l *Log) spendShare(ctx context.Context, list []store.Note) bool {
	_, replace := l.notes.growth(list)
	r := &l.room
	r.spending.Lock()
	defer r.spending.Unlock()
	r.mu.Lock()
	r.share.shut = r.told && !r.armed
	spend := r.share.shut && r.share.there
	r.mu.Unlock()
	if !replace || !spend {
		return replace
	}
	if err := l.replacePurged(ctx, []store.Note{{Key: shareKey, Value: []byte{}}}); err == nil { // else the next refusal tries again
		l.opts.Logger.Warn("notes have used up the reserve of the stream: only those that make room are stored until there is some")
	}
	return true
}

// took counts what a note takes while the last share is spent. The tail calls it before the note replaces its earlier version.
func (l *Log) took(r *record) {
	s := &l.room.share
	l.room.mu.Lock()
	there := s.there
	l.room.mu.Unlock()
	if there || isOwn(r.key) || r.is(isRemoval) {
		return
	}
	growth, _ := l.notes.growth([]store.Note{{Key: r.key, Value: r.value}})
	l.room.mu.Lock()
	defer l.room.mu.Unlock()
	s.taken += growth
}
