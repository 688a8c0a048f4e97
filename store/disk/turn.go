package disk

import (
	"container/heap"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

const (
	maxOps    = 4096     // the most ops that wait for the committer
	turnParts = 32       // a turn takes ops until their frames fill this part of the memory
	maxTurn   = 4 << 20  // and at most this many bytes
	maxYields = 64       // how often the committer yields to let more ops come in
	maxEvict  = 32 << 10 // the most messages that one turn evicts
	idAhead   = 64 << 10 // ids that may be given out before the ceiling is raised
	tidyAfter = 250      // ms after which evicted messages are deleted, if nothing else is written
)

// turn is one commit of all ops that waited when it began.
type turn struct {
	now       int64
	first     store.Seq // of its first message
	buf       []byte    // frames of the messages
	items     []recent
	touched   []*group
	dropped   []uint32 // groups
	sets      []func(*batch) error
	evict     int                  // how many more messages the turn may evict
	deletions []deletion           // for the next turn
	expired   map[store.Seq]expiry // deleted by this turn
	promise   bool                 // a caller waits until the turn is on disk
	room      room                 // room on disk
	index     *cursor
	at        item // where index is
	of        uint32
}

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

// run is the committer.
func (l *Log) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(l.wait())
		var list []*op
		select {
		case o, ok := <-l.ops:
			if !ok {
				l.finish()
				return
			}
			list = l.gather(o)
		case <-timer.C:
		}
		l.turn(list)
		l.opts.changed()
	}
}

// wait returns the time until the next turn, if no op comes.
func (l *Log) wait() time.Duration {
	switch {
	case l.failure() != nil:
		return time.Hour
	case l.waitsForRoom:
		return roomAfter
	case len(l.overdue) > 0 || len(l.changed) > 0 || l.overMax:
		return 0
	}
	due := l.nextExpiry
	if len(l.byAge) > 0 {
		due = min(due, l.byAge[0].due)
	}
	now := time.Now()
	if l.reclaimable() || l.reclaims.Load() {
		due = min(due, now.Add(reclaimAfter).UnixMilli()) // the last attempt failed, or may fail
	}
	if len(l.deletions) > 0 {
		due = min(due, now.UnixMilli()+tidyAfter)
	}
	if !l.unsynced.IsZero() {
		due = min(due, l.unsynced.Add(l.opts.Fsync.delay()).UnixMilli())
	}
	if due == math.MaxInt64 {
		return time.Hour
	}
	return time.Duration(max(due-now.UnixMilli(), 10)) * time.Millisecond
}

// gather takes the waiting ops. If there are several, more will come soon. It then yields as long as each yield
// brings in others, since a commit costs about the same for one op as for a hundred. A single op is not
// delayed.
func (l *Log) gather(o *op) []*op {
	var list []*op
	size, had, yields := 0, 0, 0
	take := func(o *op) {
		if o.taken.CompareAndSwap(false, true) { // otherwise its caller has given up
			list = append(list, o)
			size += o.size()
		}
	}
	take(o)
	had = len(list)
	for most := l.turnMost(); size < most; {
		select {
		case o, ok := <-l.ops:
			if !ok {
				return list // run sees the closed channel next
			}
			take(o)
		default:
			if len(list) == had || yields == maxYields {
				return list
			}
			had = len(list)
			yields++
			runtime.Gosched()
		}
	}
	return list
}

// turnMost returns how many bytes of frames fill a turn.
func (l *Log) turnMost() int { return int(min(l.opts.MaxMemory/turnParts, maxTurn)) }

// refuse answers ops with errFull. Policies and purges in progress are answered with success: they are
// committed, and are completed when there is room.
func (l *Log) refuse(list []*op) {
	for _, o := range list {
		o.err = errFull
	}
	for _, o := range append(list, l.sweeping...) {
		o.done <- struct{}{}
	}
	l.sweeping = nil
}

// roomFor estimates the bytes of a turn's frames.
func roomFor(list []*op) (n int) {
	const header = 80 // the part of a frame with the id, which is added later
	for _, o := range list {
		n += o.size() + header*len(o.entries)
	}
	return n
}

// adds reports whether an op stores something. Other ops only remove something.
func (o *op) adds() bool {
	return len(o.entries) > 0 || slices.ContainsFunc(o.notes, func(n store.Note) bool { return n.Value != nil })
}

func (o *op) size() (n int) {
	for i := range o.notes {
		n += len(o.notes[i].Value)
	}
	for i := range o.entries {
		n += len(o.entries[i].Tail)
	}
	return n
}

// turn commits the ops and all work that is due, and answers the ops.
func (l *Log) turn(list []*op) {
	t := &turn{now: time.Now().UnixMilli(), first: l.last + 1, evict: maxEvict}
	size := roomFor(list)
	t.room = l.engine.room(size)
	t.buf = make([]byte, 0, size)
	err := l.failure()
	if l.waitsForRoom = err == nil && t.room == none; l.waitsForRoom {
		l.refuse(list)
		return
	}
	if err == nil {
		if err = l.commit(t, list); err != nil {
			l.engine.fail(err)
			err = l.failure()
		}
	}
	if err == nil {
		l.publish(t)
	}
	for _, o := range list {
		if err != nil {
			o.id, o.err = store.ID{}, err
		} else if o.sweeps && o.err == nil {
			l.sweeping = append(l.sweeping, o)
			continue
		}
		o.done <- struct{}{}
	}
	if err == nil {
		l.reclaim()
	}
	if len(l.overdue)+len(l.changed) == 0 || err != nil {
		for _, o := range l.sweeping {
			o.err = err
			o.done <- struct{}{}
		}
		l.sweeping, l.overdue, l.changed = nil, nil, nil
	}
}

// commit computes the changes of a turn and writes them.
func (l *Log) commit(t *turn, list []*op) error {
	defer l.opts.call(t.close)
	if err := l.expire(t); err != nil {
		return err
	}
	overdue := l.overdue
	l.overdue = nil
	for _, g := range overdue {
		g.overdue = false
		if err := l.enforce(g, t); err != nil {
			return err
		}
	}
	for _, o := range list {
		var err error
		switch {
		case o.change != nil:
			err = o.change(t)
		default:
			o.err, err = l.append(o, t)
		}
		if err != nil {
			return err
		}
	}
	if err := l.applyPolicies(t); err != nil {
		return err
	}
	for len(l.byAge) > 0 && l.byAge[0].due <= t.now && t.evict > 0 {
		g := heap.Pop(&l.byAge).(aging).g
		if err := l.enforce(g, t); err != nil {
			return err
		}
		l.age(g)
	}
	if err := l.cut(t); err != nil {
		return err
	}
	return l.write(t)
}

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
	t.promise = true
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
	sync := l.opts.Fsync == Always && t.promise && len(t.touched)+len(t.sets) > 0
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
	l.last += store.Seq(len(t.items))
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

// close frees the turn's cursor.
func (t *turn) close() {
	if t.index != nil {
		_ = t.index.Close() // its errors were returned by the reads
		t.index = nil
	}
}
