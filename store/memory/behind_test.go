package memory_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// front is a log in front of another, as its users see it.
type front interface {
	Place(entries []store.Entry, seqs []store.Seq) error
	Read(q store.Query, b *store.Batch) error
	Floor(name string) store.Seq
	Gaps(q store.Query, b *store.Batch) error
	Evict(e memory.Eviction) error
	Find(filters group.Set, s store.Start) (store.Seq, error)
	Horizon(s store.Selector, after store.Seq) store.Seq
	Excesses() iter.Seq[memory.Excess]
	Bounds() (oldest, newest store.ID)
	store.Keeper
}

// tester has the methods of *testing.T and *rapid.T that the judge needs.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// behind is the log behind, as a slice. It judges what readers get from both.
type behind struct {
	t      tester
	log    front
	names  []string
	msgs   []held
	epoch  string
	newest store.Seq
	sent   time.Time // when the newest message was sent

	allowed map[string]store.Seq // by group: the newest message that policies and purges evict
	kept    map[string]store.Seq // by group: the retained message
}

type held struct {
	store.Frame
	time time.Time
}

// place places a batch in which seqs skip numbers. Some entries were placed before.
func (x *behind) place(r *rand.Rand, list []store.Entry) {
	x.t.Helper()
	var entries []store.Entry
	var seqs []store.Seq
	if n := len(x.msgs); n > 0 && r.IntN(4) == 0 {
		m := &x.msgs[r.IntN(n)]
		entries, seqs = append(entries, entry(m.Group, 5)), append(seqs, m.Seq)
	}
	if r.IntN(300) == 0 {
		x.newest += 1 << 28 // more than a slot can tell
	}
	entries, seqs = append(entries, list...), append(seqs, x.append(list)...)
	for _, name := range x.names {
		x.allow(name)
	}
	if err := x.log.Place(entries, seqs); err != nil {
		x.t.Fatalf("place: %v", err)
	}
}

// append appends entries to the log behind, with seqs that skip numbers.
func (x *behind) append(list []store.Entry) (seqs []store.Seq) {
	for i := range list {
		e := &list[i]
		x.newest += 1 + x.newest*x.newest%7
		seqs = append(seqs, x.newest)
		frame, msg := e.AppendFrame(nil, store.ID{Epoch: x.epoch, Seq: x.newest})
		x.msgs = append(x.msgs, held{
			store.Frame{Seq: x.newest, Group: e.Group, Flags: e.Flags(), Msg: msg, Bytes: frame}, e.Time,
		})
		if e.Retain {
			x.kept[e.Group] = x.newest
		}
		if e.Clear {
			delete(x.kept, e.Group)
		}
	}
	return seqs
}

// allow notes what the group's policy now evicts.
func (x *behind) allow(name string) { x.allowed[name] = max(x.allowed[name], x.excess(name)) }

// excess returns the newest message that the group's policy does not keep.
func (x *behind) excess(name string) store.Seq {
	p := x.log.Policy(group.Exact(name))
	if p.MaxMessages == 0 && p.MaxBytes == 0 {
		return 0
	}
	n, size := int64(0), int64(0)
	for i := range slices.Backward(x.msgs) {
		m := &x.msgs[i]
		if m.Group != name {
			continue
		}
		n++
		size += int64(len(m.Bytes))
		if p.MaxMessages > 0 && n > p.MaxMessages || p.MaxBytes > 0 && size > p.MaxBytes {
			return m.Seq
		}
	}
	return 0
}

