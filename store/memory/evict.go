package memory

import (
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// alloc returns memory. It evicts messages if there is not enough.
func (l *Log) alloc(n int, purpose purpose) piece {
	for {
		if p, ok := l.arena.alloc(n, purpose, false); ok {
			return p
		}
		if !l.evictLargest() {
			p, _ := l.arena.alloc(n, purpose, true) // admit makes sure that this exceeds the limit only slightly
			return p
		}
	}
}

// charge counts memory on the Go heap that cannot be evicted.
func (l *Log) charge(n int64) {
	for !l.arena.room(n) && l.evictLargest() {
	}
	l.arena.used[pinned] += n
}

// evictLargest evicts or spills the oldest chunk of the largest group, if there is one.
func (l *Log) evictLargest() bool {
	r := l.bySize.first()
	if r == nil || r.memory == 0 {
		return false
	}
	if now := time.Now().UnixMilli(); r.spill != nil {
		l.spillChunk(r, now)
	} else {
		l.evictChunk(r, now)
	}
	return true
}

// evictChunk evicts and removes a ring's oldest chunk.
func (l *Log) evictChunk(r *ring, now int64) {
	c := r.chunks[0]
	l.evictRest(r, c, now)
	for c.ring == r {
		l.removeFirst(r, now)
	}
	l.updateQueues(r, now)
}

// enforce evicts the messages that a ring's policy no longer keeps. It takes at most left steps, and
// returns how many remain.
func (l *Log) enforce(r *ring, now int64, left int) int {
	changed := false
	for c := r.oldest(); c != nil && left > 0 && r.excess(c, now); c = r.oldest() {
		if c.withExpiry == 0 && r.excessAll(c, now) {
			l.evictRest(r, c, now)
		} else {
			l.evictFirst(r, c, now)
		}
		left--
		changed = true
	}
	if changed {
		l.updateQueues(r, now)
	}
	return left
}

// evictRest evicts all messages of the chunk that has the oldest one. It takes one step unless some of
// them have an expiry.
func (l *Log) evictRest(r *ring, c *chunk, now int64) {
	for c.withExpiry > 0 && c.evicted < c.n {
		l.evictFirst(r, c, now)
	}
	if c.evicted == c.n {
		return
	}
	n, bytes := c.live()
	r.evictedTime = c.time(c.n - 1)
	l.recordLoss(r, evicted, c.seq(c.n-1))
	if r.spill != nil {
		l.noteEvicted(r, c.seq(c.n-1), n, bytes)
	}
	c.evicted = c.n
	l.uncount(r, n, bytes)
}

// evictFirst evicts the oldest message, which is in c.
func (l *Log) evictFirst(r *ring, c *chunk, now int64) {
	s := c.slot(c.evicted)
	if !l.expired(c, s, now, &l.scratch) {
		r.evictedTime = s.time
		l.recordLoss(r, evicted, s.seq)
		switch {
		case r.spill == nil:
		case s.flags&store.HasExpiry != 0:
			l.noteEvicted(r, s.seq, 0, 0)
		default:
			l.noteEvicted(r, s.seq, 1, s.end-s.start)
		}
	}
	c.evicted++
	l.uncount(r, 1, s.end-s.start)
}

// uncount updates the counts for evicted messages.
func (l *Log) uncount(r *ring, n, bytes int) {
	r.messages -= int64(n)
	r.bytes -= int64(bytes)
	l.messages -= int64(n)
	l.bytes -= int64(bytes)
	l.evictions += uint64(n)
}

// expired reports whether a message in a chunk, which may be compressed, has expired.
func (l *Log) expired(c *chunk, s slot, now int64, u *unpacked) bool {
	return s.flags&store.HasExpiry != 0 &&
		expired(l.frames(c, u)[s.start:s.end], s.flags, s.msg, time.UnixMilli(now))
}

// removeFirst removes the oldest message, which is evicted. With the last message of a chunk it frees
// the chunk.
func (l *Log) removeFirst(r *ring, now int64) {
	c := r.chunks[0]
	s := c.slot(c.removed)
	l.order.remove(s.seq)
	if !l.expired(c, s, now, &l.scratch) {
		l.recordLoss(r, removed, s.seq)
	}
	c.removed++
	if c.removed < c.n {
		return
	}
	r.chunks[0] = nil
	r.chunks = r.chunks[1:]
	l.dropChunk(r, c)
}

// dropChunk frees a chunk that the ring no longer has.
func (l *Log) dropChunk(r *ring, c *chunk) {
	r.memory -= int64(len(c.mem.data))
	l.freeChunk(c)
	l.bySize.fix(r)
}

// updateQueues updates queues and lists after a ring lost messages.
func (l *Log) updateQueues(r *ring, now int64) {
	if r.policy.MaxAge > 0 {
		l.fixAge(r)
	}
	if !r.lingers && len(r.chunks) > 0 && r.chunks[0].removed < r.chunks[0].evicted {
		r.lingers = true
		l.lingers = append(l.lingers, lingering{r, now + linger})
	}
	l.noteIdle(r)
}

// fixAge updates when a ring next loses a message by age.
func (l *Log) fixAge(r *ring) {
	r.due = r.expires()
	l.byAge.fix(r)
}

// dropRing removes a ring that holds nothing in memory.
func (l *Log) dropRing(r *ring) {
	if r.spill != nil {
		l.unname(r)
	}
	if lost := r.loss(evicted).Seq; lost > 0 { // from now on its losses count for all groups without a ring
		newest := store.Loss{Seq: max(lost, l.forgotten.Seq), At: l.opts.Losses.Tick()}
		l.forgotten = lostGroup{newest, max(r.evictedTime, l.forgotten.time)}
	}
	delete(l.rings, r.name)
	l.names.Delete(r.name)
	l.unlistLoss(r, evicted)
	l.unlistLoss(r, removed)
	l.bySize.remove(r)
	l.byAge.remove(r)
	r.lingers = false // tidy drops it from the list of lingering rings
	l.arena.used[pinned] -= r.cost()
}
