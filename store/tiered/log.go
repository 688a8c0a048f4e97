package tiered

import (
	"errors"
	"iter"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
	"github.com/watchbox-go/watchbox/store/memory"
)

// Log is a store.Store that combines a log on disk with one in memory.
type Log struct {
	*disk.Log // for methods that are not defined here
	mem       *memory.Log
	losses    *store.Clock
}

var (
	_ store.Store   = (*Log)(nil)
	_ store.Noter   = (*Log)(nil)
	_ store.Failing = (*Log)(nil)
)

// memoryParts is the part of the memory for groups that are kept in memory.
const memoryParts = 4

// Open opens the log that the options describe. MaxMemory bounds both logs together.
func Open(o disk.Options) (*Log, error) {
	l := &Log{losses: new(store.Clock)}
	o.Server = o.Server.Or(store.Policy{Store: store.Disk})
	m := memory.Options{
		MaxMemory: max(o.MaxMemory/memoryParts, memory.MinMaxMemory), MaxGroups: o.MaxGroups, Server: o.Server, Part: true, Losses: l.losses,
	}
	o.MaxMemory = max(o.MaxMemory-m.MaxMemory, disk.MinMaxMemory)
	o.Losses = l.losses
	o.InMemory = func(epoch string, newest store.Seq) disk.InMemory {
		m.Epoch, m.Newest = epoch, newest
		l.mem = memory.New(m)
		return l.mem
	}
	var err error
	l.Log, err = disk.Open(o)
	return l, err
}

// Bounds implements store.Log.
func (l *Log) Bounds() (oldest, newest store.ID) {
	oldest, newest = l.Log.Bounds()
	low, placed := l.mem.Bounds() // read second, so that it includes every message above oldest
	if low.Seq < placed.Seq {     // otherwise memory has no messages
		oldest.Seq = min(oldest.Seq, low.Seq)
	}
	return oldest, newest
}

// Find implements store.Log.
func (l *Log) Find(filters group.Set, s store.Start) (store.Seq, error) {
	_, newest := l.Log.Bounds()
	_, placed := l.mem.Bounds()
	if s.Last == 0 {
		pos, err := l.mem.Find(filters, s)
		if err != nil {
			return 0, err
		}
		if pos >= placed.Seq {
			pos = newest.Seq // memory has no messages
		}
		onDisk, err := l.Log.Find(filters, s)
		return min(pos, onDisk), err
	}
	pos, err := l.last(filters, s.Last, newest.Seq)
	return min(pos, newest.Seq), err
}

// last returns the position before the newest n messages that match, or pos if there are none. It walks both
// logs backward, the newest message first.
func (l *Log) last(filters group.Set, n int, pos store.Seq) (store.Seq, error) {
	inMemory, stop := iter.Pull(l.mem.Backward(filters, n))
	defer stop()
	m, ok := inMemory()
	take := func(seq store.Seq) (more bool) {
		pos = seq - 1
		n--
		return n > 0
	}
	err := l.Log.Backward(filters, n, func(d store.Seq) bool {
		for ; ok && m > d; m, ok = inMemory() {
			if !take(m) {
				return false
			}
		}
		return take(d)
	})
	for ; ok && n > 0 && take(m); m, ok = inMemory() {
	}
	return pos, err
}

// Purge implements store.Keeper.
func (l *Log) Purge(name string) error { return errors.Join(l.Log.Purge(name), l.mem.Purge(name)) }

// Groups implements store.Keeper.
func (l *Log) Groups(q store.GroupQuery) (page []store.GroupInfo, next string) {
	d, next := l.Log.Groups(q)
	m, end := l.mem.Groups(q)
	if next == "" || end != "" && end < next {
		next = end
	}
	for len(d)+len(m) > 0 {
		var g store.GroupInfo
		switch {
		case len(m) == 0 || len(d) > 0 && d[0].Group < m[0].Group:
			g, d = d[0], d[1:]
		case len(d) == 0 || m[0].Group < d[0].Group:
			g, m = m[0], m[1:]
		default:
			g, d, m = add(d[0], m[0]), d[1:], m[1:]
		}
		if next != "" && g.Group > next {
			break // one of the logs has not examined these names yet
		}
		page = append(page, g)
	}
	return page, next
}

// add combines what the two logs say about a group.
func add(g, m store.GroupInfo) store.GroupInfo {
	if g.Oldest == 0 || m.Oldest > 0 && m.Oldest < g.Oldest {
		g.Oldest = m.Oldest
	}
	g.Messages += m.Messages
	g.Bytes += m.Bytes
	g.Rate += m.Rate
	g.Newest = max(g.Newest, m.Newest)
	g.Retained = g.Retained || m.Retained
	return g
}

// Usage implements store.Keeper.
func (l *Log) Usage() store.Usage {
	u, m := l.Log.Usage(), l.mem.Usage()
	u.Messages += m.Messages // Groups is not added: the log on disk counts all groups
	u.Bytes += m.Bytes
	u.Memory += m.Memory
	u.MaxMemory += m.MaxMemory
	u.Evicted += m.Evicted
	return u
}

// Close implements store.Log.
func (l *Log) Close() error { return errors.Join(l.Log.Close(), l.mem.Close()) }
