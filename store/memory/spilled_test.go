package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// put places messages after the newest one.
func put(t tester, l *memory.Log, list ...store.Message) (last store.Seq) {
	t.Helper()
	_, newest := l.Bounds()
	entries, seqs := make([]store.Entry, len(list)), make([]store.Seq, len(list))
	for i := range list {
		if list[i].Time.IsZero() {
			list[i].Time = time.Now()
		}
		if list[i].Msg == nil {
			list[i].Msg = []byte(`1`)
		}
		entries[i], seqs[i] = list[i].Entry(nil), newest.Seq+store.Seq(i)+1
	}
	if err := l.Place(entries, seqs); err != nil {
		t.Fatalf("place: %v", err)
	}
	return newest.Seq + store.Seq(len(list))
}

// tooLarge is a message that memory does not take.
func tooLarge(name string) store.Message {
	return store.Message{Group: name, Msg: store.AppendQuote(nil, strings.Repeat("x", memory.MinMaxMemory))}
}

func groupOf(t testing.TB, l *memory.Log, name string) store.GroupInfo {
	t.Helper()
	for g := range store.EachGroup(l, name) {
		if g.Group == name {
			return g
		}
	}
	return store.GroupInfo{}
}

// TestSpilledMessagesAreCounted holds that those that expire are not, and that nobody relies on a count that may be wrong.
func TestSpilledMessagesAreCounted(t *testing.T) {
	l := openTiny()
	defer l.Close()
	expiring := tooLarge("a")
	expiring.Expires = time.Now().Add(time.Hour)
	put(t, l, store.Message{Group: "a"}, tooLarge("a"), expiring, store.Message{Group: "a"}, store.Message{Group: "b"})
	for name, want := range map[string]int64{"a": 2, "b": 0} {
		if s, sure := l.Spilled(name); s.Messages != want || !sure {
			t.Errorf("%d messages of %s are spilled, sure: %v", s.Messages, name, sure)
		}
	}
	if err := l.Evict(memory.Eviction{Group: "a", Through: 1, Unknown: true}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "unknown"} {
		if s, sure := l.Spilled(name); sure {
			t.Errorf("%d messages of %s are spilled, which nobody knows", s.Messages, name)
		}
	}
}

func TestAReadSaysHowFarMessagesAreSpilled(t *testing.T) {
	l := openTiny()
	defer l.Close()
	put(t, l, store.Message{Group: "a"}, store.Message{Group: "b"})
	if h := l.Horizon(parse(t, "#"), 0); h != 0 {
		t.Fatalf("nothing is spilled, but the horizon is %d", h)
	}
	put(t, l, tooLarge("a"), store.Message{Group: "a"}) // spills 1 and 3
	for _, c := range []struct {
		filters string
		after   store.Seq
		want    store.Seq
	}{
		{"a", 0, 3}, {"a", 2, 3}, {"a", 3, 0}, {"b", 0, 0}, {"b a", 0, 3}, {"#", 0, 3}, {"+/#", 1, 3}, {"a/+", 0, 0}, {"none", 0, 0},
	} {
		set := parse(t, strings.Fields(c.filters)...)
		if h := l.Horizon(set, c.after); h != c.want {
			t.Errorf("the horizon of %s after %d is %d, want %d", c.filters, c.after, h, c.want)
		}
		b := &store.Batch{}
		err := l.Read(store.Query{Select: set, After: c.after}, b)
		var spilled *memory.SpilledError
		if errors.As(err, &spilled) != (c.want > 0) || spilled != nil && spilled.Through != c.want {
			t.Errorf("a read of %s after %d: %v, want %d", c.filters, c.after, err, c.want)
		}
	}
	if g := groupOf(t, l, "a"); g.Messages != 3 || g.Oldest != 1 || g.Newest != 4 {
		t.Errorf("the group has %+v, want 3 messages", g)
	}
}

func TestAMessageEvictedDuringAReadBehindIsReportedAndNotDelivered(t *testing.T) {
	l := openTiny()
	defer l.Close()
	groups := []string{"a", "b", "a", "c"}
	b := &store.Batch{}
	for i, name := range groups { // what is read from the log behind
		m := store.Message{Group: name, Time: time.Now(), Msg: []byte(fmt.Sprint(i))}
		put(t, l, m)
		e := m.Entry(nil)
		at := len(b.Buf)
		b.Buf, _ = e.AppendFrame(b.Buf, store.ID{Seq: store.Seq(i + 1)})
		b.Frames = append(b.Frames, store.Frame{Seq: store.Seq(i + 1), Group: name, At: at})
	}
	for i := range b.Frames {
		f := &b.Frames[i]
		end := len(b.Buf)
		if i < len(b.Frames)-1 {
			end = b.Frames[i+1].At
		}
		f.Bytes = b.Buf[f.At:end:end]
	}
	put(t, l, tooLarge("a"))
	want := slices.Concat(b.Frames[1].Bytes, b.Frames[3].Bytes)
	if err := l.Purge("a"); err != nil {
		t.Fatal(err)
	}
	if err := l.Gaps(store.Query{Select: parse(t, "+")}, b); err != nil {
		t.Fatal(err)
	}
	if len(b.Gaps) != 1 || len(b.Frames) != 2 || !bytes.Equal(b.Buf, want) {
		t.Fatalf("gaps %v, %d frames, bytes %q; want one gap and %q", b.Gaps, len(b.Frames), b.Buf, want)
	}
	for i := range b.Frames {
		if f := &b.Frames[i]; f.Group == "a" || !bytes.Equal(f.Bytes, b.Buf[f.At:f.At+len(f.Bytes)]) {
			t.Errorf("frame %d of %s does not lie in the buffer", f.Seq, f.Group)
		}
	}
}

func TestSpilledMessagesThatExpireAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openTiny()
		defer l.Close()
		put(t, l, store.Message{Group: "a"}, store.Message{Group: "a", Expires: time.Now().Add(time.Minute)}, tooLarge("b"))
		large := tooLarge("a")
		large.Expires = time.Now().Add(time.Hour)
		put(t, l, large) // spills all of the group
		if g := groupOf(t, l, "a"); g.Messages != 1 || g.Newest != 1 {
			t.Errorf("%+v, want one message", g)
		}
		for _, c := range []struct {
			after time.Duration
			want  store.Seq
		}{{0, 4}, {2 * time.Minute, 4}, {time.Hour, 1}} {
			time.Sleep(c.after)
			if h := l.Horizon(parse(t, "a"), 0); h != c.want {
				t.Errorf("%v later the horizon is %d, want %d", c.after, h, c.want)
			}
		}
	})
}

func TestAgeOfSpilledMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New(memory.Options{MaxMemory: memory.MinMaxMemory, Behind: true, Server: store.Policy{MaxAge: time.Hour}})
		defer l.Close()
		sent := time.Now()
		put(t, l, store.Message{Group: "a"})
		time.Sleep(10 * time.Minute)
		put(t, l, tooLarge("a"))
		time.Sleep(10 * time.Minute)
		put(t, l, store.Message{Group: "a"})
		if over := slices.Collect(l.Excesses()); len(over) > 0 {
			t.Fatalf("nothing is too old: %+v", over)
		}

		time.Sleep(time.Until(sent.Add(61 * time.Minute)))
		over := slices.Collect(l.Excesses())
		if len(over) != 1 || over[0].Group != "a" || over[0].Messages != 3 || over[0].Horizon != 2 {
			t.Fatalf("one group has a message that is too old, but: %+v", over)
		}
		e := memory.Eviction{Group: "a", Through: 1, Time: sent, Next: sent.Add(10 * time.Minute), Messages: 1, Bytes: over[0].Bytes / 3}
		if err := l.Evict(e); err != nil {
			t.Fatal(err)
		}
		if over := slices.Collect(l.Excesses()); len(over) > 0 || l.Floor("a") != 1 {
			t.Errorf("after the eviction: %+v, floor %d", over, l.Floor("a"))
		}

		time.Sleep(time.Until(sent.Add(81 * time.Minute))) // the message in memory is too old, and so are those before it
		l.Find(parse(t, "a"), store.Start{Last: 1})
		if h := l.Horizon(parse(t, "a"), 0); h != 0 || l.Floor("a") != 3 {
			t.Errorf("all are too old: horizon %d, floor %d", h, l.Floor("a"))
		}
		over = slices.Collect(l.Excesses())
		if len(over) != 1 || over[0].Told.Through != 3 || over[0].Told.Messages != 2 {
			t.Errorf("two messages were evicted here: %+v", over)
		}
	})
}

func TestEvictionsAreToldOnce(t *testing.T) {
	l := memory.New(memory.Options{MaxMemory: memory.MinMaxMemory, Behind: true, Server: store.Policy{MaxMessages: 1}})
	defer l.Close()
	a := store.Message{Group: "a"}
	put(t, l, a, a, a)
	over := slices.Collect(l.Excesses())
	if len(over) != 1 || over[0].Told.Through != 2 || over[0].Told.Messages != 2 {
		t.Fatalf("two messages were evicted: %+v", over)
	}
	put(t, l, a) // before the eviction is told
	if err := l.Evict(over[0].Told); err != nil {
		t.Fatal(err)
	}
	over = slices.Collect(l.Excesses())
	if len(over) != 1 || over[0].Told.Through != 3 || over[0].Told.Messages != 1 {
		t.Fatalf("one more message was evicted: %+v", over)
	}
}

