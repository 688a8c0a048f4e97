package disk

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/watchbox-go/watchbox/store"
)

// The engine has an index of messages by expiry, both of those in the log and of retained ones. An expired
// message is deleted by the commit that subtracts it from the totals. Its loss is no gap, so the deletion
// need not wait until readers know of it.

// expiry is a message that expires.
type expiry struct {
	no      uint32 // of its group
	expires int64  // ms
	held    bool   // in the log, and not only retained
}

func (x expiry) delete(b *batch, seq store.Seq) error {
	err := b.Delete(expiryKey(x.expires, seq), nil)
	if err == nil && x.held {
		err = deletion{no: x.no, seq: seq}.delete(b)
	}
	return err
}

func (t *turn) isExpired(seq store.Seq) bool {
	_, ok := t.expired[seq]
	return ok
}

// expire removes expired messages from the log, up to the limit of the turn.
func (l *Log) expire(t *turn) (err error) {
	if l.nextExpiry <= t.now {
		l.opts.call(func() { err = l.expireDue(t) })
	}
	return err
}

func (l *Log) expireDue(t *turn) error {
	c, err := l.engine.cursor([]byte{expirySpace}, keyAfter(expirySpace))
	if err != nil {
		return err
	}
	t.expired = map[store.Seq]expiry{}
	l.nextExpiry = math.MaxInt64
	for ok := c.First(); ok && err == nil; ok = c.Next() {
		x := expiry{expires: expiryOf(c.Key())}
		if x.expires > t.now || t.evict == 0 {
			l.nextExpiry = x.expires
			break
		}
		t.evict--
		var value []byte
		if value, err = c.ValueAndErr(); err == nil && len(value) != 4 {
			err = fmt.Errorf("%w: the expiry of message %d: %w", store.ErrCorrupt, seqOf(c.Key()), errRecord)
		}
		if err == nil {
			x.no = binary.BigEndian.Uint32(value)
			err = l.expireOne(t, x, seqOf(c.Key()))
		}
	}
	if err2 := closeCursor(c); err == nil {
		err = err2
	}
	return err
}

// expireOne removes one message from the log and from the retained messages.
func (l *Log) expireOne(t *turn, x expiry, seq store.Seq) error {
	defer func() { t.expired[seq] = x }()
	g := l.byNo[x.no]
	if g == nil {
		return nil
	}
	if g.next.retained == seq {
		t.touch(g)
		l.retain(&g.next, item{})
	}
	if g.next.messages == 0 || seq < g.next.head.seq {
		return nil
	}
	m, err := l.indexed(t, g, seq)
	if err != nil || m.seq == 0 {
		return err
	}
	x.held = true
	t.expired[seq] = x // storedAfter and storedBefore skip it
	t.touch(g)
	l.deletedBytes.Add(int64(m.size) + messageCost)
	l.uncount(&g.next, m)
	switch s := &g.next; {
	case s.messages == 0:
		s.gone = max(s.gone, seq)
		s.head, s.newest = item{}, 0
	case s.head.seq == seq:
		s.gone = seq
		s.head, err = l.storedAfter(g, seq, t)
	case s.newest == seq:
		s.newest, err = l.storedBefore(g, seq, t)
	}
	l.age(g)
	return err
}

// openIndex opens the turn's cursor on the index.
func (l *Log) openIndex(t *turn) (err error) {
	if t.index == nil {
		t.index, err = l.engine.cursor([]byte{indexSpace}, keyAfter(indexSpace))
	}
	return err
}

// indexed returns the index entry of a message. Its seq is 0 if the message is not held.
func (l *Log) indexed(t *turn, g *group, seq store.Seq) (m item, err error) {
	if err := l.openIndex(t); err != nil {
		return m, err
	}
	t.indexGroup, t.indexItem = 0, item{} // the index is elsewhere now
	key := indexKey(g.no, seq)
	if !t.index.SeekGE(key) || string(t.index.Key()) != string(key) {
		return m, t.index.Error()
	}
	value, err := t.index.ValueAndErr()
	if err != nil {
		return m, err
	}
	return readIndex(key, value)
}

// storedBefore returns the seq of a group's last message on disk before another. There must be one.
func (l *Log) storedBefore(g *group, seq store.Seq, t *turn) (store.Seq, error) {
	t.indexGroup, t.indexItem = 0, item{}
	found := t.index.SeekLT(indexKey(g.no, seq))
	for found && t.isExpired(seqOf(t.index.Key())) {
		found = t.index.Prev()
	}
	if err := t.index.Error(); err != nil {
		return 0, err
	}
	if !found || string(t.index.Key()[:5]) != string(indexKey(g.no, 0)[:5]) {
		return 0, fmt.Errorf("%w: %s should have a message before %d", store.ErrCorrupt, g.name, seq)
	}
	return seqOf(t.index.Key()), nil
}
