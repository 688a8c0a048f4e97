package disk

import (
	"encoding/json"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// SetPolicy implements store.Keeper.
func (l *Log) SetPolicy(f names.Filter, p store.Policy) error {
	o := newOp()
	o.sweeps = true
	o.change = func(t *turn) error {
		l.mu.Lock()
		o.err = l.policies.Set(f, p)
		l.mu.Unlock()
		if o.err != nil {
			return nil // the change is refused; the turn continues
		}
		if l.memory != nil {
			if err := l.memory.SetPolicy(f, p); err != nil {
				return err
			}
		}
		key := append([]byte{policySpace}, f.String()...)
		value, err := json.Marshal(p)
		if err != nil {
			return err
		}
		t.awaited = true
		t.sets = append(t.sets, func(b *batch) error {
			if p == (store.Policy{}) {
				return b.Delete(key, nil)
			}
			return b.Set(key, value, nil)
		})
		l.changed = append(l.changed, change{filter: f})
		return nil
	}
	_, err := l.do(o)
	return err
}

// change is a filter whose policy has changed. The groups whose names sort after this one do
// not have their new policy yet.
type change struct {
	filter names.Filter
	after  string
}

// maxChanged is how many groups get their new policy in one turn. Each needs a lookup among the policies.
const maxChanged = 1024

// applyPolicies continues to apply changed policies to groups.
func (l *Log) applyPolicies(t *turn) error {
	var matched []*group
	left := maxChanged
	for len(l.changed) > 0 && left > 0 {
		c := &l.changed[0]
		left-- // a filter without groups takes time, too
		c.after = l.names.Walk(c.after, c.filter.Prefix(), left+1, func(_ string, g *group) {
			if left--; c.filter.Match(g.name) {
				matched = append(matched, g)
			}
		})
		if c.after != "" {
			break
		}
		l.changed = l.changed[1:]
	}
	l.maxHeld.note(len(matched))
	for _, g := range matched {
		g.policy = l.policies.Effective(names.Exact(g.name), l.opts.Server)
		if err := l.enforce(g, t); err != nil {
			return err
		}
		l.stopAging(g)
		l.age(g)
	}
	return nil
}

// Policy implements store.Keeper.
func (l *Log) Policy(f names.Filter) store.Policy {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.policies.Effective(f, l.opts.Server)
}

// OwnPolicy implements store.Keeper.
func (l *Log) OwnPolicy(f names.Filter) (own, inherited store.Policy) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.policies.Own(f, l.opts.Server)
}

// Purge implements store.Keeper.
func (l *Log) Purge(name string) error {
	o := newOp()
	o.sweeps = true
	o.change = func(t *turn) error {
		g := l.groups[name]
		if g == nil {
			return nil
		}
		t.touch(g)
		t.awaited = true
		g.purge = g.next.newest
		l.retain(&g.next, item{})
		return l.enforce(g, t)
	}
	_, err := l.do(o)
	return err
}

// Groups implements store.Keeper.
func (l *Log) Groups(q store.GroupQuery) (page []store.GroupInfo, next string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	at := q.Now()
	next = l.names.Walk(q.After, q.Prefix, q.Limit, func(_ string, g *group) {
		if s := &g.now; !s.empty() {
			page = append(page, store.GroupInfo{
				Group: g.name, Messages: s.messages, Bytes: s.bytes, Rate: g.now.rate.At(at),
				Oldest: s.head.seq, Newest: s.newest, Retained: s.retained > 0,
			})
		}
	})
	return page, next
}

// Usage implements store.Keeper.
func (l *Log) Usage() store.Usage {
	l.life.RLock()
	defer l.life.RUnlock()
	var disk int64
	if !l.closed {
		disk = l.engine.size()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return store.Usage{
		Groups: int64(len(l.groups)), Messages: l.now.messages, Bytes: l.now.bytes, Evicted: l.now.evictions,
		Memory: l.engine.caches + int64(l.tail.size) + l.groupBytes, Disk: disk,
		MaxMemory: l.opts.MaxMemory, MaxDisk: l.opts.MaxDisk,
	}
}

// Notes implements store.Noter.
func (l *Log) Notes(yield func(store.Note) error) (err error) {
	l.life.RLock()
	defer l.life.RUnlock()
	if l.closed {
		return store.ErrClosed
	}
	l.opts.call(func() {
		err = l.each(noteSpace, func(key, value []byte) error {
			r := record{b: value}
			n := store.Note{Key: string(key[1:]), Seq: r.seq(), Value: append([]byte{}, r.b...)}
			if r.bad {
				return errRecord
			}
			return yield(n)
		})
	})
	return err
}
