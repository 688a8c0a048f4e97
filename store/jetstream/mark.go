package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// everyGroup stands for all groups in the key of a mark.
const everyGroup = "#"

// mark is the value of a note that says what a group has lost. All hubs apply it at its position. The newest one of
// a group says everything that the earlier ones said, since only that one is kept.
type mark struct {
	memory.Eviction
	Retained store.Seq `json:",omitempty"` // a retained message up to here is dropped
	Missing  store.Seq `json:",omitempty"` // messages up to here may be missing, though they are not evicted
	Reread   store.Seq `json:",omitempty"` // messages up to here are read from the stream again: it does not have all of them
	Cleared  bool      `json:",omitempty"` // hubs have removed them, as a session's messages; Eviction.Unknown says only that nobody has counted them
	Written  time.Time

	at store.Seq // of the note that it was read from
}

// markedGroup returns the group of a mark's key.
func markedGroup(key string) (name string, ok bool) { return strings.CutPrefix(key, evictKeys) }

// mark returns the mark that a record has, if it is a note of a group's losses.
func (r *record) mark() (m mark, ok bool) {
	name, ok := markedGroup(r.key)
	if !ok || json.Unmarshal(r.value, &m) != nil {
		return m, false
	}
	m.Group = strings.Clone(name)
	return m, true
}

// foretells reports whether a record is a mark of positions behind itself. The stream was replaced by another one just when a hub sent it: the
// positions are those of the old one, and messages that are stored here later would be lost.
func (r *record) foretells() bool {
	var m mark
	_, isMark := markedGroup(r.key)
	if !isMark && r.key != lostKey && r.key != goneKey || json.Unmarshal(r.value, &m) != nil {
		return false
	}
	return max(m.Through, m.Retained, m.Missing, m.Reread) >= r.seq
}

// include makes m say what an older mark of the same key says, too.
func (m *mark) include(old *mark) {
	foreign := m.foreign() || old.foreign()
	if old.Through > m.Through {
		m.Through, m.Time, m.Next, m.Unknown = old.Through, old.Time, old.Next, m.Unknown || old.Unknown
	}
	m.Retained, m.Missing, m.Reread = max(m.Retained, old.Retained), max(m.Missing, old.Missing), max(m.Reread, old.Reread)
	m.Cleared = m.Unknown && !foreign
}

// keyedMark is a mark to write with a key.
type keyedMark struct {
	key string
	mark
}

// foreign reports whether a mark tells of messages that somebody else has removed.
func (m *mark) foreign() bool { return m.Unknown && !m.Cleared }

// groupMark returns the mark of a group with its key.
func groupMark(m mark) keyedMark { return keyedMark{evictKeys + m.Group, m} }

// maxMerges is how often marks are merged with those that other hubs write at the same time. Each time one of the hubs is done.
const maxMerges = 100

// mark writes marks behind other notes, in one step. Another hub may have written marks that this one has not read: a hub that starts
// reads only the newest mark of a key, so that it must include them.
func (l *Log) mark(ctx context.Context, marks []keyedMark, others ...store.Note) (store.ID, error) {
	return l.markIn(ctx, l.epoch(), marks, others...)
}

// markIn is mark for positions of an epoch. It returns errRenewed if another one has begun.
func (l *Log) markIn(ctx context.Context, epoch string, marks []keyedMark, others ...store.Note) (id store.ID, err error) {
	for range maxMerges {
		id, err = l.markOnce(ctx, epoch, marks, others...)
		switch {
		case err == nil && id.Epoch != epoch: // the stream was replaced just when they were sent, and they say nothing there
			return id, errRenewed
		case !errors.Is(err, store.ErrConflict):
			return id, err
		}
	}
	return id, fmt.Errorf("%w: other hubs write the same notes", store.ErrAway)
}

// markOnce is markIn for marks that say nothing any more if another hub has written one. It returns store.ErrConflict then.
func (l *Log) markOnce(ctx context.Context, epoch string, marks []keyedMark, others ...store.Note) (store.ID, error) {
	list := slices.Clone(others)
	for i := range marks {
		n, err := l.notes.markNote(&marks[i])
		if err != nil {
			return store.ID{}, err
		}
		list = append(list, n)
	}
	return l.append(ctx, nil, list, appendOptions{epoch: epoch})
}

// markNote returns the note of a mark. It makes the mark include the one that the note replaces.
func (t *noteTable) markNote(m *keyedMark) (n store.Note, err error) {
	n = store.Note{Key: m.key, Guarded: true}
	if v, ok := t.get(m.key); ok {
		n.At = v.at
		var old mark
		if json.Unmarshal(v.value, &old) == nil {
			m.include(&old)
		}
	}
	n.Value, err = json.Marshal(&m.mark)
	return n, err
}

// applyMark does what a mark says.
func (l *Log) applyMark(r *record) {
	var m mark
	err := json.Unmarshal(r.value, &m)
	m.Group, _ = markedGroup(strings.Clone(r.key))
	switch {
	case err != nil:
	case r.key == lostKey:
		l.mem.Lose(m.Through)
	case r.key == goneKey:
		l.mem.LoseGone(m.Missing)
	case m.Group == everyGroup:
		err = l.evictAll(&m)
	default:
		if m.Retained > 0 && l.retainedSeq(m.Group) <= m.Retained {
			err = l.purge(&m)
		}
		if m.Missing > m.Through {
			l.mem.LoseGroup(m.Group, m.Missing)
		}
		if m.Through > 0 {
			err = errors.Join(err, l.mem.Evict(m.Eviction))
		}
		if m.Reread > m.Through && l.tail.folding == 0 { // a hub that starts has read what is left
			l.mem.Spill(m.Group, m.Reread)
		}
	}
	// The stream may have no message behind those that are lost. Not earlier: a reader that is past a loss is not told of it.
	l.mem.Advance(max(m.Through, m.Missing))
	if err != nil && !l.closed.Load() {
		l.opts.Logger.Error("an eviction of the stream is not applied", "note", r.key, "error", err)
	}
}

// purge drops the retained message of a group, and frees the memory of the others at once if all of them are evicted.
func (l *Log) purge(m *mark) error {
	if l.group(m.Group).Newest <= m.Through {
		return l.mem.Purge(m.Group)
	}
	l.mem.Forget(m.Group)
	return nil
}

// evictAll evicts all messages up to a position, also retained ones, and records that any group may have lost some. The stream has nothing up to there.
func (l *Log) evictAll(m *mark) (err error) {
	l.mem.Lose(m.Through)
	l.passed(m.Through)
	for g := range store.EachGroup(l.mem, "") {
		if g.Retained && l.retainedSeq(g.Group) <= m.Through {
			l.mem.Forget(g.Group)
		}
		e := m.Eviction
		if e.Group = g.Group; g.Oldest == 0 || g.Oldest > m.Through {
			continue
		}
		if g.Newest > 0 {
			e.Through = min(e.Through, g.Newest)
		}
		err = errors.Join(err, l.mem.Evict(e))
	}
	return err
}

// retainedSeq returns the seq of a group's retained message, or 0.
func (l *Log) retainedSeq(name string) store.Seq {
	seq, _ := l.retainedOf(name)
	return seq
}

// retainedOf returns the seq of a group's retained message, or 0, and the index of its kind in messageKinds.
func (l *Log) retainedOf(name string) (seq store.Seq, kind int) {
	b := &store.Batch{}
	if err := l.mem.Read(store.Query{Select: exactly(name), Retained: true}, b); err != nil || len(b.Frames) == 0 {
		return 0, 0
	}
	return b.Frames[0].Seq, kindIndex(b.Frames[0].Flags)
}
