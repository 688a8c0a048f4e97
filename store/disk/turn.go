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
	tidyAfter = 250      // ms after which evicted messages are deleted, if nothing else is written
)

// turn is one commit of all ops that waited when it began.
type turn struct {
	now        int64
	first      store.Seq // of its first message
	buf        []byte    // frames of the messages
	items      []recent
	touched    []*group
	dropped    []uint32 // groups
	sets       []func(*batch) error
	evict      int                  // how many more messages the turn may evict
	deletions  []deletion           // for the next turn
	expired    map[store.Seq]expiry // deleted by this turn
	awaited    bool                 // a caller waits until the turn is on disk
	room       room                 // room on disk
	index      *cursor
	indexItem  item // where index is
	indexGroup uint32
}

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

// close frees the turn's cursor.
func (t *turn) close() {
	if t.index != nil {
		_ = t.index.Close() // its errors were returned by the reads
		t.index = nil
	}
}
