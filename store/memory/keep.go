package memory

import (
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// policyStep is how many groups get their policy in one hold of the lock. Each needs a lookup
// among the policies.
const policyStep = 256

// SetPolicy implements store.Keeper. It goes through the groups, and releases the lock in between.
func (l *Log) SetPolicy(f group.Filter, p store.Policy) error {
	if err := l.setPolicy(f, p); err != nil {
		return err
	}
	for after, more := "", true; more; more = after != "" {
		var unfinished []*ring
		after, unfinished = l.applyTo(f, after)
		for _, r := range unfinished {
			for l.enforceOnce(r) {
			}
		}
	}
	return nil
}

func (l *Log) setPolicy(f group.Filter, p store.Policy) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return store.ErrClosed
	case l.opts.Part:
		l.policies.Restore(f, p)
		return nil
	}
	return l.policies.Set(f, p)
}

// applyTo applies the policies to the next rings that a filter matches. It returns the name after which
// to continue, and the rings with more to evict.
func (l *Log) applyTo(f group.Filter, after string) (next string, unfinished []*ring) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return "", nil
	}
	now, left := time.Now().UnixMilli(), maxHoldSteps
	next = l.names.Walk(after, f.Prefix(), policyStep, func(_ string, r *ring) {
		if !f.Match(r.name) {
			return
		}
		l.apply(r)
		if left = l.enforce(r, now, left); left <= 0 {
			unfinished = append(unfinished, r)
		}
	})
	l.noteHold(policyStep + maxHoldSteps - left)
	l.schedule(now)
	return next, unfinished
}

// enforceOnce enforces a ring's policy for one hold of the lock, and reports whether there is more to
// evict.
func (l *Log) enforceOnce(r *ring) (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	now := time.Now().UnixMilli()
	left := l.enforce(r, now, maxHoldSteps)
	l.noteHold(maxHoldSteps - left)
	l.schedule(now)
	return left <= 0
}

// apply sets the policy in force for a ring.
func (l *Log) apply(r *ring) {
	p := l.policies.Effective(group.Exact(r.name), l.opts.Server)
	r.policy = keeping{p.MaxMessages, p.MaxBytes, p.MaxAge, p.Compress}
	switch {
	case r.policy.MaxAge == 0:
		l.byAge.remove(r)
	case l.byAge.has(r):
		l.fixAge(r)
	default:
		r.due = r.expires()
		l.byAge.add(r)
	}
}

// Policy implements store.Keeper.
func (l *Log) Policy(f group.Filter) store.Policy {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.policies.Effective(f, l.opts.Server)
}

// OwnPolicy implements store.Keeper.
func (l *Log) OwnPolicy(f group.Filter) (own, inherited store.Policy) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.policies.Own(f, l.opts.Server)
}

// Purge implements store.Keeper. It releases the lock between chunks.
func (l *Log) Purge(name string) error {
	for through := store.Seq(0); ; {
		more, err := l.purgeOnce(name, &through)
		if err != nil || !more {
			return err
		}
	}
}

// purgeOnce evicts chunks of a group for one hold of the lock, up to the message that was the newest
// when the purge began. It reports whether there are more.
func (l *Log) purgeOnce(name string, through *store.Seq) (more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, store.ErrClosed
	}
	r := l.rings[name]
	if r == nil && l.unnamed.horizon > 0 {
		r = l.addRing(name, time.Now().UnixMilli()) // its messages may be among those without a name
	}
	if r == nil {
		return false, nil
	}
	if *through == 0 {
		*through = l.last()
		l.clearRetained(r)
	}
	now, left := time.Now().UnixMilli(), maxHoldSteps
	if r.spilled() {
		l.evictSpilled(r, r.spill.newest)
	}
	for len(r.chunks) > 0 && r.chunks[0].base <= *through && left > 0 {
		left -= r.chunks[0].n
		l.evictChunk(r, now)
	}
	l.tidy(now, tidySteps)
	l.schedule(now)
	l.noteHold(maxHoldSteps - left)
	return len(r.chunks) > 0 && r.chunks[0].base <= *through, nil
}

// Groups implements store.Keeper.
func (l *Log) Groups(q store.GroupQuery) (page []store.GroupInfo, next string) {
	page = make([]store.GroupInfo, 0, min(q.Limit, 512))
	l.mu.RLock()
	defer l.mu.RUnlock()
	now, at := time.Now().UnixMilli(), q.Now()
	next = l.names.Walk(q.After, q.Prefix, q.Limit, func(_ string, r *ring) {
		if g := r.info(now, at); g.Messages > 0 || g.Retained {
			page = append(page, g)
		}
	})
	return page, next
}

// info describes the ring now, with the rate at another time.
func (r *ring) info(now, at int64) store.GroupInfo {
	g := store.GroupInfo{
		Group: r.name, Messages: r.messages, Bytes: r.bytes,
		Rate: r.rate.At(at), Retained: r.retained != nil && !r.retained.hasExpired(now),
	}
	if c := r.oldest(); c != nil {
		t := r.tail()
		g.Oldest, g.Newest = c.seq(c.evicted), t.seq(t.n-1)
	}
	if r.spilled() {
		r.spill.addTo(&g)
	}
	return g
}

// Usage implements store.Keeper.
func (l *Log) Usage() store.Usage {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return store.Usage{
		Groups: int64(len(l.rings)), Messages: l.messages, Bytes: l.bytes,
		Memory: l.arena.taken(), MaxMemory: l.opts.MaxMemory, Evicted: l.evictions,
	}
}
