package disk

import (
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// idAhead is how many ids may be given out before the ceiling is raised.
const idAhead = 64 << 10

// deletion is a message that is evicted, or no longer retained, but still on disk. It is deleted one turn
// after that was committed, so that a concurrent reader finds every message it has not been told is gone.
type deletion struct {
	kind deletionKind
	no   uint32 // of its group
	seq  store.Seq

	expires int64 // ms; unless it is 0, the expiry key is deleted, too
}

// deletionKind says what is deleted.
type deletionKind byte

const (
	deleteMessage  deletionKind = iota
	deleteRetained              // the retained copy
)

// write commits the turn, unless it is empty.
func (l *Log) write(t *turn) error {
	last := l.last + store.Seq(len(t.items))
	if last > l.ceiling {
		l.ceiling = last + idAhead
		if err := l.writeIDs(l.opts.Fsync.ending()); err != nil {
			return err
		}
	}
	stored := len(t.touched)+len(t.dropped)+len(t.sets)+len(l.deletions)+len(t.expired) > 0
	sync := l.opts.Fsync == Always && t.awaited && len(t.touched)+len(t.sets) > 0
	late := !l.unsynced.IsZero() && t.now >= l.unsynced.Add(l.opts.Fsync.delay()).UnixMilli()
	if !stored {
		if late {
			l.unsynced = time.Time{}
			return l.engine.sync()
		}
		return nil
	}
	sync = sync || late
	err := l.engine.commit(sync, func(b *batch) error { return l.fill(b, t, last) })
	switch {
	case err != nil:
		return err
	case sync:
		l.unsynced = time.Time{}
	case l.opts.Fsync != Always && l.unsynced.IsZero():
		l.unsynced = time.UnixMilli(t.now)
	}
	l.deletions = t.deletions
	return nil
}

// fill adds the changes of a turn to a batch.
func (l *Log) fill(b *batch, t *turn, last store.Seq) error {
	for _, d := range l.deletions {
		if err := d.delete(b); err != nil {
			return err
		}
	}
	for seq, x := range t.expired {
		if err := x.delete(b, seq); err != nil {
			return err
		}
	}
	start := 0
	for i := range t.items {
		m := &t.items[i]
		if m.expires > 0 && (!m.evicted || m.g.next.retained == m.seq) {
			if err := b.Set(expiryKey(m.expires, m.seq), groupKey(m.g.no)[1:], nil); err != nil {
				return err
			}
		}
		if !m.evicted && !m.inMemory {
			if err := m.set(b, messageSpace, t.buf[start:m.end]); err != nil {
				return err
			}
			if err := b.Set(indexKey(m.g.no, m.seq), m.appendIndex(nil), nil); err != nil {
				return err
			}
		}
		start = m.end
	}
	for _, g := range t.touched {
		if err := l.fillGroup(b, g, t); err != nil {
			return err
		}
	}
	for _, no := range t.dropped {
		if err := b.Delete(groupKey(no), nil); err != nil {
			return err
		}
	}
	for _, set := range t.sets {
		if err := set(b); err != nil {
			return err
		}
	}
	return l.fillFacts(b, t, last)
}

func (l *Log) fillFacts(b *batch, t *turn, last store.Seq) error {
	fact := func(name string, value ...uint64) error {
		return b.Set(append([]byte{factSpace}, name...), appendUints(nil, value...), nil)
	}
	if err := fact(factNewest, uint64(last), uint64(len(l.groups)), uint64(l.next.messages)); err != nil {
		return err
	}
	if len(t.dropped) > 0 {
		if err := fact(factInMemory, uint64(l.next.inMemoryForgotten)); err != nil {
			return err
		}
		return fact(factForgotten, uint64(l.next.forgotten.Seq), uint64(l.next.forgottenTime))
	}
	return nil
}

// fillGroup writes the group's record, and its retained message if that has changed.
func (l *Log) fillGroup(b *batch, g *group, t *turn) error {
	g.unsaved = false
	if err := b.Set(groupKey(g.no), g.appendRecord(nil), nil); err != nil {
		return err
	}
	was, is := g.now.retained, g.next.retained
	if was == is {
		return nil
	}
	if was > 0 {
		d := deletion{kind: deleteRetained, seq: was}
		if was <= g.next.gone {
			d.expires = g.now.retainedExpires // otherwise it is deleted with the message
		}
		t.deletions = append(t.deletions, d)
		l.deletedBytes.Add(g.now.retainedBytes)
	}
	if is == 0 {
		return nil
	}
	i := int(is - t.first)
	start := 0
	if i > 0 {
		start = t.items[i-1].end
	}
	return t.items[i].set(b, retainedSpace, t.buf[start:t.items[i].end])
}

// set writes a message under its seq.
func (m *recent) set(b *batch, space byte, frame []byte) error {
	h := header{no: m.g.no, time: m.time, expires: m.expires, msg: m.msg, flags: m.flags}
	d := b.SetDeferred(9, headerSize+len(frame))
	copy(d.Key, seqKey(space, m.seq))
	h.put(d.Value)
	copy(d.Value[headerSize:], frame)
	return d.Finish()
}

func (d deletion) delete(b *batch) error {
	if d.expires > 0 {
		if err := b.Delete(expiryKey(d.expires, d.seq), nil); err != nil {
			return err
		}
	}
	switch d.kind {
	case deleteRetained:
		return b.SingleDelete(seqKey(retainedSpace, d.seq), nil)
	}
	if err := b.SingleDelete(seqKey(messageSpace, d.seq), nil); err != nil {
		return err
	}
	return b.SingleDelete(indexKey(d.no, d.seq), nil)
}

// publish shows the committed turn to readers.
func (l *Log) publish(t *turn) {
	l.mu.Lock()
	for _, g := range t.touched {
		l.show(g)
		g.touched = false
		g.fresh = g.fresh[:0]
		l.noteEmpty(g)
	}
	at := time.Now()
	for range t.items {
		l.last++
		l.stamps.Note(l.last, at)
	}
	l.tail.add(t, l.last)
	l.tail.trim(l.lose)
	l.now = l.next
	l.newest.Store(uint64(l.last))
	if l.now.messages == 0 {
		l.oldest.Store(uint64(l.last))
	}
	l.mu.Unlock()
	if len(t.items) > 0 {
		l.wakes.Wake()
	}
}

// lose notes an evicted message that is no longer in the tail either, so that live readers have lost it, too.
func (l *Log) lose(m *recent, now int64) {
	s := &m.g.next
	if m.seq > s.gone || m.expired(now) || m.seq <= s.removed.Seq {
		return
	}
	l.next.removedMax = max(l.next.removedMax, m.seq)
	s.removed = store.Loss{Seq: m.seq, At: l.opts.Losses.Tick()}
	m.g.now.removed = s.removed
	if l.byNo[m.g.no] == m.g { // otherwise the group was forgotten
		l.listLoss(m.g, removedLoss)
	}
}

// finish records that the log was closed.
func (l *Log) finish() {
	if l.failure() != nil {
		return
	}
	t := &turn{now: time.Now().UnixMilli(), first: l.last + 1}
	for _, g := range l.groups {
		if g.unsaved {
			t.touch(g)
		}
	}
	if err := l.engine.commit(true, func(b *batch) error { return l.fill(b, t, l.last) }); err != nil {
		return // the log is read-only now, and the next start treats it like a killed one
	}
	l.ceiling = l.last
	_ = l.writeIDs(cleanEnd) // as above
}
