package disk

import (
	"encoding/json"
	"fmt"
	"time"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// lostBefore is the time of losses that are older than this run.
const lostBefore = 1

// load reads the facts, policies and groups of the log, but not its messages.
func (l *Log) load(known ids) (err error) {
	l.opts.call(func() { err = l.loadAll(known) })
	return err
}

func (l *Log) loadAll(known ids) error {
	facts, err := l.facts()
	if err != nil {
		return err
	}
	if err := l.loadPolicies(); err != nil {
		return err
	}
	if err := l.loadGroups(); err != nil {
		return err
	}
	var r record
	number := func(name string) uint64 {
		b, ok := facts[name]
		if !ok {
			return 0
		}
		r = record{b: b}
		return r.uint()
	}
	l.epoch = string(facts[factEpoch])
	l.lives = number(factLife)
	if l.last, err = l.readNewest(facts[factNewest]); err != nil {
		return err
	}
	inMemory := store.Seq(number(factInMemory))
	if b, ok := facts[factForgotten]; ok {
		r = record{b: b}
		l.next.forgotten = store.Loss{Seq: r.seq(), At: lostBefore}
		l.next.forgottenTime = int64(r.uint())
	}
	if r.bad {
		return fmt.Errorf("%w: the facts: %w", store.ErrCorrupt, errRecord)
	}
	lost, err := known.missesMessages(l.epoch, l.lives, l.last, l.engine.damaged)
	if err != nil {
		return err
	}
	l.epoch, l.lives, l.ceiling = known.epoch, max(l.lives, known.life)+1, known.ceiling
	if known.ending != cleanEnd || lost {
		if err := l.recover(known.ending == looseEnd || lost); err != nil {
			return err
		}
	}
	if inMemory > l.next.forgotten.Seq {
		l.next.forgotten, l.next.forgottenTime = store.Loss{Seq: inMemory, At: lostBefore}, time.Now().UnixMilli()
	}
	l.settle()
	l.ceiling = l.last + idAhead
	if err := l.engine.commit(true, l.begin); err != nil {
		return err
	}
	if err := l.writeIDs(l.opts.Fsync.ending()); err != nil {
		return err
	}
	return l.findOldest()
}

// readNewest returns the newest seq. It also compares the recorded numbers of groups and messages with those
// loaded, since tables may be missing that no other check reads.
func (l *Log) readNewest(fact []byte) (store.Seq, error) {
	if fact == nil {
		return 0, nil
	}
	r := record{b: fact}
	newest, groups, messages := r.seq(), int(r.uint()), int64(r.uint())
	if err := r.end(); err != nil {
		return 0, fmt.Errorf("%w: the facts: %w", store.ErrCorrupt, err)
	}
	there := int64(0)
	for _, g := range l.groups {
		there += g.next.messages
	}
	if groups != len(l.groups) || messages != there {
		return 0, fmt.Errorf("%w: only %d of %d groups and %d of %d messages are left: restore a backup",
			store.ErrCorrupt, len(l.groups), groups, there, messages)
	}
	return newest, nil
}

// facts returns the facts about the whole log.
func (l *Log) facts() (map[string][]byte, error) {
	facts := map[string][]byte{}
	err := l.each(factSpace, func(key, value []byte) error {
		facts[string(key[1:])] = append([]byte{}, value...)
		return nil
	})
	return facts, err
}

// each calls f for each key of a space.
func (l *Log) each(space byte, f func(key, value []byte) error) error {
	c, err := l.engine.cursor([]byte{space}, keyAfter(space))
	if err != nil {
		return err
	}
	for ok := c.First(); ok && err == nil; ok = c.Next() {
		var value []byte
		if value, err = c.ValueAndErr(); err == nil {
			err = f(c.Key(), value)
		}
	}
	if err == nil {
		err = c.Error()
	}
	if err2 := c.Close(); err == nil {
		err = err2
	}
	return err
}

func (l *Log) loadPolicies() error {
	return l.each(policySpace, func(key, value []byte) error {
		f, err := names.ParseFilter(string(key[1:]))
		if err != nil {
			return fmt.Errorf("%w: a policy: %w", store.ErrCorrupt, err)
		}
		var p store.Policy
		if err := json.Unmarshal(value, &p); err != nil {
			return fmt.Errorf("%w: the policy of %s: %w", store.ErrCorrupt, f, err)
		}
		l.policies.Restore(f, p)
		return nil
	})
}

func (l *Log) loadGroups() error {
	now := time.Now().UnixMilli()
	return l.each(groupSpace, func(key, value []byte) error {
		g, err := readGroup(key, value)
		if err != nil {
			return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
		}
		g.next.rate = store.NewRate(now)
		g.policy = l.policies.Effective(names.Exact(g.name), l.opts.Server)
		l.groups[g.name], l.byNo[g.no] = g, g
		l.names.Put(g.name, g)
		l.groupBytes += g.cost()
		l.groupNo = max(l.groupNo, g.no+1)
		return nil
	})
}

// recover repairs a log that was not closed, or is incomplete. It continues above the ceiling, so that no
// id is given out twice. With loose, messages up to the ceiling may be lost, and all groups get a gap.
func (l *Log) recover(loose bool) error {
	known := l.last
	l.last = max(l.last, l.ceiling)
	for _, g := range l.groups {
		s := &g.next
		if loose && l.last > known || s.newestInMemory > 0 {
			s.lose(l.last, time.Now().UnixMilli())
			g.unsaved = true
		}
		if err := l.undo(g); err != nil {
			return err
		}
	}
	if loose && l.last > known {
		l.next.forgotten, l.next.forgottenTime = store.Loss{Seq: l.last, At: lostBefore}, time.Now().UnixMilli()
	}
	return l.undoRetained()
}

// undo queues the deletion of a group's evicted messages that the last run did not delete.
func (l *Log) undo(g *group) error {
	c, err := l.engine.cursor(indexKey(g.no, 0), indexKey(g.no, g.next.gone+1))
	if err != nil {
		return err
	}
	for ok := c.First(); ok; ok = c.Next() {
		d := deletion{no: g.no, seq: seqOf(c.Key())}
		if m, err := readIndex(c.Key(), c.Value()); err == nil && g.next.retained != m.seq {
			d.expires = m.expires
		}
		l.deletions = append(l.deletions, d)
	}
	if err := c.Error(); err != nil {
		_ = c.Close()
		return err
	}
	return c.Close()
}

// undoRetained is undo for messages that are no longer retained.
func (l *Log) undoRetained() error {
	return l.each(retainedSpace, func(key, value []byte) error {
		h, _, err := readMessage(value)
		if err != nil {
			return err
		}
		if g := l.byNo[h.no]; g == nil || g.next.retained != seqOf(key) {
			l.deletions = append(l.deletions, deletion{kind: deleteRetained, seq: seqOf(key)})
		}
		return nil
	})
}

// settle computes the totals and lists from the loaded groups, and publishes them.
func (l *Log) settle() {
	l.opts.Losses.Tick() // lostBefore
	now := time.Now().UnixMilli()
	for _, g := range l.groups {
		s := &g.next
		if s.newestInMemory > 0 && s.newestInMemory > s.evicted.Seq {
			s.lose(s.newestInMemory, now) // it ended with the process
			g.unsaved = true
		}
		s.newestInMemory = 0
		s.evicted.At = 0
		s.removed = s.evicted
		l.next.messages += s.messages
		l.next.bytes += s.bytes
		l.next.retainedBytes += s.retainedBytes
		l.next.lostMax = max(l.next.lostMax, s.evicted.Seq)
		l.clock = max(l.clock, s.head.time)
		l.noteEmpty(g)
		l.show(g)
		l.age(g)
		if !g.overdue && g.excess(now) { // the bounds may have changed since the last run
			g.overdue = true
			l.overdue = append(l.overdue, g)
		}
	}
	l.overMax = l.diskMax > 0 && l.next.cost() > l.diskMax
	l.next.lostMax = max(l.next.lostMax, l.next.forgotten.Seq)
	l.next.removedMax = l.next.lostMax
	l.now = l.next
	l.newest.Store(uint64(l.last))
	l.tail.base = l.last
}

// begin records that the log is open.
func (l *Log) begin(b *batch) error {
	var err error
	set := func(name string, value []byte) {
		if err == nil {
			err = b.Set(append([]byte{factSpace}, name...), value, nil)
		}
	}
	set(factEpoch, []byte(l.epoch))
	set(factNewest, appendUints(nil, uint64(l.last), uint64(len(l.groups)), uint64(l.next.messages)))
	set(factLife, appendUints(nil, l.lives))
	set(factForgotten, appendUints(nil, uint64(l.next.forgotten.Seq), uint64(l.next.forgottenTime)))
	if err == nil {
		err = b.Delete(append([]byte{factSpace}, factInMemory...), nil)
	}
	for _, g := range l.groups {
		if g.unsaved && err == nil {
			err = b.Set(groupKey(g.no), g.appendRecord(nil), nil)
			g.unsaved = false
		}
	}
	return err
}

// findOldest sets oldest from the first message held, and the clock from the last.
func (l *Log) findOldest() error {
	c, err := l.engine.cursor([]byte{messageSpace}, keyAfter(messageSpace))
	if err != nil {
		return err
	}
	l.oldest.Store(uint64(l.last))
	if c.First() {
		l.oldest.Store(uint64(seqOf(c.Key()) - 1))
	}
	if c.Last() {
		h, _, err := readMessage(c.Value())
		if err != nil {
			_ = c.Close()
			return err
		}
		l.clock = max(l.clock, h.time)
	}
	if err := c.Error(); err != nil {
		_ = c.Close()
		return err
	}
	return c.Close()
}
