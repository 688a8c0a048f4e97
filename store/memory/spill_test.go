package memory_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

func openTiny() *memory.Log {
	return memory.New(memory.Options{MaxMemory: memory.MinMaxMemory, Behind: true, MaxGroups: 3})
}

// TestSpilledMessagesAreReadOrReported compares random operations on a tiny log with a slice that keeps all.
func TestSpilledMessagesAreReadOrReported(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := openTiny()
		defer l.Close()
		x := newBehind(t, l, l)
		actions := map[string]func(*rapid.T){"": func(t *rapid.T) { x.t = t; x.check(false) }}
		for name, f := range x.operations() {
			actions[name] = func(t *rapid.T) {
				x.t = t
				f(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)))
			}
		}
		t.Repeat(actions)
	})
}

// broken is a log with a fault.
type broken struct {
	*memory.Log
	place func(l *memory.Log, entries []store.Entry, seqs []store.Seq) error
	read  func(l *memory.Log, q store.Query, b *store.Batch) error
	floor func(seq store.Seq) store.Seq
	gaps  func(b *store.Batch)
	evict func(e *memory.Eviction)
	info  func(g *store.GroupInfo)
	find  func(l *memory.Log, seq store.Seq) store.Seq
}

func (x *broken) Place(entries []store.Entry, seqs []store.Seq) error {
	if x.place != nil {
		return x.place(x.Log, entries, seqs)
	}
	return x.Log.Place(entries, seqs)
}

func (x *broken) Read(q store.Query, b *store.Batch) error {
	if x.read != nil {
		return x.read(x.Log, q, b)
	}
	return x.Log.Read(q, b)
}

func (x *broken) Floor(name string) store.Seq {
	seq := x.Log.Floor(name)
	if x.floor != nil {
		return x.floor(seq)
	}
	return seq
}

func (x *broken) Gaps(q store.Query, b *store.Batch) error {
	err := x.Log.Gaps(q, b)
	if x.gaps != nil {
		x.gaps(b)
	}
	return err
}

func (x *broken) Evict(e memory.Eviction) error {
	if x.evict != nil {
		x.evict(&e)
	}
	return x.Log.Evict(e)
}

func (x *broken) Groups(q store.GroupQuery) ([]store.GroupInfo, string) {
	page, next := x.Log.Groups(q)
	for i := range page {
		if x.info != nil {
			x.info(&page[i])
		}
	}
	return page, next
}

func (x *broken) Find(filters group.Set, s store.Start) (store.Seq, error) {
	seq, err := x.Log.Find(filters, s)
	if x.find != nil {
		return x.find(x.Log, seq), err
	}
	return seq, err
}

// skipSpilled is a read that goes on after the spilled messages.
func skipSpilled(l *memory.Log, q store.Query, b *store.Batch) error {
	err := l.Read(q, b)
	var spilled *memory.SpilledError
	if errors.As(err, &spilled) {
		b.Reset("")
		b.Next = spilled.Through
		return nil
	}
	return err
}

func TestTheJudgeOfSpilledMessagesFindsFaults(t *testing.T) {
	for name, fault := range map[string]*broken{
		"spilled messages are skipped": {read: skipSpilled},
		"an entry of a batch is lost": {place: func(l *memory.Log, entries []store.Entry, seqs []store.Seq) error {
			if n := len(entries); n > 5 {
				entries, seqs = slices.Delete(entries, n-2, n-1), slices.Delete(seqs, n-2, n-1)
			}
			return l.Place(entries, seqs)
		}},
		"retained messages are not": {place: func(l *memory.Log, entries []store.Entry, seqs []store.Seq) error {
			entries = slices.Clone(entries)
			for i := range entries {
				entries[i].Retain = false
			}
			return l.Place(entries, seqs)
		}},
		"evicted messages are shown":           {floor: func(store.Seq) store.Seq { return 0 }},
		"the floor is too high":                {floor: func(seq store.Seq) store.Seq { return seq + 1 }},
		"gaps of spilled messages are lost":    {gaps: func(b *store.Batch) { b.Gaps = b.Gaps[:0] }},
		"evictions are ignored":                {evict: func(e *memory.Eviction) { e.Through = 0 }},
		"evictions go too far":                 {evict: func(e *memory.Eviction) { e.Through++ }},
		"evictions tell too few messages":      {evict: func(e *memory.Eviction) { e.Messages /= 2 }},
		"spilled messages are not counted":     {info: func(g *store.GroupInfo) { g.Messages -= int64(g.Oldest % 2) }},
		"a start since a time misses messages": {find: func(_ *memory.Log, seq store.Seq) store.Seq { return seq + 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(50) {
				if finds(fault, seed) {
					return
				}
			}
			t.Error("the judge finds nothing")
		})
	}
}

