package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sort"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// model is the log as a plain slice. It does not model expiry and max_age.
type model struct {
	epoch    string
	msgs     []stored // by seq
	first    int      // no message before this one is held
	server   store.Policy
	policies store.Policies

	// spills is set for a Shared log. It loses no message for lack of memory, but keeps those that memory has no room for
	// elsewhere. Its policies hold for these soon, not at once, and GroupInfo.Oldest may be below the oldest message.
	spills bool

	minRead  int                             // the constant, or 1 if messages may be compressed, which makes reads stop earlier
	evicted  map[string]store.Seq            // by group: the newest message evicted
	reported map[uint64]map[string]store.Seq // by Reported of a read: evicted at that time
	retained map[string]store.Seq
}

type stored struct {
	store.Frame
	time int64 // ms
	held bool
}

func newModel(epoch string, server store.Policy) *model {
	m := &model{
		epoch: epoch, server: server, minRead: minRead,
		evicted: map[string]store.Seq{}, retained: map[string]store.Seq{},
		reported: map[uint64]map[string]store.Seq{},
	}
	m.compress(server)
	return m
}

func (m *model) compress(p store.Policy) {
	if p.Compress == store.Yes {
		m.minRead = 1
	}
}

func (m *model) newest() store.Seq {
	if len(m.msgs) == 0 {
		return 0
	}
	return m.msgs[len(m.msgs)-1].Seq
}

// count returns how many messages there are up to a position.
func (m *model) count(pos store.Seq) int {
	return sort.Search(len(m.msgs), func(i int) bool { return m.msgs[i].Seq > pos })
}

// get returns the message with a seq, which must exist.
func (m *model) get(seq store.Seq) *stored { return &m.msgs[m.count(seq)-1] }

// add appends the messages to the store and, if it accepts them, to the model.
func (m *model) add(l *log, list []*store.Message) error {
	l.t.Helper()
	es := entries(list...)
	id, err := l.Append(context.Background(), es)
	if errors.Is(err, store.ErrFull) {
		return err
	}
	if err != nil || id.Epoch != m.epoch || id.Seq <= m.newest() {
		l.t.Fatalf("append of %d entries: %v, %v; want an id of %s above %d", len(es), id, err, m.epoch, m.newest())
	}
	for i := range es {
		m.push(&es[i], id.Seq+store.Seq(i))
	}
	return nil
}

func (m *model) push(e *store.Entry, seq store.Seq) {
	frame, msg := e.AppendFrame(nil, store.ID{Epoch: m.epoch, Seq: seq})
	m.msgs = append(m.msgs, stored{
		store.Frame{Seq: seq, Group: e.Group, Flags: e.Flags(), Msg: msg, Bytes: frame},
		e.Time.UnixMilli(), true,
	})
	if e.Retain {
		m.retained[e.Group] = seq
	}
	if e.Clear {
		delete(m.retained, e.Group)
	}
	m.enforce(e.Group)
}

func (m *model) setPolicy(f group.Filter, p store.Policy) {
	m.policies.Restore(f, p)
	m.compress(p)
	for _, name := range m.groups() {
		m.enforce(name)
	}
}

// enforce evicts the messages that the group's policy does not keep.
func (m *model) enforce(name string) {
	p := m.policies.Effective(group.Exact(name), m.server)
	list := m.of(group.Exact(name), 0, m.newest())
	n, size := int64(len(list)), int64(0)
	for _, s := range list {
		size += int64(len(s.Bytes))
	}
	for _, s := range list {
		if (p.MaxMessages == 0 || n <= p.MaxMessages) && (p.MaxBytes == 0 || size <= p.MaxBytes) {
			return
		}
		m.evict(s)
		n--
		size -= int64(len(s.Bytes))
	}
}

func (m *model) evict(s *stored) {
	s.held = false
	m.evicted[s.Group] = max(m.evicted[s.Group], s.Seq)
}

func (m *model) purge(name string) {
	delete(m.retained, name)
	m.evictBelow(name, m.newest()+1)
}

// evictBelow evicts the group's messages below seq.
func (m *model) evictBelow(name string, seq store.Seq) {
	for _, s := range m.of(group.Exact(name), 0, seq-1) {
		m.evict(s)
	}
}

// of returns the selected messages that are held, above after and up to through.
func (m *model) of(sel store.Selector, after, through store.Seq) []*stored {
	var out []*stored
	for m.first < len(m.msgs) && !m.msgs[m.first].held {
		m.first++
	}
	for i, end := max(m.count(after), m.first), m.count(through); i < end; i++ {
		if s := &m.msgs[i]; s.held && sel.Match(s.Group) {
			out = append(out, s)
		}
	}
	return out
}

