package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// entry returns a text of size bytes for a group.
func entry(group string, size int) store.Entry {
	m := store.Message{Group: group, Time: time.Now(), Msg: store.AppendQuote(nil, strings.Repeat("x", size))}
	return m.Entry(nil)
}

func add(t testing.TB, l *memory.Log, entries ...store.Entry) store.ID {
	t.Helper()
	id, err := l.Append(context.Background(), entries)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// fill appends messages of 128 bytes to the groups in turn until the log has evicted as many as it
// holds, and then 100 more batches, after each of which it calls look.
func fill(t testing.TB, l *memory.Log, groups int, look func()) {
	t.Helper()
	batch := make([]store.Entry, groups)
	for i := range batch {
		batch[i] = entry(fmt.Sprint("group/", i), 128)
	}
	for len(batch) < 1000 {
		batch = append(batch, batch...)
	}
	for more := 100; more > 0; {
		for at := 0; at < len(batch); at += 100 {
			add(t, l, batch[at:min(at+100, len(batch))]...)
		}
		if u := l.Usage(); u.Evicted > uint64(u.Messages) {
			more--
			look()
		}
	}
}

func TestAMessageTakesAtMost32BytesBesideItsFrame(t *testing.T) {
	t.Parallel()
	for groups, bound := range map[int]int64{1: 32 << 20, 1000: memory.DefaultMaxMemory} {
		t.Run(fmt.Sprintf("%d groups of messages of 128 bytes in %d MiB", groups, bound>>20), func(t *testing.T) {
			l := memory.New(memory.Options{MaxMemory: bound})
			defer l.Close()
			var sum, most float64
			looks := 0
			fill(t, l, groups, func() {
				u := l.Usage()
				over := float64(u.Memory-u.Bytes) / float64(u.Messages)
				sum, most = sum+over, max(most, over)
				looks++
				if u.Memory > bound || u.Memory < bound*9/10 {
					t.Fatalf("%+v: %d bytes may be taken", u, bound)
				}
			})
			t.Logf("%.1f bytes a message beside its frame, at most %.1f", sum/float64(looks), most)
			if most > 32 {
				t.Errorf("%.1f bytes a message beside its frame, want 32", most)
			}
		})
	}
}

// TestMemoryStaysWithinItsBound appends messages that are hard to keep within a bound, and checks the
// usage after each. Retained messages and groups take a part of the memory, history the rest.
func TestMemoryStaysWithinItsBound(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		name   string
		bound  int64
		n      int
		least  int64 // messages to be held in the end
		server store.Policy
		next   func(i int) store.Entry
	}{
		{"2000 groups of small messages", 4 << 20, 50_000, 5000, store.Policy{},
			func(i int) store.Entry { return entry(fmt.Sprint("group/", i%2000), i%50) }},
		{"few messages of 1 MB", 8 << 20, 50, 3, store.Policy{},
			func(i int) store.Entry { return entry(fmt.Sprint("group/", i%3), 1_000_000) }},
		{"sizes of 0 to 100 kB", 8 << 20, 1500, 60, store.Policy{},
			func(i int) store.Entry { return entry(fmt.Sprint("group/", i%17), random.IntN(100_000)) }},
		{"one message of each of 100000 groups", 64 << 20, 100_000, 10_000, store.Policy{},
			func(i int) store.Entry { return entry(fmt.Sprint("group/", i), 128) }},
		{"one message of each of 20000 groups, of 0 to 2000 bytes", 24 << 20, 20_000, 2000, store.Policy{},
			func(i int) store.Entry { return entry(fmt.Sprint("group/", i), random.IntN(2000)) }},
		{"2000 groups that keep one message", 4 << 20, 100_000, 2000, store.Policy{MaxMessages: 1},
			func(i int) store.Entry { return entry(fmt.Sprint("group/", random.IntN(2000)), 128) }},
		{"retained messages of 500 groups", 4 << 20, 20_000, 1000, store.Policy{},
			func(i int) store.Entry {
				m := store.Message{Group: fmt.Sprint("group/", i%500), Time: time.Now(), Retain: true,
					Clear: i%7 == 0, Msg: store.AppendQuote(nil, strings.Repeat("x", random.IntN(1000)))}
				return m.Entry(nil)
			}},
		{"retained messages of 60 groups, of 0 to 20 kB", 1 << 20, 5000, 10, store.Policy{},
			func(i int) store.Entry {
				m := store.Message{Group: fmt.Sprint("group/", random.IntN(60)), Time: time.Now(), Retain: i%3 > 0,
					Clear: i%5 == 0, Msg: store.AppendQuote(nil, strings.Repeat("x", 1<<random.IntN(15)))}
				return m.Entry(nil)
			}},
		{"20 groups of all sizes", 1 << 20, 5000, 50, store.Policy{},
			func(i int) store.Entry { return entry(fmt.Sprint("group/", i%20), 1<<random.IntN(17)) }},
		{"compressed", 4 << 20, 50_000, 30_000, store.Policy{Compress: store.Yes},
			func(i int) store.Entry { return entry(fmt.Sprint("group/", i%3), 300) }},
	} {
		t.Run(fmt.Sprintf("%s in %d MiB", c.name, c.bound>>20), func(t *testing.T) {
			l := memory.New(memory.Options{MaxMemory: c.bound, Server: c.server})
			defer l.Close()
			refused := 0
			for i := range c.n {
				_, err := l.Append(context.Background(), []store.Entry{c.next(i)})
				if errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrTooManyGroups) {
					refused++
				} else if err != nil {
					t.Fatal(err)
				}
				if u := l.Usage(); u.Memory > c.bound || u.Memory < u.Bytes && c.server.Compress != store.Yes {
					t.Fatalf("message %d: %+v", i, u)
				}
			}
			u := l.Usage()
			t.Logf("%+v, %.1f bytes a message, refused %d", u, float64(u.Memory)/float64(u.Messages), refused)
			if u.Messages < c.least {
				t.Errorf("%d messages are held, want %d", u.Messages, c.least)
			}
		})
	}
}

