package cursor

import (
	"bytes"
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// entry is a position in memory.
type entry struct {
	key      string
	value    []byte    // the encoded position. It does not change: the log may have it, too
	at       store.Seq // with a shared log: the newest version that is known; 0: none
	deadline int64     // when it expires, in Unix ms, if it has a place
	place    int32     // in the heap of deadlines, from 1; 0: it does not expire

	ours     bool // this hub has the position
	here     bool // its reader is not away
	blank    bool // claimed, but not saved yet
	claiming bool // Claim has not returned yet
	removed  bool // it stays until its removal is written
	expired  bool // removed because it has expired
	dirty    bool // to be written
	writing  bool // being written
	large    bool // the log has refused it as too large, and has an older version. It is written when it changes
}

// entrySize is about what an entry takes beside its key and value: itself and its places in the map and in the heap.
const entrySize = 160

// position decodes the position, if there is one.
func (e *entry) position() (Position, bool) {
	if e.removed || e.blank {
		return Position{}, false
	}
	return e.decode(), true
}

func (e *entry) decode() Position {
	p, _, err := decode(e.key, e.value)
	if err != nil {
		panic("cursor: " + err.Error()) // impossible: it was encoded here, or checked by Learn
	}
	return p
}

// kept reports whether this hub has something to write about the position, now or later.
func (e *entry) kept() bool { return e.ours || e.removed }

// add adds an entry without a value.
func (s *Set) add(key string) *entry {
	e := &entry{key: key}
	s.entries[key] = e
	s.bytes += entrySize + int64(len(key))
	return e
}

// drop forgets an entry.
func (s *Set) drop(e *entry) {
	if e.expired {
		s.expired = append(s.expired, e.key)
	}
	s.put(e, &Position{Away: time.Unix(1, 0), Expiry: ForEver}, nil, false)
	s.schedule(e, 0)
	e.dirty = false
	delete(s.entries, e.key)
	s.bytes -= entrySize + int64(len(e.key))
}

// put gives an entry a value, which is p encoded, and says whether this hub has the position.
func (s *Set) put(e *entry, p *Position, value []byte, ours bool) {
	s.count(e, -1)
	s.bytes += int64(len(value) - len(e.value))
	e.value, e.ours, e.expired = value, ours, false
	e.here, e.blank = p.Away.IsZero(), p.Epoch == ""
	s.count(e, 1)
	if !e.removed {
		s.recount(e, p.Filters)
	}
	switch {
	case e.here:
		s.schedule(e, 0)
	case s.dependent(e):
		s.schedule(e, s.unnamedUntil(e.key))
	case p.Expiry < 0:
		s.schedule(e, 0)
	default:
		s.schedule(e, p.Away.Add(p.Expiry).UnixMilli())
	}
}

// count counts an entry if its reader is at another hub.
func (s *Set) count(e *entry, n int) {
	if e.ours || !e.here {
		return
	}
	hub := holder(e.value)
	if s.abroad[hub] += n; s.abroad[hub] == 0 {
		delete(s.abroad, hub)
	}
}

// change changes a position and makes it one of this hub.
func (s *Set) change(e *entry, self string, f func(p *Position)) {
	p := e.decode()
	f(&p)
	s.set(e, &p, s.encode(&p, self), self)
}

// encode returns an encoded position.
func (s *Set) encode(p *Position, self string) []byte {
	s.buf = p.append(s.buf[:0], self)
	return bytes.Clone(s.buf)
}

// set makes p, which is encoded in value, the position of an entry, and the entry one of this hub.
func (s *Set) set(e *entry, p *Position, value []byte, self string) {
	if e.ours && !e.removed && bytes.Equal(value, e.value) {
		return
	}
	if !slices.Contains(s.ids, self) {
		s.ids = append(s.ids, self)
	}
	e.removed = false
	s.put(e, p, value, true)
	s.mark(e)
	s.arm()
}

// remove marks an entry as removed.
func (s *Set) remove(e *entry) {
	e.removed = true
	s.recount(e, nil)
	s.schedule(e, 0)
	if s.opts.Log == nil {
		s.drop(e)
		return
	}
	s.mark(e)
}

// mark has an entry written.
func (s *Set) mark(e *entry) {
	if s.opts.Log != nil && !e.dirty {
		e.dirty = true
		s.dirty = append(s.dirty, e)
	}
}

// Other hubs let a position expire only after the hub that had it last: lateFrom to lateTo later.
const (
	lateFrom = 2 * time.Second
	lateTo   = 5 * time.Second
)

// schedule sets when an entry expires; 0: it does not.
func (s *Set) schedule(e *entry, deadline int64) {
	if deadline != 0 && !e.ours {
		deadline += (lateFrom + rand.N(lateTo-lateFrom)).Milliseconds()
	}
	e.deadline = deadline
	switch {
	case deadline == 0 && e.place > 0:
		heap.Remove(&s.due, int(e.place)-1)
	case deadline == 0:
	case e.place > 0:
		heap.Fix(&s.due, int(e.place)-1)
	default:
		heap.Push(&s.due, e)
	}
}

// deadlines is a heap of the entries that expire. The first to do so is in front.
type deadlines []*entry

// Len implements heap.Interface, as do the methods below.
func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline < d[j].deadline }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = int32(i+1), int32(j+1)
}

func (d *deadlines) Push(x any) {
	e := x.(*entry)
	*d = append(*d, e)
	e.place = int32(len(*d))
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	e := (*d)[last]
	(*d)[last] = nil
	*d, e.place = (*d)[:last], 0
	return e
}