func TestEvictionsThatAreKnownBeforeTheirMessages(t *testing.T) {
	l := openTiny()
	defer l.Close()
	if err := l.Evict(memory.Eviction{Group: "a", Through: 2, Messages: 9}); err != nil {
		t.Fatal(err)
	}
	put(t, l, store.Message{Group: "a"}, store.Message{Group: "a", Retain: true}, store.Message{Group: "a"}, store.Message{Group: "b"})
	if g := groupOf(t, l, "a"); g.Messages != 1 || g.Oldest != 3 || !g.Retained {
		t.Errorf("%+v, want message 3, and 2 retained", g)
	}
	b := &store.Batch{}
	if err := l.Read(store.Query{Select: parse(t, "#")}, b); err != nil || len(b.Gaps) != 1 || b.Gaps[0].Evicted != 2 {
		t.Errorf("gaps %v, %v; want one at 2", b.Gaps, err)
	}
}

func TestLossesInAllGroups(t *testing.T) {
	l := openTiny()
	defer l.Close()
	put(t, l, store.Message{Group: "a"}, store.Message{Group: "b"}, store.Message{Group: "a"})
	l.Lose(2)
	for filters, gaps := range map[string]int{"#": 1, "a": 1, "none": 1, "a b": 2} {
		b := &store.Batch{Buf: make([]byte, 0, 1000)}
		q := store.Query{Select: parse(t, strings.Fields(filters)...)}
		if err := l.Read(q, b); err != nil || len(b.Gaps) != gaps || b.Gaps[0].Evicted != 2 {
			t.Errorf("%s: gaps %v, %v", filters, b.Gaps, err)
		}
		q.Reported = b.Reported
		if err := l.Read(q, b); err != nil || len(b.Gaps) > 0 {
			t.Errorf("%s: reported again: %v, %v", filters, b.Gaps, err)
		}
	}
	if g := groupOf(t, l, "a"); g.Messages != 2 {
		t.Errorf("messages were evicted: %+v", g)
	}
}

func TestAdmitRefusesWhatAppendRefuses(t *testing.T) {
	l := openTiny() // 3 groups
	defer l.Close()
	put(t, l, store.Message{Group: "a"}, store.Message{Group: "b"}, store.Message{Group: "c"}, store.Message{Group: "c"})
	entry := func(m store.Message) []store.Entry {
		if m.Msg == nil {
			m.Msg = []byte(`1`)
		}
		return []store.Entry{m.Entry(nil)}
	}
	for _, c := range []struct {
		m    store.Message
		want error
	}{
		{store.Message{Group: "a"}, nil},
		{store.Message{Group: "d"}, store.ErrTooManyGroups},
		{tooLarge("a"), store.ErrFull},
		{store.Message{Group: "a", Event: strings.Repeat("e", 40_000)}, store.ErrFull},
	} {
		if err := l.Admit(entry(c.m)); !errors.Is(err, c.want) {
			t.Errorf("%.40q: %v, want %v", c.m.Group, err, c.want)
		}
	}
	if err := l.Purge("b"); err != nil {
		t.Fatal(err)
	}
	put(t, l, store.Message{Group: "b"}, tooLarge("b"), store.Message{Group: "d"}) // Place takes all
	if err := l.Admit(entry(store.Message{Group: "d"})); err != nil {
		t.Errorf("a group that exists: %v", err)
	}
	for _, name := range []string{"a", "d"} {
		if err := l.Purge(name); err != nil {
			t.Fatal(err)
		}
	}
	two := slices.Concat(entry(store.Message{Group: "e"}), entry(store.Message{Group: "f"}))
	if err := l.Admit(two); !errors.Is(err, store.ErrTooManyGroups) {
		t.Errorf("two groups hold nothing, but three would have to be dropped: %v", err)
	}
	if err := l.Admit(entry(store.Message{Group: "e"})); err != nil {
		t.Errorf("two groups hold nothing, but another is refused: %v", err)
	}
	if g := groupOf(t, l, "b"); g.Messages != 2 {
		t.Errorf("a group with spilled messages was dropped: %+v", g)
	}
}

func TestResetBeginsAnEmptyLog(t *testing.T) {
	l := openTiny()
	defer l.Close()
	wake := make(chan struct{}, 1)
	defer l.Watch(wake)()
	put(t, l, store.Message{Group: "a", Retain: true}, tooLarge("a"), store.Message{Group: "b"})
	<-wake
	if err := l.SetPolicy(group.Exact("a"), store.Policy{MaxMessages: 1}); err != nil {
		t.Fatal(err)
	}
	l.Lose(2)
	b := &store.Batch{}
	_ = l.Read(store.Query{Select: parse(t, "#"), After: 2}, b) // its scratch outlives the reset

	l.Reset("another", 1)
	<-wake
	oldest, newest := l.Bounds()
	if want := (store.ID{Epoch: "another", Seq: 1}); oldest != want || newest != want {
		t.Errorf("bounds %v to %v, want %v", oldest, newest, want)
	}
	if u := l.Usage(); u.Groups+u.Messages+u.Bytes > 0 || l.Policy(group.Exact("a")).MaxMessages > 0 {
		t.Errorf("the log has %+v", u)
	}
	put(t, l, store.Message{Group: "a"}, store.Message{Group: "a"})
	b.Buf = make([]byte, 0, 1000)
	if err := l.Read(store.Query{Select: parse(t, "#")}, b); err != nil || len(b.Frames) != 2 || len(b.Gaps) > 0 || b.Epoch != "another" {
		t.Errorf("%d messages of %s, gaps %v, %v", len(b.Frames), b.Epoch, b.Gaps, err)
	}
}

