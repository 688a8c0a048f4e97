package memory

import (
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// spillCost is how many bytes a ring takes more with Options.Behind.
const spillCost = 144

// spilled says which of a group's messages are held by the log behind this one: those after floor, up to
// horizon. All messages of the group after horizon are in memory.
//
// A spilled message with an expiry is not counted, since nothing here notices when it is gone.
type spilled struct {
	horizon store.Seq // 0: none is spilled
	kept    store.Seq // the newest without an expiry
	expires int64     // the latest expiry of the others, ms
	oldest  store.Seq // none is before it

	messages, bytes int64 // without an expiry
	unsure          bool  // some of them may be evicted: an Eviction did not know how many
	time            int64 // when the oldest was sent, or before that, ms
	newest          int64 // when the newest was sent, ms

	floor  store.Seq // the newest message evicted
	marked store.Seq // the newest message that Evict has evicted
	ahead  counts    // messages without an expiry evicted here, but not by Evict

	at int32 // its place in the queue
}

type counts struct{ messages, bytes int64 }

// spilled reports whether messages of the ring are spilled.
func (r *ring) spilled() bool { return r.spill != nil && r.spill.horizon > 0 }

// reach returns the newest spilled message that has not expired, or 0.
func (s *spilled) reach(now int64) store.Seq {
	if s.horizon > s.kept && s.expires <= now {
		return s.kept
	}
	return s.horizon
}

func (s *spilled) addTo(g *store.GroupInfo) {
	if s.messages == 0 {
		return
	}
	g.Messages += s.messages
	g.Bytes += s.bytes
	g.Oldest, g.Newest = s.oldest, max(g.Newest, s.kept)
}

// addSpilled prepares a new ring. If groups have lost their names, the ring's may be one of them.
func (l *Log) addSpilled(r *ring) {
	s, u := &spilled{floor: l.floorUnnamed()}, &l.unnamed
	s.marked = s.floor
	r.spill = s
	if u.horizon > 0 {
		s.horizon, s.kept, s.oldest, s.time, s.newest = u.horizon, u.horizon, u.oldest, u.time, u.newest
		l.bySpill.add(r)
	}
}

// spillChunk spills the messages of a ring's oldest chunk and frees it.
func (l *Log) spillChunk(r *ring, now int64) {
	c := r.chunks[0]
	for c.ring == r && c.removed < c.evicted {
		l.removeFirst(r, now)
	}
	if c.ring == r {
		l.noteSpilled(r, c, now)
		for i := c.evicted; i < c.n; i++ {
			l.order.remove(c.seq(i))
		}
		r.chunks[0] = nil
		r.chunks = r.chunks[1:]
		l.dropChunk(r, c)
	}
	l.updateQueues(r, now)
}

// noteSpilled moves the counts of a chunk's messages from the ring to its spilled ones.
func (l *Log) noteSpilled(r *ring, c *chunk, now int64) {
	n, bytes := c.live()
	r.messages -= int64(n)
	r.bytes -= int64(bytes)
	if c.withExpiry == 0 {
		l.addToSpilled(r, c.seq(c.n-1), counts{int64(n), int64(bytes)}, c.time(c.evicted), c.time(c.n-1))
		return
	}
	for i := c.evicted; i < c.n; i++ {
		m := c.slot(i)
		switch size := int64(m.end - m.start); {
		case m.flags&store.HasExpiry == 0:
			l.addToSpilled(r, m.seq, counts{1, size}, m.time, m.time)
		default:
			l.messages--
			l.bytes -= size
			if c.expires > now {
				l.addExpiring(r, m.seq, c.expires, m.time)
			}
		}
	}
}

// addToSpilled adds messages without an expiry, up to seq, which were sent between two times.
func (l *Log) addToSpilled(r *ring, seq store.Seq, n counts, first, last int64) {
	s := r.spill
	if s.messages == 0 {
		s.time = first
	}
	s.messages += n.messages
	s.bytes += n.bytes
	s.kept = seq
	l.raiseHorizon(r, seq, last)
}

// addExpiring adds a message that expires.
func (l *Log) addExpiring(r *ring, seq store.Seq, expires, sent int64) {
	r.spill.expires = max(r.spill.expires, expires)
	l.raiseHorizon(r, seq, sent)
}

func (l *Log) raiseHorizon(r *ring, seq store.Seq, sent int64) {
	s := r.spill
	if s.horizon == 0 {
		s.horizon, s.oldest = seq, s.floor+1
		l.bySpill.add(r)
	}
	s.horizon, s.newest = seq, sent
	l.bySpill.fix(r)
	l.fixSpilledTo()
}

// fixSpilledTo updates the newest message spilled from any group.
func (l *Log) fixSpilledTo() {
	seq := l.unnamed.horizon
	if r := l.bySpill.first(); r != nil {
		seq = max(seq, r.spill.horizon)
	}
	l.spilledTo.Store(uint64(seq))
}

// noteEvicted notes that a message and those before it are evicted. n messages without an expiry were in
// memory; those that are spilled are older.
func (l *Log) noteEvicted(r *ring, seq store.Seq, n, bytes int) {
	s := r.spill
	s.floor = max(s.floor, seq)
	s.ahead.messages += int64(n)
	s.ahead.bytes += int64(bytes)
	if s.horizon > 0 {
		l.evictSpilled(r, r.evictedTime)
	}
}

// evictSpilled evicts all spilled messages of a ring. The newest message evicted was sent at the given time.
func (l *Log) evictSpilled(r *ring, sent int64) {
	s := r.spill
	seq := s.horizon
	s.floor = max(s.floor, seq)
	s.ahead.messages += s.messages
	s.ahead.bytes += s.bytes
	l.uncountSpilled(s, counts{s.messages, s.bytes})
	s.horizon, s.kept, s.expires, s.oldest, s.time, s.newest, s.unsure = 0, 0, 0, 0, 0, 0, false
	l.bySpill.remove(r)
	l.fixSpilledTo()
	l.lose(r, evicted, seq, sent)
	l.lose(r, removed, seq, sent)
	l.noteIdle(r)
}

// lose records the loss of messages up to seq, which was sent at the given time, unless a later one is lost.
func (l *Log) lose(r *ring, kind int, seq store.Seq, sent int64) {
	if seq > r.loss(kind).Seq {
		l.recordLoss(r, kind, seq)
		r.evictedTime = max(r.evictedTime, sent)
	}
}

func (l *Log) uncountSpilled(s *spilled, n counts) {
	s.messages -= n.messages
	s.bytes -= n.bytes
	l.messages -= n.messages
	l.bytes -= n.bytes
	l.evictions += uint64(n.messages)
}

// placeAll is Place with Options.Behind.
func (l *Log) placeAll(entries []store.Entry, seqs []store.Seq) error {
	full, err := l.placeEach(entries, seqs)
	if err != nil {
		return err
	}
	l.wakes.Wake()
	for _, c := range full {
		l.pack(c)
	}
	return nil
}

func (l *Log) placeEach(entries []store.Entry, seqs []store.Seq) (full []*chunk, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, store.ErrClosed
	}
	at := time.Now()
	life, now := l.life.Load(), at.UnixMilli()
	id := store.ID{Epoch: life.epoch, Seq: store.Seq(life.newest.Load())}
	for i := range entries {
		if seqs[i] <= id.Seq {
			continue // it was placed before
		}
		id.Seq = seqs[i]
		l.stamps.Note(id.Seq, at)
		if c := l.placeOne(&entries[i], id, now); c != nil {
			full = append(full, c)
		}
	}
	life.newest.Store(uint64(id.Seq))
	l.tidy(now, tidySteps)
	l.schedule(now)
	return full, nil
}

