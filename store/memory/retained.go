package memory

import "github.com/watchbox-go/watchbox/store"

// retain makes the entry the group's retained message, or clears it. The frame has a chunk of its own
// outside the ring, so that evictions do not affect it.
func (l *Log) retain(r *ring, e *store.Entry, id store.ID, n int) {
	l.clearRetained(r)
	if e.Clear {
		return
	}
	mem := l.alloc(n+slotSize, pinned)
	l.retained.reserve(id.Seq, l.alloc)
	c := l.newChunk(r, mem, id.Seq)
	l.retained.add(id.Seq, place{int(c.no), 0})
	c.add(e, id, l.clock)
	l.noteExpiry(c, e)
	r.retained = c
}

// Forget drops the retained message of a group.
func (l *Log) Forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.rings[name]; r != nil {
		l.clearRetained(r)
	}
}

func (l *Log) clearRetained(r *ring) {
	c := r.retained
	if c == nil {
		return
	}
	r.retained = nil
	l.retained.remove(c.base)
	l.freeChunk(c)
	l.noteIdle(r)
}
