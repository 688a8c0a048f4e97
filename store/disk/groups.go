package disk

import (
	"container/heap"
	"math"
	"slices"
	"sync/atomic"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// group is what is known of one. The committer alone changes it: in next, which becomes now when
// the commit is on disk.
type group struct {
	no   uint32 // in keys; never used again
	name string
	now  state         // guarded by the log's mu
	gone atomic.Uint64 // now.gone, for those who read the disk without the lock

	next    state // the committer's own, as is what follows
	policy  store.Policy
	fresh   []int     // of the turn's messages, those of this group that are not evicted
	touched bool      // it is among the turn's
	overdue bool      // it is in the list of those with more to evict
	purge   store.Seq // all up to here are to be evicted
	unsaved bool      // it has changed since its record was written
	idle    bool      // it is in the list of groups that hold nothing
	aging   bool      // it is in the heap of those that lose a message by age
}

// state is what a commit changes of a group.
type state struct {
	messages, bytes int64     // held
	head            item      // the oldest held; its seq is 0 where there is none
	newest          store.Seq // held; 0 where there is none
	gone            store.Seq // none up to here is held
	evicted         store.Loss
	evictedTime     int64
	removed         store.Loss // the newest evicted that is no longer among the recent ones, too
	retained        store.Seq
	kept            int64 // bytes of its frame
	keptExpires     int64 // ms; 0: never, or not known since the last restart
	rate            store.Rate
	aside           store.Seq // the newest that was kept aside in this life
}

// lose notes that messages up to a seq may be lost.
func (s *state) lose(seq store.Seq, now int64) {
	s.evicted, s.evictedTime = store.Loss{Seq: max(seq, s.evicted.Seq)}, now
}

// lost returns the newest message that a reader can no longer have.
func (s *state) lost(live bool) store.Loss {
	if live {
		return s.removed
	}
	return s.evicted
}

func (s *state) empty() bool { return s.messages == 0 && s.retained == 0 }

// What groups take in memory.
const (
	groupCost  = 680 // bytes each, about, beside the name
	groupParts = 2   // of the memory: what all together may take
)

func (g *group) cost() int64 { return costOf(g.name) }

func costOf(name string) int64 { return groupCost + int64(len(name)) }

// totals are sums over all groups, and what is known of those that are not. They change as groups
// do.
type totals struct {
	messages, bytes int64
	kept            int64 // bytes of what is retained
	evictions       uint64
	lostMax         store.Seq // the newest message lost in any group,
	removedMax      store.Seq // and of those that are not among the recent ones either
	forgotten       store.Loss
	forgottenTime   int64
	asideForgotten  store.Seq // lost, once this life is over
}

// excess reports whether the group's policy no longer keeps its oldest message.
func (g *group) excess(now int64) bool {
	p, s := &g.policy, &g.next
	return s.messages > 0 && (s.head.seq <= g.purge || p.MaxMessages > 0 && s.messages > p.MaxMessages ||
		p.MaxBytes > 0 && s.bytes > p.MaxBytes ||
		p.MaxAge > 0 && s.head.time+p.MaxAge.Milliseconds() <= now)
}

// due returns when the group's oldest message is too old, in ms.
func (g *group) due() int64 {
	if g.policy.MaxAge == 0 || g.next.messages == 0 {
		return math.MaxInt64
	}
	return g.next.head.time + g.policy.MaxAge.Milliseconds()
}

// admit makes sure that there is a group for each of the entries, in the place of some that hold
// nothing if need be, or changes nothing.
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
			t.touch(l.addGroup(name, t.now)) // its record is written, even if it stays empty
		}
	}
	return nil
}

// seated reports whether there is a group for each of the entries.
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
		aside: l.next.asideForgotten, // some of which may be this one's
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

// noteIdle remembers a group that holds nothing, in case room for another is needed.
func (l *Log) noteIdle(g *group) {
	if !g.idle && g.next.empty() {
		g.idle = true
		l.idle = append(l.idle, g)
	}
}

// forget drops so many groups of so many bytes that hold nothing: all or none, and none that is
// needed. That messages of them were lost is remembered for all groups not known: a gap too many for
// them, but never one too few.
func (l *Log) forget(groups int, bytes int64, needed map[string]bool, t *turn) bool {
	var out, stay []*group
	for groups > 0 || bytes > 0 {
		if len(l.idle) == 0 {
			l.idle = append(stay, out...)
			return false
		}
		g := l.idle[len(l.idle)-1]
		l.idle = l.idle[:len(l.idle)-1]
		_, isNeeded := needed[g.name]
		switch {
		case !g.next.empty():
			g.idle = false
		case isNeeded || g.touched:
			stay = append(stay, g)
		default:
			out = append(out, g)
			groups--
			bytes -= g.cost()
		}
	}
	l.idle = append(l.idle, stay...)
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
	l.next.asideForgotten = max(l.next.asideForgotten, g.next.aside)
	if s := &g.next; s.evicted.Seq > 0 { // groups not known lose what this one had
		l.next.forgotten = store.Loss{Seq: max(s.evicted.Seq, l.next.forgotten.Seq), At: l.opts.Losses.Tick()}
		l.next.forgottenTime = max(s.evictedTime, l.next.forgottenTime)
	}
	delete(l.groups, g.name)
	l.names.Delete(g.name)
	delete(l.byNo, g.no)
	l.groupBytes -= g.cost()
	if g.aging {
		l.byAge = slices.DeleteFunc(l.byAge, func(a aging) bool { return a.g == g })
		heap.Init(&l.byAge)
	}
}

// aging is a group that loses a message by age, not before due.
type aging struct {
	due int64
	g   *group
}

// ageHeap has the group in front that may lose a message next.
type ageHeap []aging

// Len implements heap.Interface, as do those below.
func (h ageHeap) Len() int           { return len(h) }
func (h ageHeap) Less(i, k int) bool { return h[i].due < h[k].due }
func (h ageHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }

// Push puts a group last.
func (h *ageHeap) Push(x any) { *h = append(*h, x.(aging)) }

// Pop takes the last group.
func (h *ageHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// resort makes the heap anew, when policies have changed.
func (l *Log) resort() {
	l.byAge = l.byAge[:0]
	for _, g := range l.groups {
		g.aging = false
		l.age(g)
	}
}

// publish makes the group's next state that of now. What it has lost is lost as of now.
func (g *group) publish(losses *store.Clock) {
	for _, loss := range []*store.Loss{&g.next.evicted, &g.next.removed} {
		if loss.Seq > 0 && loss.At == 0 {
			loss.At = losses.Tick()
		}
	}
	g.now = g.next
	g.gone.Store(uint64(g.now.gone))
}

// age has a group be looked at when its oldest message is too old.
func (l *Log) age(g *group) {
	if due := g.due(); !g.aging && due != math.MaxInt64 {
		g.aging = true
		heap.Push(&l.byAge, aging{due, g})
	}
}
