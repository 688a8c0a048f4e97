package disk

import (
	"container/heap"
	"fmt"

	"github.com/watchbox-go/watchbox/store"
)

// enforce evicts the messages that a group's policy no longer keeps, up to the limit of the turn.
func (l *Log) enforce(g *group, t *turn) error {
	if !g.excess(t.now) {
		return nil
	}
	t.touch(g)
	for g.excess(t.now) {
		if t.evict == 0 {
			if !g.overdue {
				g.overdue = true
				l.overdue = append(l.overdue, g)
			}
			return nil
		}
		t.evict--
		if err := l.evictHead(g, t); err != nil {
			return err
		}
	}
	return nil
}

// evictHead evicts a group's oldest message.
func (l *Log) evictHead(g *group, t *turn) error {
	h := g.next.head
	l.account(g, h, t)
	if len(g.fresh) > 0 && t.items[g.fresh[0]].seq == h.seq {
		t.items[g.fresh[0]].evicted = true
		g.fresh = g.fresh[1:]
	} else {
		d := deletion{no: g.no, seq: h.seq}
		if g.next.retained != h.seq {
			d.expires = h.expires // the retained copy still needs it otherwise
		}
		t.deletions = append(t.deletions, d)
		l.deletedBytes.Add(int64(h.size) + messageCost)
	}
	return l.findHead(g, t)
}

// account counts a message as evicted.
func (l *Log) account(g *group, h item, t *turn) {
	s := &g.next
	if !h.expired(t.now) { // its seq may be below that of a loss noted by recover
		s.evicted, s.evictedTime = store.Loss{Seq: max(h.seq, s.evicted.Seq)}, max(h.time, s.evictedTime)
		l.next.lostMax = max(l.next.lostMax, s.evicted.Seq)
		if h.seq <= l.tail.base {
			s.removed = store.Loss{Seq: max(h.seq, s.removed.Seq)}
			l.next.removedMax = max(l.next.removedMax, s.removed.Seq)
		}
	}
	s.gone = h.seq
	l.uncount(s, h)
}

// uncount subtracts a message from the totals.
func (l *Log) uncount(s *state, m item) {
	s.messages--
	s.bytes -= int64(m.size)
	l.next.messages--
	l.next.bytes -= int64(m.size)
	l.next.evictions++
}

// findHead finds a group's oldest message after the one that was evicted.
func (l *Log) findHead(g *group, t *turn) (err error) {
	s := &g.next
	switch {
	case s.messages == 0:
		s.head, s.newest = item{}, 0
	case s.messages > int64(len(g.fresh)):
		l.opts.call(func() { s.head, err = l.storedAfter(g, s.gone, t) })
	default:
		s.head = t.items[g.fresh[0]].item
	}
	return err
}

// storedAfter finds a group's first message on disk after a seq. There must be one.
func (l *Log) storedAfter(g *group, after store.Seq, t *turn) (m item, err error) {
	if err := l.openIndex(t); err != nil {
		return m, err
	}
	found := false
	if t.indexGroup == g.no && t.indexItem.seq == after && after > 0 {
		found = t.index.Next()
	} else {
		found = t.index.SeekGE(indexKey(g.no, after+1))
	}
	for found && t.isExpired(seqOf(t.index.Key())) {
		found = t.index.Next()
	}
	if err := t.index.Error(); err != nil {
		return m, err
	}
	if !found || string(t.index.Key()[:5]) != string(indexKey(g.no, 0)[:5]) {
		return m, fmt.Errorf("%w: %s should have a message after %d", store.ErrCorrupt, g.name, after)
	}
	value, err := t.index.ValueAndErr()
	if err != nil {
		return m, err
	}
	m, err = readIndex(t.index.Key(), value)
	t.indexItem, t.indexGroup = m, g.no
	return m, err
}

const (
	messageCost  = 64 // bytes on disk that a message takes in addition to its frame
	diskMemtable = 6  // memtables whose bytes may be in logs and not yet in tables
	diskParts    = 8  // the part of the rest that merging tables uses for a while
)

// messagesMax returns how many bytes messages may take on a disk of the given size.
func messagesMax(disk, memtable int64) int64 {
	if disk <= 0 {
		return 0
	}
	rest := max(disk-diskMemtable*memtable, disk/4)
	return rest - rest/diskParts
}

// cost is an upper bound of the bytes that messages take on disk, since they are compressed.
func (t *totals) cost() int64 { return t.bytes + t.messages*messageCost + t.retainedBytes }

// mayRetain reports whether there is room for the retained messages among entries. No policy evicts retained
// messages, so they may take half of the room and no more.
func (l *Log) mayRetain(entries []store.Entry) bool {
	if l.diskMax == 0 {
		return true
	}
	more, was := int64(0), int64(0)
	for i := range entries {
		if e := &entries[i]; e.Retain && !e.Clear {
			more += int64(len(e.Tail))
			if g := l.groups[e.Group]; g != nil {
				was += g.next.retainedBytes
			}
		}
	}
	return more <= was || l.next.retainedBytes-was+more <= l.diskMax/2
}

const (
	cutParts = 64 // the part of the room for messages that is freed at once
	cutRun   = 64 // messages evicted from a group before the largest group is determined again
)

// cut evicts the oldest messages of the largest groups until the rest takes less than diskMax.
func (l *Log) cut(t *turn) error {
	if l.diskMax == 0 || !l.overMax && l.next.cost() <= l.diskMax {
		return nil
	}
	most := l.diskMax - l.diskMax/cutParts
	var groups sizeHeap
	for _, g := range l.groups {
		if g.next.messages > 0 {
			groups = append(groups, g)
		}
	}
	heap.Init(&groups)
	for len(groups) > 0 && l.next.cost() > most && t.evict > 0 {
		g := groups[0]
		t.touch(g)
		for n := 0; n < cutRun && g.next.messages > 0 && l.next.cost() > most && t.evict > 0; n++ {
			t.evict--
			if err := l.evictHead(g, t); err != nil {
				return err
			}
		}
		if g.next.messages == 0 {
			heap.Pop(&groups)
		} else {
			heap.Fix(&groups, 0)
		}
	}
	l.overMax = len(groups) > 0 && l.next.cost() > most
	return nil
}

// sizeHeap has the largest group in front.
type sizeHeap []*group

// Len implements heap.Interface, as do the methods below.
func (h sizeHeap) Len() int           { return len(h) }
func (h sizeHeap) Less(i, k int) bool { return h[i].next.bytes > h[k].next.bytes }
func (h sizeHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }

// Push puts a group last.
func (h *sizeHeap) Push(x any) { *h = append(*h, x.(*group)) }

// Pop takes the last group.
func (h *sizeHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
