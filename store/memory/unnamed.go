package memory

import "github.com/watchbox-go/watchbox/store"

// unnamed describes the messages of groups that have only spilled messages and whose names were dropped,
// because the names alone would take too much memory. They can still be read from the log behind, but
// the groups are not listed, and no policy evicts their messages until a group gets a new message.
type unnamed struct {
	horizon, oldest store.Seq
	time, newest    int64 // of these, ms
	counts
}

// add adds messages between two seqs that were sent between two times.
func (u *unnamed) add(oldest, horizon store.Seq, n counts, time, newest int64) {
	if u.horizon == 0 {
		u.oldest, u.time = oldest, time
	}
	u.oldest, u.time = min(u.oldest, oldest), min(u.time, time)
	u.horizon, u.newest = max(u.horizon, horizon), max(u.newest, newest)
	u.messages += n.messages
	u.bytes += n.bytes
}

// unname is called before a ring is dropped. Its spilled messages lose their group's name.
func (l *Log) unname(r *ring) {
	if s := r.spill; s.horizon > 0 {
		l.unnamed.add(s.oldest, s.horizon, counts{s.messages, s.bytes}, s.time, s.newest)
		l.bySpill.remove(r)
		l.fixSpilledTo()
	}
}

// floorUnnamed returns up to which seq all messages of a group without a ring are evicted.
func (l *Log) floorUnnamed() store.Seq {
	floor := min(l.forgotten.Seq, l.last()) // Evict may have told of later messages
	if l.unnamed.horizon > 0 {
		floor = min(floor, l.unnamed.oldest-1)
	}
	return floor
}

// ringFor adds a ring for an entry's group. It returns nil if there is no room for one, unless the entry is
// to be retained: retained messages are always in memory.
func (l *Log) ringFor(e *store.Entry, now int64) *ring {
	cost := groupCost + spillCost + int64(len(e.Group))
	for l.arena.used[pinned]+cost > l.opts.MaxMemory/2 {
		if !l.dropOne(now) {
			if e.Retain && !e.Clear {
				break
			}
			return nil
		}
	}
	return l.addRing(e.Group, now)
}

// dropOne drops a ring that holds nothing, or nothing in memory, or one with the oldest messages.
func (l *Log) dropOne(now int64) bool {
	for _, list := range []*[]*ring{&l.idle, &l.outside} {
		for len(*list) > 0 {
			r := (*list)[0]
			*list = (*list)[1:]
			r.idle = false
			if r.empty() && l.rings[r.name] == r {
				l.dropRing(r)
				return true
			}
		}
	}
	r := l.oldestSmall()
	if r == nil {
		return false
	}
	l.spillChunk(r, now)
	l.dropRing(r)
	r.idle = false
	return true
}

// oldestSteps is how many of the oldest messages are examined for one whose group is small.
const oldestSteps = 64

// oldestSmall returns a ring that has one chunk and nothing retained, with one of the oldest messages.
func (l *Log) oldestSmall() *ring {
	w := l.order.after(0)
	for range oldestSteps {
		_, at, ok := w.next()
		if !ok {
			return nil
		}
		if r := l.chunks[at.chunk].ring; len(r.chunks) == 1 && r.retained == nil {
			return r
		}
	}
	return nil
}

// spillUnnamed spills a message of n bytes of a group for whose name there is no room.
func (l *Log) spillUnnamed(e *store.Entry, seq store.Seq, n int, now int64) {
	l.clock = max(l.clock, min(e.Time.UnixMilli(), now))
	c := counts{1, int64(n)}
	if !e.Expires.IsZero() {
		c = counts{}
	}
	l.messages += c.messages
	l.bytes += c.bytes
	l.unnamed.add(seq, seq, c, l.clock, l.clock)
	l.fixSpilledTo()
}
