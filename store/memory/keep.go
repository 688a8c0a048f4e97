package memory

import (
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// SetPolicy implements store.Keeper.
func (l *Log) SetPolicy(f group.Filter, p store.Policy) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return store.ErrClosed
	}
	now := time.Now().UnixMilli()
	if l.opts.Part {
		l.policies.Restore(f, p)
	} else if err := l.policies.Set(f, p); err != nil {
		return err
	}
	for _, r := range l.rings {
		if f.Match(r.name) {
			l.apply(r)
			l.enforce(r, now)
		}
	}
	l.tidy(now)
	return nil
}

// apply gives a ring the policy that is in force for it.
func (l *Log) apply(r *ring) {
	aged := r.policy.MaxAge > 0
	r.policy = l.policies.Effective(group.Exact(r.name), l.opts.Server)
	switch ages := r.policy.MaxAge > 0; {
	case ages && !aged:
		r.due = r.expires()
		l.byAge.add(r)
	case ages:
		l.fixAge(r)
	case aged:
		l.byAge.remove(r)
	}
}

// Policy implements store.Keeper.
func (l *Log) Policy(f group.Filter) store.Policy {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.policies.Effective(f, l.opts.Server)
}

// Purge implements store.Keeper.
func (l *Log) Purge(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return store.ErrClosed
	}
	r := l.rings[name]
	if r == nil {
		return nil
	}
	now := time.Now().UnixMilli()
	l.clearRetained(r)
	for len(r.chunks) > 0 {
		l.evictChunk(r, now)
	}
	l.tidy(now)
	return nil
}

// Groups implements store.Keeper.
func (l *Log) Groups(q store.GroupQuery) (page []store.GroupInfo, next string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	now := time.Now().UnixMilli()
	next = l.names.Walk(q.After, q.Prefix, q.Limit, func(_ string, r *ring) {
		if r.messages > 0 || r.retained != nil {
			page = append(page, r.info(now))
		}
	})
	return page, next
}

func (r *ring) info(now int64) store.GroupInfo {
	g := store.GroupInfo{
		Group: r.name, Messages: r.messages, Bytes: r.bytes,
		Rate: r.rate.At(now), Retained: r.retained != nil,
	}
	if c := r.oldest(); c != nil {
		t := r.tail()
		g.Oldest, g.Newest = c.seq(c.gone), t.seq(t.n-1)
	}
	return g
}

// Usage implements store.Keeper.
func (l *Log) Usage() store.Usage {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return store.Usage{
		Groups: int64(len(l.rings)), Messages: l.messages, Bytes: l.bytes,
		Memory: l.arena.taken(), Evicted: l.evictions,
	}
}