// janitor evicts by Evict what policies do not keep, and tells of what was evicted already. Then all policies
// hold exactly.
func (x *behind) janitor() {
	x.t.Helper()
	for _, o := range slices.Collect(x.log.Excesses()) {
		e := o.Told
		if e.Through == 0 {
			e = memory.Eviction{Group: o.Group}
		}
		n, size := o.Messages, o.Bytes
		for _, m := range x.msgs {
			if m.Group != o.Group || m.Seq <= o.Floor {
				continue
			}
			if (o.Policy.MaxMessages == 0 || n <= o.Policy.MaxMessages) && (o.Policy.MaxBytes == 0 || size <= o.Policy.MaxBytes) {
				break
			}
			e.Through = m.Seq
			n--
			size -= int64(len(m.Bytes))
			e.Messages++
			e.Bytes += int64(len(m.Bytes))
		}
		if err := x.log.Evict(e); err != nil {
			x.t.Fatalf("evict: %v", err)
		}
	}
	for o := range x.log.Excesses() {
		x.t.Fatalf("after all policies were applied: %+v", o)
	}
}

// read reads from a position to the end, from both logs.
func (x *behind) read(set store.Selector, after store.Seq, room int, live bool) {
	x.t.Helper()
	q := store.Query{Select: set, After: after, Live: live}
	b := &store.Batch{Buf: make([]byte, 0, room)}
	var got []store.Seq
	gaps := store.Seq(0)
	for q.After < x.newest {
		var elsewhere *memory.SpilledError
		switch err := x.log.Read(q, b); {
		case errors.As(err, &elsewhere):
			x.readBehind(q, b, elsewhere.Through)
		case err != nil:
			x.t.Fatalf("read: %v", err)
		}
		for _, f := range b.Frames {
			i, found := slices.BinarySearchFunc(x.msgs, f.Seq, func(m held, seq store.Seq) int { return int(m.Seq) - int(seq) })
			if !found || !bytes.Equal(f.Bytes, x.msgs[i].Bytes) || f.Group != x.msgs[i].Group {
				x.t.Fatalf("message %d of %s is not the one placed", f.Seq, f.Group)
			}
			got = append(got, f.Seq)
		}
		for _, g := range b.Gaps {
			gaps = max(gaps, g.Evicted)
		}
		if b.Next <= q.After {
			x.t.Fatalf("a read after %d does not advance", q.After)
		}
		q.After, q.Reported = b.Next, b.Reported
	}
	x.judge(set, after, got, gaps, live)
}

// readBehind reads from the log behind.
func (x *behind) readBehind(q store.Query, b *store.Batch, through store.Seq) {
	if through <= q.After || through > x.newest {
		x.t.Fatalf("a read after %d should go up to %d of %d", q.After, through, x.newest)
	}
	b.Reset(x.epoch)
	for _, m := range x.msgs {
		if m.Seq > q.After && m.Seq <= through && q.Select.Match(m.Group) && m.Seq > x.log.Floor(m.Group) {
			b.Frames = append(b.Frames, m.Frame)
		}
	}
	if err := x.log.Gaps(q, b); err != nil {
		x.t.Fatalf("gaps: %v", err)
	}
	b.Next = through
}

// judge fails unless each message was delivered once, or is evicted and reported as a gap.
func (x *behind) judge(set store.Selector, after store.Seq, got []store.Seq, gap store.Seq, live bool) {
	x.t.Helper()
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) < len(got) {
		x.t.Fatalf("after %d: not in order, or twice: %v", after, got)
	}
	for i := range x.msgs {
		m := &x.msgs[i]
		if m.Seq <= after || !set.Match(m.Group) {
			continue
		}
		_, found := slices.BinarySearch(got, m.Seq)
		switch floor := x.log.Floor(m.Group); {
		case found && !live && m.Seq <= floor:
			x.t.Fatalf("after %d: %d of %s was delivered, but the floor is %d", after, m.Seq, m.Group, floor)
		case found:
		case m.Seq > floor || m.Seq > x.allowed[m.Group]:
			x.t.Fatalf("after %d: %d of %s is not evicted (floor %d), but was not delivered", after, m.Seq, m.Group, floor)
		case m.Seq > gap:
			x.t.Fatalf("after %d: %d of %s was neither delivered nor reported (gap up to %d)", after, m.Seq, m.Group, gap)
		}
	}
}

