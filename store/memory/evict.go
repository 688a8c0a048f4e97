package memory

import (
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// alloc returns memory, evicting what it must.
func (l *Log) alloc(n int, why purpose) piece {
	for {
		if p, ok := l.arena.alloc(n, why, false); ok {
			return p
		}
		if !l.evictLargest() {
			p, _ := l.arena.alloc(n, why, true) // admit keeps this from being more than a little
			return p
		}
	}
}

// charge counts memory that is taken on the Go heap and cannot be evicted.
func (l *Log) charge(n int64) {
	for !l.arena.room(n) && l.evictLargest() {
	}
	l.arena.used[pinned] += n
}

// evictLargest evicts the oldest chunk of the largest group, if there is one.
func (l *Log) evictLargest() bool {
	r := l.bySize.first()
	if r == nil || r.memory == 0 {
		return false
	}
	l.evictChunk(r, time.Now().UnixMilli())
	return true
}

// evictChunk evicts and removes a ring's oldest chunk.
func (l *Log) evictChunk(r *ring, now int64) {
	c := r.chunks[0]
	for c.gone < c.n {
		l.evictFirst(r, c, now)
	}
	for c.ring == r {
		l.removeFirst(r, now)
	}
	l.settle(r, now)
}

// enforce evicts what a ring's policy no longer keeps.
func (l *Log) enforce(r *ring, now int64) {
	evicted := false
	for c := r.oldest(); c != nil && r.excess(c, now); c = r.oldest() {
		l.evictFirst(r, c, now)
		evicted = true
	}
	if evicted {
		l.settle(r, now)
	}
}

// evictFirst evicts the oldest message, which is in c.
func (l *Log) evictFirst(r *ring, c *chunk, now int64) {
	s := c.slot(c.gone)
	if !l.expired(c, s, now, &l.scratch) {
		r.evicted, r.evictedAt, r.evictedTime = s.seq, l.opts.Losses.Tick(), s.time
		l.lostMax = max(l.lostMax, s.seq)
	}
	c.gone++
	r.messages--
	r.bytes -= int64(s.end - s.start)
	l.messages--
	l.bytes -= int64(s.end - s.start)
	l.evictions++
}

// expired is the function expired for a message in a chunk, which may be packed.
func (l *Log) expired(c *chunk, s slot, now int64, u *unpacked) bool {
	return s.flags&store.HasExpiry != 0 &&
		expired(l.frames(c, u)[s.start:s.end], s.flags, s.msg, time.UnixMilli(now))
}

// removeFirst frees the bytes of the oldest message, which is evicted; with the last of a chunk,
// the chunk.
func (l *Log) removeFirst(r *ring, now int64) {
	c := r.chunks[0]
	s := c.slot(c.head)
	l.order.remove(s.seq)
	if !l.expired(c, s, now, &l.scratch) {
		r.removed, r.removedAt = s.seq, l.opts.Losses.Tick()
		l.removedMax = max(l.removedMax, s.seq)
	}
	c.head++
	if c.head < c.n {
		return
	}
	r.chunks[0] = nil
	r.chunks = r.chunks[1:]
	r.memory -= int64(len(c.mem.data))
	l.freeChunk(c)
	l.bySize.fix(r)
}

// settle puts a ring that lost messages where it belongs now.
func (l *Log) settle(r *ring, now int64) {
	if r.policy.MaxAge > 0 {
		l.fixAge(r)
	}
	if !r.lingers && len(r.chunks) > 0 && r.chunks[0].head < r.chunks[0].gone {
		r.lingers = true
		l.lingers = append(l.lingers, lingering{r, now + linger})
	}
	l.noteIdle(r)
}

// fixAge notes when a ring loses a message by age next.
func (l *Log) fixAge(r *ring) {
	r.due = r.expires()
	l.byAge.fix(r)
}

// dropRing forgets a ring that holds nothing.
func (l *Log) dropRing(r *ring) {
	if r.evicted > 0 { // groups not known lose what this one had
		lost := store.Loss{Seq: max(r.evicted, l.forgotten.Seq), At: l.opts.Losses.Tick()}
		l.forgotten = lostGroup{lost, max(r.evictedTime, l.forgotten.time)}
	}
	delete(l.rings, r.name)
	l.names.Delete(r.name)
	l.bySize.remove(r)
	if r.policy.MaxAge > 0 {
		l.byAge.remove(r)
	}
	if r.lingers {
		l.lingers = slices.DeleteFunc(l.lingers, func(x lingering) bool { return x.r == r })
	}
	l.arena.used[pinned] -= r.cost()
}
