package sharedtest

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// Log is the log as one hub sees it. It has a copy of all messages, which may be behind.
type Log struct {
	*memory.Log
	cluster *Cluster
	since   time.Time
	running sync.WaitGroup
	closed  chan struct{}
	once    sync.Once

	applying sync.Mutex // held while a step is applied; guards what follows
	follow   func(store.Note)
	notes    map[string]store.Note

	mu      sync.Mutex // guards what follows
	id      string
	serve   func(context.Context, []byte) []byte
	down    func(string)
	paused  bool
	cut     bool
	killed  bool
	beaten  time.Time     // its last sign of life
	applied int           // steps
	moved   chan struct{} // closed when something changes that a goroutine may wait for
}

var (
	_ store.Store    = (*Log)(nil)
	_ store.Shared   = (*Log)(nil)
	_ store.Settling = (*Log)(nil)
	_ store.Hubs     = (*hubs)(nil)
)

// Kill makes the hub silent for good: it can read what it has, and appends nothing.
func (l *Log) Kill() { l.set(func() { l.killed = true }) }

// Pause stops everything that the hub does with the log, until Resume.
func (l *Log) Pause() { l.set(func() { l.paused = true }) }

// Resume ends a Pause.
func (l *Log) Resume() { l.set(func() { l.paused = false }) }

// Cut makes the log unreachable for the hub, until Heal.
func (l *Log) Cut() { l.set(func() { l.cut = true }) }

// Heal ends a Cut.
func (l *Log) Heal() { l.set(func() { l.cut = false }) }

// set changes the state, and wakes all who wait for it.
func (l *Log) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.moved)
	l.moved = make(chan struct{})
}

func (l *Log) wake() { l.set(func() {}) }

// until waits until ok. It returns an error once the hub is killed or closed.
func (l *Log) until(ok func() bool) error {
	for {
		l.mu.Lock()
		done, killed, moved := ok(), l.killed, l.moved
		l.mu.Unlock()
		switch {
		case killed:
			return store.ErrClosed
		case done:
			return nil
		}
		select {
		case <-moved:
		case <-l.closed:
			return store.ErrClosed
		}
	}
}

// awayAfter is how long an append waits for the log to be reachable again.
const awayAfter = time.Second

// reach waits until the hub is neither paused nor cut off.
func (l *Log) reach() error {
	if err := l.until(func() bool { return !l.paused }); err != nil {
		return err
	}
	l.mu.Lock()
	cut := l.cut
	l.mu.Unlock()
	if !cut {
		return nil
	}
	select {
	case <-time.After(awayAfter):
		return store.ErrAway
	case <-l.closed:
		return store.ErrClosed
	}
}

// Append implements store.Log.
func (l *Log) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	return l.AppendNoted(ctx, entries)
}

// AppendNoted implements store.Noter.
func (l *Log) AppendNoted(ctx context.Context, entries []store.Entry, notes ...store.Note) (store.ID, error) {
	return l.AppendSettling(ctx, entries, nil, notes...)
}

// AppendSettling implements store.Settling.
func (l *Log) AppendSettling(_ context.Context, entries []store.Entry, stored func(store.ID), notes ...store.Note) (store.ID, error) {
	s := step{by: l, entries: slices.Clone(entries), notes: slices.Clone(notes), stored: stored}
	for i := range s.entries {
		s.entries[i].Tail = slices.Clone(s.entries[i].Tail)
	}
	for i := range s.notes {
		s.notes[i].Value = slices.Clone(s.notes[i].Value)
	}
	return l.do(s)
}

// do adds a step and waits until this hub has applied it.
func (l *Log) do(s step) (store.ID, error) {
	l.cluster.pause()
	if err := l.reach(); err != nil {
		return store.ID{}, err
	}
	unknown := l.cluster.Unknown > 0 && len(s.entries)+len(s.notes) > 0 && rand.IntN(1000) < l.cluster.Unknown
	if unknown && rand.IntN(2) == 0 {
		return store.ID{}, store.ErrUnknownOutcome
	}
	if !unknown {
		s.stored = nil
	}
	first, n, err := l.cluster.add(s)
	if err != nil {
		return store.ID{}, err
	}
	l.cluster.pause()
	if unknown {
		return store.ID{}, store.ErrUnknownOutcome
	}
	if err := l.until(func() bool { return l.applied >= n || l.cut }); err != nil {
		return store.ID{}, err
	}
	return store.ID{Epoch: l.cluster.epoch, Seq: first}, nil
}