// check compares floors, counts and retained messages. With exact, policies hold exactly.
func (x *behind) check(exact bool) {
	x.t.Helper()
	info, want := map[string]store.GroupInfo{}, map[string]store.GroupInfo{}
	for g := range store.EachGroup(x.log, "") {
		info[g.Group] = g
	}
	floors := map[string]store.Seq{}
	for _, name := range x.names {
		floor := x.log.Floor(name)
		if floor > x.allowed[name] || exact && floor < x.excess(name) {
			x.t.Fatalf("the floor of %s is %d, want %d to %d", name, floor, x.excess(name), x.allowed[name])
		}
		floors[name] = floor
		x.checkRetained(name)
	}
	for i := range x.msgs {
		if m := &x.msgs[i]; m.Seq > floors[m.Group] {
			g := want[m.Group]
			g.Messages++
			g.Bytes += int64(len(m.Bytes))
			if g.Oldest == 0 {
				g.Oldest = m.Seq
			}
			want[m.Group] = g
		}
	}
	low, newest := x.log.Bounds()
	sum := store.Usage{}
	for _, name := range x.names {
		g, w := info[name], want[name]
		sum.Messages += w.Messages
		sum.Bytes += w.Bytes
		if w.Oldest > 0 && low.Seq >= w.Oldest {
			x.t.Fatalf("the log begins after %d, but %s has %d", low.Seq, name, w.Oldest)
		}
		if g.Messages != w.Messages || g.Bytes != w.Bytes || g.Oldest > w.Oldest || g.Oldest == 0 && w.Messages > 0 {
			x.t.Fatalf("%s has %+v, want %d messages, %d bytes, the oldest %d", name, g, w.Messages, w.Bytes, w.Oldest)
		}
	}
	if u := x.log.Usage(); u.Messages != sum.Messages || u.Bytes != sum.Bytes || u.Memory > memory.MinMaxMemory {
		x.t.Fatalf("the log has %+v, want %+v", u, sum)
	}
	if newest.Seq != x.newest {
		x.t.Fatalf("the newest message is %d, want %d", newest.Seq, x.newest)
	}
}

// find checks Find where its answer is exact, and the bounds that it gives otherwise.
func (x *behind) find(set group.Set, n int, since time.Time) {
	x.t.Helper()
	horizon := x.log.Horizon(set, 0)
	last, err := x.log.Find(set, store.Start{Last: n})
	if err != nil {
		x.t.Fatal(err)
	}
	first, err := x.log.Find(set, store.Start{Since: since})
	if err != nil {
		x.t.Fatal(err)
	}
	all, after, lost := 0, 0, false
	for i := range x.msgs {
		m := &x.msgs[i]
		switch {
		case !set.Match(m.Group):
		case m.Seq <= x.log.Floor(m.Group):
			lost = lost || !m.time.Before(since)
		default:
			all++
			if m.Seq > last {
				after++
			}
			if !m.time.Before(since) && m.Seq <= first {
				x.t.Fatalf("since %v of %v leads to %d: %d has %v", since, set, first, m.Seq, m.time)
			}
			if first >= horizon && !lost && m.time.Before(since) && m.Seq > first {
				x.t.Fatalf("since %v of %v leads to %d, before %d, which has %v (horizon %d)", since, set, first, m.Seq, m.time, horizon)
			}
		}
	}
	if want := min(n, all); last >= horizon && after != want {
		x.t.Fatalf("last %d of %v: %d are after %d, want %d (horizon %d)", n, set, after, last, want, horizon)
	}
}

func (x *behind) checkRetained(name string) {
	x.t.Helper()
	b := &store.Batch{}
	if err := x.log.Read(store.Query{Select: group.Set{group.Exact(name)}, Retained: true}, b); err != nil {
		x.t.Fatalf("retained of %s: %v", name, err)
	}
	var got store.Seq
	if len(b.Frames) > 0 {
		got = b.Frames[0].Seq
	}
	if got != x.kept[name] {
		x.t.Fatalf("the retained message of %s is %d, want %d", name, got, x.kept[name])
	}
}

