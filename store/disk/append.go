package disk

import (
	"github.com/watchbox-go/watchbox/store"
)

// append adds an op's entries to the turn. A refusal affects only the op; err ends writing.
func (l *Log) append(o *op, t *turn) (refusal, err error) {
	if t.room < enough && o.adds() {
		return errFull, nil
	}
	if !l.mayRetain(o.entries) {
		return errRetained, nil
	}
	if !l.seated(o.entries) {
		if err := l.admit(o.entries, t); err != nil {
			return err, nil
		}
	}
	first := t.first + store.Seq(len(t.items))
	if err := l.place(o.entries, first); err != nil {
		return err, nil
	}
	o.id = store.ID{Epoch: l.epoch, Seq: first}
	for i := range o.entries {
		if err := l.push(&o.entries[i], t); err != nil {
			return nil, err
		}
	}
	t.awaited = true
	for _, n := range o.notes {
		t.note(n, first)
	}
	return nil, nil
}

// place hands the entries of groups that are kept in memory to the log there.
func (l *Log) place(entries []store.Entry, first store.Seq) error {
	if l.memory == nil {
		return nil
	}
	var out []store.Entry
	var seqs []store.Seq
	for i := range entries {
		if l.groups[entries[i].Group].keptInMemory() {
			out = append(out, entries[i])
			seqs = append(seqs, first+store.Seq(i))
		}
	}
	if len(out) == 0 {
		return nil
	}
	return l.memory.Place(out, seqs)
}

func (g *group) keptInMemory() bool { return g.policy.Store == store.Memory }

// push adds one message to the turn.
func (l *Log) push(e *store.Entry, t *turn) error {
	g := l.groups[e.Group]
	id := store.ID{Epoch: l.epoch, Seq: t.first + store.Seq(len(t.items))}
	g.next.rate.Count(t.now)
	if l.memory != nil && g.keptInMemory() {
		t.items = append(t.items, recent{item: item{seq: id.Seq}, inMemory: true, end: len(t.buf)})
		return l.noteInMemory(g, e, id.Seq, t)
	}
	l.clock = max(l.clock, min(e.Time.UnixMilli(), t.now))
	from := len(t.buf)
	b, msg := e.AppendFrame(t.buf, id)
	t.buf = b
	m := recent{
		item: item{seq: id.Seq, size: len(b) - from, time: l.clock}, g: g, msg: msg, flags: e.Flags(), end: len(b),
	}
	if !e.Expires.IsZero() {
		m.expires = e.Expires.UnixMilli()
		l.nextExpiry = min(l.nextExpiry, m.expires)
	}
	t.touch(g)
	g.fresh = append(g.fresh, len(t.items))
	t.items = append(t.items, m)
	s := &g.next
	if s.messages == 0 {
		s.head = m.item
	}
	s.messages++
	s.bytes += int64(m.size)
	s.newest = id.Seq
	l.next.messages++
	l.next.bytes += int64(m.size)
	if e.Retain {
		if l.memory != nil && s.newestInMemory > 0 {
			l.memory.Forget(g.name) // the retained message is on disk now
		}
		if e.Clear {
			l.retain(s, item{})
		} else {
			l.retain(s, m.item)
		}
	}
	if err := l.enforce(g, t); err != nil {
		return err
	}
	l.age(g)
	return nil
}

// noteInMemory notes a message that is kept in memory. It is lost at a restart, and the group's record says
// that there was one.
func (l *Log) noteInMemory(g *group, e *store.Entry, seq store.Seq, t *turn) error {
	if g.next.newestInMemory == 0 || e.Retain && g.next.retained > 0 {
		t.touch(g)
	}
	if e.Retain {
		l.retain(&g.next, item{}) // the retained message is in memory now
	}
	g.next.newestInMemory = seq
	g.unsaved = true
	return nil
}

// retain sets the retained message of a group, or removes it if the seq is 0.
func (l *Log) retain(s *state, m item) {
	l.next.retainedBytes += int64(m.size) - s.retainedBytes
	s.retained, s.retainedBytes, s.retainedExpires = m.seq, int64(m.size), m.expires
}

// touch lists a group whose record has to be written.
func (t *turn) touch(g *group) {
	if !g.touched {
		g.touched = true
		t.touched = append(t.touched, g)
	}
}

// note adds a note to the turn.
func (t *turn) note(n store.Note, first store.Seq) {
	key := append([]byte{noteSpace}, n.Key...)
	if n.Value == nil {
		t.sets = append(t.sets, func(b *batch) error { return b.Delete(key, nil) })
		return
	}
	value := append(appendUints(nil, uint64(first)), n.Value...)
	t.sets = append(t.sets, func(b *batch) error { return b.Set(key, value, nil) })
}