// retainedOf is of for the retained messages.
func (m *model) retainedOf(sel store.Selector, after, through store.Seq) []*stored {
	var out []*stored
	for name, seq := range m.retained {
		if sel.Match(name) && seq > after && seq <= through {
			out = append(out, m.get(seq))
		}
	}
	slices.SortFunc(out, func(a, b *stored) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}

// groups returns the names of all groups that ever had a message.
func (m *model) groups() []string {
	var out []string
	for i := range m.msgs {
		if !slices.Contains(out, m.msgs[i].Group) {
			out = append(out, m.msgs[i].Group)
		}
	}
	return out
}

// read reads into a batch of room bytes, and fails unless the result agrees with the model.
func (m *model) read(l *log, q store.Query, room int) *store.Batch {
	l.t.Helper()
	b := &store.Batch{Buf: make([]byte, 0, room)}
	if err := l.Read(q, b); err != nil {
		l.t.Fatalf("read %v: %v", q, err)
	}
	through := m.newest()
	if q.Through > 0 {
		through = min(through, q.Through)
	}
	want := m.of(q.Select, q.After, through)
	if q.Retained {
		want = m.retainedOf(q.Select, q.After, through)
	}
	if b.Epoch != m.epoch {
		l.t.Fatalf("epoch %q, want %q", b.Epoch, m.epoch)
	}
	checkFrames(l.t, q, b, want)
	m.checkRoom(l.t, q, b, want, room, max(through, q.After))
	m.checkGaps(l.t, q, b, through)
	return b
}

// readAll reads from the start to the end in batches of room bytes.
func (m *model) readAll(l *log, set group.Set, room int) {
	l.t.Helper()
	q := store.Query{Select: set}
	for q.After < m.newest() {
		b := m.read(l, q, room)
		q.After, q.Reported = b.Next, b.Reported
	}
}

// checkFrames fails unless the batch holds the first of the wanted messages, byte by byte.
func checkFrames(t tb, q store.Query, b *store.Batch, want []*stored) {
	t.Helper()
	var all []byte
	for i := range b.Frames {
		f := &b.Frames[i]
		all = append(all, f.Bytes...)
		if i >= len(want) {
			t.Fatalf("%v: frame %d is %d of %s; want no more than %d frames", q, i, f.Seq, f.Group, len(want))
		}
		w := want[i].Frame
		if f.Seq != w.Seq || f.Group != w.Group || f.Flags != w.Flags || f.Msg != w.Msg {
			t.Fatalf("%v: frame %d is %d of %s, flags %b, msg at %d; want %d of %s, %b, %d",
				q, i, f.Seq, f.Group, f.Flags, f.Msg, w.Seq, w.Group, w.Flags, w.Msg)
		}
		if !bytes.Equal(f.Bytes, w.Bytes) {
			t.Fatalf("%v: frame %d is\n%s\nwant\n%s", q, f.Seq, f.Bytes, w.Bytes)
		}
	}
	if !bytes.Equal(all, b.Buf) {
		t.Fatalf("%v: Buf is not the frames back to back", q)
	}
}

// minRead is how many messages a read moves forward at least if it stops with room in its batch.
const minRead = 100

// checkRoom fails unless the batch has as many whole frames as fit, at least one, or the read moved at
// minRead messages forward. It also checks Next.
func (m *model) checkRoom(t tb, q store.Query, b *store.Batch, want []*stored, room int, end store.Seq) {
	t.Helper()
	n := len(b.Frames)
	if n > 1 && len(b.Buf) > room {
		t.Fatalf("%v: %d frames of %d bytes in a batch of %d", q, n, len(b.Buf), room)
	}
	least := store.Seq(math.MaxUint64)
	if i := m.count(q.After) + m.minRead; i <= len(m.msgs) {
		least = m.msgs[i-1].Seq
	}
	low, high := min(end, least), end
	if n > 0 {
		low = b.Frames[n-1].Seq
	}
	if n < len(want) {
		next := want[n]
		if stopped := b.Next >= least; (n == 0 || len(b.Buf)+len(next.Bytes) <= room) && !stopped {
			t.Fatalf("%v: %d frames of %d bytes in a batch of %d: there is room for %d of %d bytes",
				q, n, len(b.Buf), room, next.Seq, len(next.Bytes))
		}
		high = next.Seq - 1
	}
	if b.Next < low || b.Next > high {
		t.Fatalf("%v: Next is %d, want %d to %d", q, b.Next, low, high)
	}
}

// checkGaps fails unless the batch's gaps cover each group that lost a message after the position, and
// no other.
func (m *model) checkGaps(t tb, q store.Query, b *store.Batch, through store.Seq) {
	t.Helper()
	set := q.Select.(group.Set)
	if q.Retained {
		if len(b.Gaps) > 0 {
			t.Fatalf("%v: retained messages have no gaps: %v", q, b.Gaps)
		}
		return
	}
	for name, seq := range m.evicted {
		// Evictions above the end of the read may be reported now or by a later read.
		must := seq > m.knownLoss(q, name) && seq <= through && set.Match(name)
		if must && !slices.ContainsFunc(b.Gaps, func(g store.Gap) bool {
			return g.Evicted >= seq && filters(g.Filter).Match(name)
		}) {
			t.Fatalf("%v: %d of %s was evicted without a gap, gaps are %v", q, seq, name, b.Gaps)
		}
	}
	for i, g := range b.Gaps {
		if !slices.Contains(set.Strings(), g.Filter) || !m.lost(q, g) {
			t.Fatalf("%v: gap %d, %v, has no loss; evicted %v", q, i, g, m.evicted)
		}
	}
	if m.reported[b.Reported] == nil {
		m.reported[b.Reported] = maps.Clone(m.evicted)
	}
}

// knownLoss returns the newest evicted message of a group that the reader knows of.
func (m *model) knownLoss(q store.Query, name string) store.Seq {
	return max(q.After, m.reported[q.Reported][name])
}

// lost reports whether a gap's message is the newest that a matching group lost, and the reader does not
// know of it.
func (m *model) lost(q store.Query, g store.Gap) bool {
	for name, seq := range m.evicted {
		if seq == g.Evicted && seq > m.knownLoss(q, name) && filters(g.Filter).Match(name) {
			return true
		}
	}
	return false
}