func (x *behind) purge(name string) {
	if err := x.log.Purge(name); err != nil {
		x.t.Fatalf("purge: %v", err)
	}
	delete(x.kept, name)
	for _, m := range x.msgs {
		if m.Group == name {
			x.allowed[name] = m.Seq
		}
	}
	if floor := x.log.Floor(name); floor < x.allowed[name] {
		x.t.Fatalf("the floor of %s is %d after a purge, want %d", name, floor, x.allowed[name])
	}
}

func newBehind(t tester, l *memory.Log, f front) *behind {
	_, newest := l.Bounds()
	return &behind{
		t: t, log: f, epoch: newest.Epoch, names: []string{"a", "a/b", "a/c", "d", "d/b", "$sys/x"},
		sent: time.Now().Add(-time.Hour), allowed: map[string]store.Seq{}, kept: map[string]store.Seq{},
	}
}

var spillFilters = []string{"#", "a/#", "+/b", "+", "a", "d/b", "$sys/#", "a d", "none", "a/+ none"}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// list returns up to 30 kB of messages to up to three groups. Each was sent a millisecond after the one before.
func (x *behind) list(r *rand.Rand, size int, names []string) []store.Entry {
	list := make([]store.Entry, 1+r.IntN(30_000/(size+100)+2))
	for i := range list {
		x.sent = x.sent.Add(time.Millisecond)
		m := store.Message{
			Group: pick(r, names...), Time: x.sent, Retain: size <= 3000 && r.IntN(40) == 0,
			Msg: store.AppendQuote(nil, fmt.Sprint(r.Uint64(), strings.Repeat("x", 1+r.IntN(size)))),
		}
		m.Clear = m.Retain && r.IntN(2) == 0
		list[i] = m.Entry(nil)
	}
	return list
}

// operations are random operations. Each draws from its own source.
func (x *behind) operations() map[string]func(r *rand.Rand) {
	return map[string]func(r *rand.Rand){
		"place": func(r *rand.Rand) {
			size := pick(r, 10, 100, 100, 3000, 70_000, 600_000)
			names := []string{pick(r, x.names...), pick(r, x.names...), pick(r, x.names...)}
			for range 1 + r.IntN(5) {
				x.place(r, x.list(r, size, names))
			}
		},
		"policy": func(r *rand.Rand) {
			p := store.Policy{
				MaxMessages: pick[int64](r, 0, 0, 1, 20, 500), MaxBytes: pick[int64](r, 0, 0, 5000, 400_000, 1_200_000),
				Compress: pick(r, store.Yes, store.No),
			}
			if err := x.log.SetPolicy(parse(x.t, pick(r, spillFilters[:6]...))[0], p); err != nil {
				x.t.Fatal(err)
			}
			for _, name := range x.names {
				x.allow(name)
			}
		},
		"purge": func(r *rand.Rand) { x.purge(pick(r, x.names...)) },
		"janitor": func(r *rand.Rand) {
			x.janitor()
			x.check(true)
		},
		"read": func(r *rand.Rand) {
			after := store.Seq(r.Uint64N(uint64(x.newest) + 1))
			set := parse(x.t, strings.Fields(pick(r, spillFilters...))...)
			x.read(set, pick(r, 0, after), pick(r, 0, 3000, 1<<20), pick(r, true, false))
		},
		"read by an index": func(r *rand.Rand) { x.read(some(pick(r, "a", "b", "", "x")), 0, 1<<20, false) },
		"find": func(r *rand.Rand) {
			set := parse(x.t, strings.Fields(pick(r, spillFilters...))...)
			since := x.sent.Add(-time.Duration(r.IntN(len(x.msgs)+2)) * time.Millisecond)
			x.find(set, 1+r.IntN(30), since)
		},
	}
}