func TestSpillingHoldsTheLockBriefly(t *testing.T) {
	l := memory.New(memory.Options{MaxMemory: 16 << 20, Behind: true})
	defer l.Close()
	list := make([]store.Message, 500)
	for i := range 100_000 {
		list[i%len(list)] = store.Message{Group: fmt.Sprintf("group/%d/%d", i%2, i/5%10_000)}
		if i%5 > 0 {
			list[i%len(list)].Group = "many"
		}
		if i%len(list) == len(list)-1 {
			put(t, l, list...)
		}
	}
	all, one := parse(t, "#"), some("nothing")
	if l.Horizon(all, 0) == 0 {
		t.Fatal("nothing is spilled")
	}
	l.Horizon(one, 0)
	for range l.Excesses() {
	}
	b := &store.Batch{}
	if err := l.Gaps(store.Query{Select: one}, b); err != nil {
		t.Fatal(err)
	}
	if err := l.Evict(memory.Eviction{Group: "many", Through: put(t, l, store.Message{Group: "many"})}); err != nil {
		t.Fatal(err)
	}
	if n := l.LongestHold(); n > memory.HoldMost {
		t.Errorf("the lock was held for %d steps, want at most %d", n, memory.HoldMost)
	}
}

// TestReadersBesideEvictions reads while messages are placed, spilled and evicted.
func TestReadersBesideEvictions(t *testing.T) {
	l := memory.New(memory.Options{MaxMemory: memory.MinMaxMemory, Behind: true, Server: store.Policy{MaxBytes: 3 << 20}})
	defer l.Close()
	var mu sync.Mutex // guards the log behind
	x := newBehind(t, l, l)
	ctx, done := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer done()
	for _, filters := range []string{"#", "a/b", "a/+ d"} {
		readers.Go(func() {
			for ctx.Err() == nil {
				readBeside(t, x, &mu, parse(t, strings.Fields(filters)...))
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 200 {
		entries := x.list(r, pick(r, 100, 3000), x.names)
		mu.Lock()
		seqs := x.append(entries)
		mu.Unlock()
		if err := l.Place(entries, seqs); err != nil {
			t.Error(err)
		}
		if i%10 == 0 {
			x.janitor()
		}
		if i%50 == 0 {
			if err := l.Purge(pick(r, x.names...)); err != nil {
				t.Error(err)
			}
		}
	}
}

// readBeside reads all messages that there are now. Each must be delivered or reported.
func readBeside(t *testing.T, x *behind, mu *sync.Mutex, set group.Set) {
	l := x.log
	_, end := l.Bounds()
	b := &store.Batch{Buf: make([]byte, 0, 64<<10)}
	got, gap := map[store.Seq]bool{}, store.Seq(0)
	for q := (store.Query{Select: set}); q.After < end.Seq; q.After, q.Reported = b.Next, b.Reported {
		var spilled *memory.SpilledError
		if err := l.Read(q, b); errors.As(err, &spilled) {
			mu.Lock()
			msgs := x.msgs
			mu.Unlock()
			b.Reset(x.epoch)
			for _, m := range msgs {
				if m.Seq > q.After && m.Seq <= spilled.Through && set.Match(m.Group) && m.Seq > l.Floor(m.Group) {
					b.Frames = append(b.Frames, m.Frame)
				}
			}
			if err := l.Gaps(q, b); err != nil {
				t.Error(err)
				return
			}
			b.Next = spilled.Through
		} else if err != nil {
			t.Error(err)
			return
		}
		for _, f := range b.Frames {
			got[f.Seq] = true
		}
		for _, g := range b.Gaps {
			gap = max(gap, g.Evicted)
		}
	}
	mu.Lock()
	msgs := x.msgs
	mu.Unlock()
	for _, m := range msgs {
		if m.Seq <= end.Seq && m.Seq > gap && set.Match(m.Group) && !got[m.Seq] {
			t.Errorf("%d of %s was neither delivered nor reported (gap up to %d)", m.Seq, m.Group, gap)
			return
		}
	}
}
