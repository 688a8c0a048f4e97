package disk

import (
	"container/heap"
	"math"
	"sync/atomic"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// group is the state of one group. Only the committer changes it: it changes next, which becomes now when
// the commit is on disk.
type group struct {
	no   uint32 // in keys; never used again
	name string
	now  state         // guarded by the log's mu
	gone atomic.Uint64 // now.gone, for readers of the disk, which do not hold the lock

	links [lossKinds]lossLink // guarded by the log's mu

	next        state // used only by the committer, like the fields below
	policy      store.Policy
	fresh       []int     // indices of the turn's messages of this group that are not evicted
	touched     bool      // it is in the turn's list
	overdue     bool      // it is in the list of groups with more to evict
	purge       store.Seq // the last message that a purge has to evict
	unsaved     bool      // it has changed since its record was written
	listedEmpty bool      // it is in the list of groups that hold nothing
	aging       int       // its place in the heap of ages, from 1; 0: not in it
}

// state is the part of a group that a commit changes.
type state struct {
	messages, bytes int64     // held
	head            item      // the oldest message held; its seq is 0 if there is none
	newest          store.Seq // the newest message held; 0: none
	gone            store.Seq // no message up to here is held
	evicted         store.Loss
	evictedTime     int64
	removed         store.Loss // the newest evicted message that is not in the tail either
	retained        store.Seq
	retainedBytes   int64 // bytes of its frame
	retainedExpires int64 // ms; 0: never, or not known since the last restart
	rate            store.Rate
	newestInMemory  store.Seq // the newest message kept in memory since the log was opened
}

// lose notes that messages up to a seq may be lost.
func (s *state) lose(seq store.Seq, now int64) {
	s.evicted, s.evictedTime = store.Loss{Seq: max(seq, s.evicted.Seq)}, now
}

// lost returns the newest message that a reader can no longer get.
func (s *state) lost(live bool) store.Loss {
	if live {
		return s.removed
	}
	return s.evicted
}

func (s *state) empty() bool { return s.messages == 0 && s.retained == 0 }

// The memory for groups.
const (
	groupCost  = 720 // approximate bytes of a group, without its name
	groupParts = 2   // the part of the memory that all groups together may use
)

func (g *group) cost() int64 { return costOf(g.name) }

func costOf(name string) int64 { return groupCost + int64(len(name)) }

// totals are sums over all groups, and the losses of groups that were forgotten.
type totals struct {
	messages, bytes   int64
	retainedBytes     int64 // bytes of retained messages
	evictions         uint64
	lostMax           store.Seq // the newest message lost in any group
	removedMax        store.Seq // the same without messages in the tail
	forgotten         store.Loss
	forgottenTime     int64
	inMemoryForgotten store.Seq // the newest message in memory of a forgotten group
}

// excess reports whether the group's policy no longer keeps its oldest message.
func (g *group) excess(now int64) bool {
	p, s := &g.policy, &g.next
	return s.messages > 0 && (s.head.seq <= g.purge || p.MaxMessages > 0 && s.messages > p.MaxMessages ||
		p.MaxBytes > 0 && s.bytes > p.MaxBytes ||
		p.MaxAge > 0 && s.head.time+p.MaxAge.Milliseconds() <= now)
}

// due returns when the group's oldest message becomes too old, in ms.
func (g *group) due() int64 {
	if g.policy.MaxAge == 0 || g.next.messages == 0 {
		return math.MaxInt64
	}
	return g.next.head.time + g.policy.MaxAge.Milliseconds()
}

// admit adds the groups of the entries that are new. If there are too many, it forgets groups that hold
// nothing, or refuses and changes nothing.
func (l *Log) admit(entries []store.Entry, t *turn) error {
	fresh := map[string]bool{}
	groups, bytes := len(l.groups)-l.opts.MaxGroups, l.groupBytes-l.opts.MaxMemory/groupParts
	for i := range entries {
		name := entries[i].Group
		if _, seen := fresh[name]; seen {
			continue
		}
		if fresh[name] = l.groups[name] == nil; fresh[name] {
			groups++
			bytes += costOf(name)
		}
	}
	if !l.forget(groups, bytes, fresh, t) {
		return store.ErrTooManyGroups
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, isNew := range fresh {
		if isNew {
			t.touch(l.addGroup(name, t.now)) // so that its record is written even if it stays empty
		}
	}
	return nil
}

// seated reports whether the groups of all entries are known.
func (l *Log) seated(entries []store.Entry) bool {
	for i := range entries {
		if l.groups[entries[i].Group] == nil {
			return false
		}
	}
	return true
}

func (l *Log) addGroup(name string, now int64) *group {
	lost := l.next.forgotten
	g := &group{no: l.groupNo, name: name, now: state{
		rate: store.NewRate(now), gone: lost.Seq, evicted: lost, evictedTime: l.next.forgottenTime, removed: lost,
		newestInMemory: l.next.inMemoryForgotten, // may be a message of this group
	}}
	l.groupNo++
	g.next = g.now
	g.gone.Store(uint64(lost.Seq))
	l.groups[name], l.byNo[g.no] = g, g
	l.names.Put(name, g)
	l.groupBytes += g.cost()
	g.policy = l.policies.Effective(names.Exact(name), l.opts.Server)
	return g
}

// noteEmpty remembers a group that holds nothing, in case room for another is needed.
func (l *Log) noteEmpty(g *group) {
	if !g.listedEmpty && g.next.empty() {
		g.listedEmpty = true
		l.emptyGroups = append(l.emptyGroups, g)
	}
}

// forget drops groups that hold nothing and are not needed: as many as are asked for, or none. Their losses
// are kept as one value for all unknown groups. Such a group may therefore report a needless gap, but never
// misses one.
func (l *Log) forget(groups int, bytes int64, needed map[string]bool, t *turn) bool {
	var out, stay []*group
	for groups > 0 || bytes > 0 {
		if len(l.emptyGroups) == 0 {
			l.emptyGroups = append(stay, out...)
			return false
		}
		g := l.emptyGroups[len(l.emptyGroups)-1]
		l.emptyGroups = l.emptyGroups[:len(l.emptyGroups)-1]
		_, isNeeded := needed[g.name]
		switch {
		case !g.next.empty():
			g.listedEmpty = false
		case isNeeded || g.touched:
			stay = append(stay, g)
		default:
			out = append(out, g)
			groups--
			bytes -= g.cost()
		}
	}
	l.emptyGroups = append(l.emptyGroups, stay...)
	if len(out) == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range out {
		l.dropGroup(g)
		t.dropped = append(t.dropped, g.no)
	}
	l.now.forgotten, l.now.forgottenTime = l.next.forgotten, l.next.forgottenTime
	l.now.lostMax = max(l.now.lostMax, l.now.forgotten.Seq)
	return true
}

func (l *Log) dropGroup(g *group) {
	l.next.inMemoryForgotten = max(l.next.inMemoryForgotten, g.next.newestInMemory)
	if s := &g.next; s.evicted.Seq > 0 { // its losses now count for all unknown groups
		l.next.forgotten = store.Loss{Seq: max(s.evicted.Seq, l.next.forgotten.Seq), At: l.opts.Losses.Tick()}
		l.next.forgottenTime = max(s.evictedTime, l.next.forgottenTime)
	}
	delete(l.groups, g.name)
	l.names.Delete(g.name)
	delete(l.byNo, g.no)
	l.groupBytes -= g.cost()
	for kind := range l.lost {
		l.unlistLoss(g, kind)
	}
	l.stopAging(g)
}

// aging is a group in the heap of ages. It loses no message by age before due.
type aging struct {
	due int64
	g   *group
}

// ageHeap has the group with the earliest due time in front.
type ageHeap []aging

// Len implements heap.Interface, as do the methods below.
func (h ageHeap) Len() int           { return len(h) }
func (h ageHeap) Less(i, k int) bool { return h[i].due < h[k].due }
func (h ageHeap) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].g.aging, h[k].g.aging = i+1, k+1
}

// Push puts a group last.
func (h *ageHeap) Push(x any) {
	a := x.(aging)
	*h = append(*h, a)
	a.g.aging = len(*h)
}

// Pop takes the last group.
func (h *ageHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	x.g.aging = 0
	return x
}

// show publishes the next state of a group to readers, and sets the time of new losses.
func (l *Log) show(g *group) {
	for kind, loss := range [lossKinds]*store.Loss{evictedLoss: &g.next.evicted, removedLoss: &g.next.removed} {
		if loss.Seq > 0 && loss.At == 0 {
			loss.At = l.opts.Losses.Tick()
			l.listLoss(g, kind)
		}
	}
	g.now = g.next
	g.gone.Store(uint64(g.now.gone))
}

// age puts a group into the heap of ages if its policy has a maximum age and it holds a message.
func (l *Log) age(g *group) {
	if due := g.due(); g.aging == 0 && due != math.MaxInt64 {
		heap.Push(&l.byAge, aging{due, g})
	}
}

// stopAging removes a group from the heap of ages.
func (l *Log) stopAging(g *group) {
	if g.aging > 0 {
		heap.Remove(&l.byAge, g.aging-1)
	}
}