// TestTheOldestMessagesOfTheLargestGroupAreEvictedFirst checks that small groups keep their messages.
func TestTheOldestMessagesOfTheLargestGroupAreEvictedFirst(t *testing.T) {
	t.Parallel()
	l := memory.New(memory.Options{MaxMemory: 2 << 20})
	defer l.Close()
	for i := range 50 {
		add(t, l, entry(fmt.Sprint("small/", i), 100), entry("middle", 100))
	}
	for range 10_000 {
		add(t, l, entry("large", 1000))
	}
	for g := range store.EachGroup(l, "") {
		switch {
		case g.Group == "middle" && g.Messages != 50, strings.HasPrefix(g.Group, "small/") && g.Messages != 1:
			t.Errorf("%s has %d messages left", g.Group, g.Messages)
		case g.Group == "large" && (g.Messages < 1000 || g.Newest != 10_100):
			t.Errorf("large has %d messages, up to %d", g.Messages, g.Newest)
		}
	}
}

// TestMemoryIsFreedWithTheMessages checks that an empty log uses nothing but spare blocks.
func TestMemoryIsFreedWithTheMessages(t *testing.T) {
	t.Parallel()
	l := memory.New(memory.Options{MaxMemory: 64 << 20})
	defer l.Close()
	before := l.Usage().Memory
	for i := range 500 {
		add(t, l, entry(fmt.Sprint("group/", i%100), 10_000), entry("large", 100_000))
	}
	for g := range store.EachGroup(l, "") {
		if err := l.Purge(g.Group); err != nil {
			t.Fatal(err)
		}
	}
	if u := l.Usage(); u.Messages != 0 || u.Bytes != 0 || u.Memory > before+5<<20 {
		t.Errorf("with nothing held: %+v", u)
	}
}

// TestGroupsComeAndGo uses many more groups than the limit, and purges each before the next. Policies
// with MaxAge, and evicted bytes that are not removed yet, must not outlive a dropped group.
func TestGroupsComeAndGo(t *testing.T) {
	t.Parallel()
	l := memory.New(memory.Options{MaxGroups: 10, Server: store.Policy{MaxMessages: 1, MaxAge: time.Hour}})
	defer l.Close()
	all, err := group.ParseFilter("#")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		name := fmt.Sprint("group/", i)
		add(t, l, entry(name, 10), entry(name, 10))
		if i%3 == 0 {
			l.SetPolicy(all, store.Policy{MaxAge: time.Duration(1+i) * time.Minute})
		}
		if err := l.Purge(name); err != nil {
			t.Fatal(err)
		}
	}
	if u := l.Usage(); u.Groups > 10 || u.Messages != 0 {
		t.Errorf("%+v", u)
	}
}

// TestARetainedMessageIsReplacedWhenTheirMemoryIsFull fills the memory for retained messages first.
func TestARetainedMessageIsReplacedWhenTheirMemoryIsFull(t *testing.T) {
	t.Parallel()
	l := memory.New(memory.Options{MaxMemory: 1 << 20})
	defer l.Close()
	retain := func(i int, text string) error {
		m := store.Message{Group: fmt.Sprint("group/", i), Time: time.Now(), Retain: true, Msg: store.AppendQuote(nil, text)}
		_, err := l.Append(context.Background(), []store.Entry{m.Entry(nil)})
		return err
	}
	n := 0
	for ; n < 10_000 && retain(n, "1") == nil; n++ {
	}
	if err := retain(n, "1"); !errors.Is(err, store.ErrFull) && !errors.Is(err, store.ErrTooManyGroups) {
		t.Fatalf("%d retained messages in 1 MiB: %v", n, err)
	}
	for i := range 10 * n {
		if err := retain(i%n, "2"); err != nil {
			t.Fatalf("replacing %d of %d: %v", i%n, n, err)
		}
	}
	if u := l.Usage(); u.Memory > 1<<20 {
		t.Errorf("%+v", u)
	}
}