// apply applies the steps of all hubs in order.
func (l *Log) apply() {
	for n := 0; ; n++ {
		s, ok := step{}, false
		err := l.until(func() bool {
			if l.paused || l.cut {
				return false
			}
			return l.cluster.hasNext(n)
		})
		if err != nil {
			return
		}
		if s, ok = l.cluster.next(n); ok {
			l.applyStep(s)
		}
		l.set(func() { l.applied = n + 1 })
	}
}

func (l *Log) applyStep(s step) {
	l.applying.Lock()
	defer l.applying.Unlock()
	for _, n := range s.notes {
		if n.Value == nil {
			delete(l.notes, n.Key)
		} else {
			l.notes[n.Key] = n
		}
		if l.follow != nil {
			n.Own = s.by == l
			l.follow(n)
		}
	}
	switch {
	case len(s.entries) > 0:
		_ = l.Log.Place(s.entries, s.seqs) // ErrClosed only: the tests have room
	case s.policy != nil:
		_ = l.Log.SetPolicy(s.policy.filter, s.policy.policy)
	case s.purge != "":
		l.purge(s.purge, s.through)
	}
	if s.by == l && s.stored != nil {
		s.stored(store.ID{Epoch: l.cluster.epoch, Seq: s.seqs[0]})
	}
}

// SetPolicy implements store.Keeper.
func (l *Log) SetPolicy(f group.Filter, p store.Policy) error {
	_, err := l.do(step{policy: &policy{f, p}})
	return err
}

// Purge implements store.Keeper.
func (l *Log) Purge(name string) error {
	_, err := l.do(step{purge: name})
	return err
}

// PurgeThrough implements store.Shared.
func (l *Log) PurgeThrough(name string, through store.ID) error {
	_, err := l.do(step{purge: name, through: through.Seq})
	return err
}

// purge evicts the messages of a group up to a position; 0: all.
func (l *Log) purge(name string, through store.Seq) {
	for g := range store.EachGroup(l.Log, name) {
		switch {
		case g.Group != name:
		case through == 0 || g.Newest <= through && l.retained(name) <= through:
			_ = l.Log.Purge(name)
		default:
			_ = l.Evict(memory.Eviction{Group: name, Through: through, Time: time.Now()})
			if l.retained(name) <= through {
				l.Forget(name)
			}
		}
	}
}

// retained returns the seq of a group's retained message, or 0.
func (l *Log) retained(name string) store.Seq {
	b := &store.Batch{}
	err := l.Log.Read(store.Query{Select: group.Set{group.Exact(name)}, Retained: true}, b)
	if err != nil || len(b.Frames) == 0 {
		return 0
	}
	return b.Frames[0].Seq
}

// Notes implements store.Noter.
func (l *Log) Notes(yield func(store.Note) error) error {
	select {
	case <-l.closed:
		return store.ErrClosed
	default:
	}
	l.applying.Lock()
	defer l.applying.Unlock()
	for _, key := range slices.Sorted(maps.Keys(l.notes)) {
		if err := yield(l.notes[key]); err != nil {
			return err
		}
	}
	return nil
}

// Follow implements store.Shared.
func (l *Log) Follow(f func(store.Note)) error {
	n := l.cluster.length()
	if err := l.until(func() bool { return l.applied >= n }); err != nil {
		return err
	}
	l.applying.Lock()
	defer l.applying.Unlock()
	list := slices.SortedFunc(maps.Values(l.notes), func(a, b store.Note) int { return int(a.At) - int(b.At) })
	for _, n := range list {
		f(n)
	}
	l.follow = f
	return nil
}

// Reach implements store.Shared. A hub that is paused or cut off cannot know what the log has.
func (l *Log) Reach(ctx context.Context, id store.ID) (bool, error) {
	defer context.AfterFunc(ctx, l.wake)()
	if err := l.until(func() bool { return ctx.Err() != nil || !l.paused && !l.cut }); err != nil {
		return false, err
	}
	n, last := l.cluster.end()
	if ctx.Err() == nil && (last < id.Seq || id.Epoch != "" && id.Epoch != l.cluster.epoch) {
		return false, nil
	}
	err := l.until(func() bool { return ctx.Err() != nil || l.applied >= n })
	if err == nil && ctx.Err() != nil {
		err = store.ErrAway
	}
	return err == nil, err
}

// CatchUp implements store.Shared.
func (l *Log) CatchUp(ctx context.Context) error {
	_, err := l.Reach(ctx, store.ID{})
	return err
}

// Close implements store.Log.
func (l *Log) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.running.Wait()
	return l.Log.Close()
}
