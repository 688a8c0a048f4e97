package memory

import (
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// groupCost is how many bytes a group takes on the Go heap, beside its name. They count towards
// MaxMemory.
const groupCost = 376

func (r *ring) cost() int64 {
	n := groupCost + int64(len(r.name))
	if r.spill != nil {
		n += spillCost
	}
	return n
}

// admit makes sure that all entries can be stored, and puts their rings into targets.
func (l *Log) admit(entries []store.Entry, first store.ID) error {
	if l.closed {
		return store.ErrClosed
	}
	if err := l.affordable(entries, first); err != nil {
		return err
	}
	clear(l.targets)
	l.targets = l.targets[:0]
	known := true
	for i := range entries {
		r := l.rings[entries[i].Group]
		l.targets = append(l.targets, r)
		known = known && r != nil
	}
	if known {
		return nil
	}
	if err := l.addRings(entries); err != nil {
		return err
	}
	for i := range entries {
		l.targets[i] = l.rings[entries[i].Group]
	}
	return nil
}

// affordable returns ErrFull for entries that would evict each other, and for retained messages that
// would leave less than half of the memory for history.
func (l *Log) affordable(entries []store.Entry, first store.ID) error {
	var need, keep int64
	last := store.ID{Epoch: first.Epoch, Seq: first.Seq + store.Seq(len(entries))}
	for i := range entries {
		e := &entries[i]
		n := e.FrameLen(last) + slotSize
		need += int64(n) + entrySize
		if e.Retain && !e.Clear && !l.replaces(e.Group, roundUp(n)) {
			keep += int64(roundUp(n)) + pieceCost
		}
		if !describable(e, n-slotSize) {
			return store.ErrFull
		}
	}
	kept := l.arena.used[pinned]
	if need > (l.opts.MaxMemory-kept)/2 || keep > 0 && kept+keep > l.opts.MaxMemory/2 {
		return store.ErrFull
	}
	return nil
}

// replaces reports whether a retained message replaces one of the same size, as the next value of a
// sensor does. Such a message is never refused.
func (l *Log) replaces(name string, size int) bool {
	r := l.rings[name]
	return r != nil && r.retained != nil && len(r.retained.mem.data) == size
}

// addRings adds a ring for each group that has none. If the limits require it, it first drops groups
// that hold nothing. If there are not enough of these, it changes nothing.
func (l *Log) addRings(entries []store.Entry) error {
	fresh := map[string]bool{} // the groups of the entries; true: it is new
	groups, bytes := len(l.rings)-l.opts.MaxGroups, l.arena.used[pinned]-l.opts.MaxMemory/2
	for i := range entries {
		name := entries[i].Group
		if _, seen := fresh[name]; seen {
			continue
		}
		fresh[name] = l.rings[name] == nil
		if fresh[name] {
			groups++
			bytes += groupCost + int64(len(name))
		}
	}
	if !l.dropIdle(groups, bytes, fresh) {
		return store.ErrTooManyGroups
	}
	now := time.Now().UnixMilli()
	for name, isNew := range fresh {
		if isNew {
			l.addRing(name, now)
		}
	}
	return nil
}

func (l *Log) addRing(name string, now int64) *ring {
	lost := l.forgotten
	l.ringNo++
	r := &ring{no: l.ringNo, name: name, rate: store.NewRate(now), evictedTime: lost.time}
	if lost.Seq > 0 {
		r.lost = &[2]loss{evicted: {Loss: lost.Loss}, removed: {Loss: lost.Loss}}
	}
	if l.opts.Behind {
		l.addSpilled(r)
	}
	l.rings[name] = r
	l.names.Put(name, r)
	l.charge(r.cost())
	l.bySize.add(r)
	l.apply(r)
	return r
}

// lostGroup is the newest message evicted from any group that was dropped.
type lostGroup struct {
	store.Loss
	time int64
}

// noteIdle lists a ring that holds nothing in memory as one to drop if another group needs its place.
func (l *Log) noteIdle(r *ring) {
	switch {
	case r.idle || !r.empty():
	case r.spilled():
		r.idle = true
		l.outside = append(l.outside, r)
	default:
		r.idle = true
		l.idle = append(l.idle, r)
	}
}

// dropIdle drops groups that hold nothing until at least the given number of groups and bytes is
// freed, except those that are needed. If that is not possible it drops none and returns false. The
// newest loss of the dropped groups counts for every group without a ring from then on: a reader may
// get a needless gap, but never misses one.
func (l *Log) dropIdle(groups int, bytes int64, needed map[string]bool) bool {
	var out, stay []*ring
	for groups > 0 || bytes > 0 {
		r, ok := pop(&l.idle)
		if !ok {
			l.idle = append(stay, out...)
			return false
		}
		_, isNeeded := needed[r.name]
		switch {
		case !r.empty():
			r.idle = false
		case r.spilled():
			l.outside = append(l.outside, r)
		case isNeeded:
			stay = append(stay, r)
		default:
			out = append(out, r)
			groups--
			bytes -= r.cost()
		}
	}
	l.idle = append(l.idle, stay...)
	for _, r := range out {
		l.dropRing(r)
	}
	return true
}