// finds reports whether the judge finds a fault in a run of random operations.
func finds(fault *broken, seed uint64) (found bool) {
	l := openTiny()
	defer l.Close()
	defer func() { found = recover() != nil }()
	f := *fault
	f.Log = l
	x := newBehind(failing{}, l, &f)
	operations := x.operations()
	names := append(slices.Sorted(maps.Keys(operations)), "place", "place", "place")
	r := rand.New(rand.NewPCG(seed, 1))
	for range 60 {
		operations[pick(r, names...)](r)
		x.check(false)
	}
	return false
}

// failing is a tester that panics.
type failing struct{}

func (failing) Helper()                           {}
func (failing) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (failing) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// TestSpilledMessagesOfGroupsWithoutNames has more groups than memory has room for names.
func TestSpilledMessagesOfGroupsWithoutNames(t *testing.T) {
	const groups = 5000
	r := rand.New(rand.NewPCG(1, 1))
	l := memory.New(memory.Options{MaxMemory: memory.MinMaxMemory, Behind: true})
	defer l.Close()
	x := newBehind(t, l, l)
	name := func() string { return fmt.Sprintf("g/%d", r.IntN(groups)) }
	for i := range 300 {
		list := make([]store.Entry, 1+r.IntN(100))
		for i := range list {
			m := store.Message{Group: name(), Time: time.Now(), Msg: []byte(`1`), Retain: r.IntN(100) == 0}
			list[i] = m.Entry(nil)
		}
		x.place(r, list)
		if i%20 == 7 {
			x.purge(name())
		}
		if i%3 > 0 {
			continue
		}
		after := store.Seq(r.IntN(int(x.newest) + 1))
		for range 10 {
			x.read(parse(t, name()), after, 1<<20, false)
		}
		x.read(parse(t, name(), name()), after, 1<<20, false)
		x.read(parse(t, "+/"+strconv.Itoa(r.IntN(groups))), after, 1<<20, false)
		x.read(parse(t, "#"), after, 1<<20, false)
		if u := l.Usage(); u.Memory > memory.MinMaxMemory || u.Messages < int64(len(x.msgs))/2 {
			t.Fatalf("after %d messages: %+v", len(x.msgs), u)
		}
	}
	for name := range x.kept {
		x.checkRetained(name)
	}
}

func TestALogThatEndsWithoutMessagesCanBeReadToItsEnd(t *testing.T) {
	l := memory.New(memory.Options{Behind: true})
	defer l.Close()
	l.Lose(7)
	l.Advance(9)
	oldest, newest := l.Bounds()
	if oldest.Seq != 9 || newest.Seq != 9 {
		t.Errorf("the log goes from %v to %v", oldest, newest)
	}
	b := &store.Batch{}
	q := store.Query{Select: group.Set{group.Exact("a")}}
	if err := l.Read(q, b); err != nil || b.Next != 9 || len(b.Gaps) != 1 || b.Gaps[0].Evicted != 7 {
		t.Errorf("a read to the end: %v, next %d, gaps %v", err, b.Next, b.Gaps)
	}
	l.Advance(3)
	if err := l.Place([]store.Entry{entry("a", 1)}, []store.Seq{12}); err != nil {
		t.Fatal(err)
	}
	if err := l.Read(q, b); err != nil || b.Next != 12 || len(b.Frames) != 1 {
		t.Errorf("with a message: %v, next %d, %d frames", err, b.Next, len(b.Frames))
	}
}