// placeOne stores an entry, or spills it. It returns the previous chunk if that is now full and should be
// compressed.
func (l *Log) placeOne(e *store.Entry, id store.ID, now int64) (full *chunk) {
	n := e.FrameLen(id)
	r := l.rings[e.Group]
	if r == nil {
		if r = l.ringFor(e, now); r == nil {
			l.spillUnnamed(e, id.Seq, n, now)
			return nil
		}
	}
	switch {
	case id.Seq <= r.spill.floor: // an eviction that was known before
		if e.Retain {
			l.retain(r, e, id, n)
		}
	case l.fits(e, n):
		full = l.push(r, e, id, now)
		l.enforce(r, now, maxHoldSteps)
		if r.lingers {
			l.reclaim(r, now-linger, tidySteps)
		}
	default:
		l.spillEntry(r, e, id, n, now)
	}
	return full
}

// fits reports whether a frame of n bytes is stored in memory: it must leave room for others, and a slot must
// be able to describe it.
func (l *Log) fits(e *store.Entry, n int) bool {
	return int64(n+slotSize+entrySize) <= (l.opts.MaxMemory-l.arena.used[pinned])/2 && describable(e, n)
}

// spillEntry spills a message of n bytes that memory does not take, after all other messages of its group.
func (l *Log) spillEntry(r *ring, e *store.Entry, id store.ID, n int, now int64) {
	for len(r.chunks) > 0 {
		l.spillChunk(r, now)
	}
	l.clock = max(l.clock, min(e.Time.UnixMilli(), now))
	r.rate.Count(now)
	if e.Expires.IsZero() {
		l.messages++
		l.bytes += int64(n)
		l.addToSpilled(r, id.Seq, counts{1, int64(n)}, l.clock, l.clock)
	} else {
		l.addExpiring(r, id.Seq, e.Expires.UnixMilli(), l.clock)
	}
	if e.Retain && describable(e, n) {
		l.retain(r, e, id, n)
	}
	l.noteIdle(r)
}
