package memory_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

func parse(t tester, filters ...string) (set group.Set) {
	t.Helper()
	for _, s := range filters {
		f, err := group.ParseFilter(s)
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, f)
	}
	return set
}

// large returns a log with a group of 100,000 messages and 20,000 groups of one. Half of the latter are
// retained. The messages of "old/…" groups expire within a minute.
func large(t testing.TB) *memory.Log {
	t.Helper()
	l := memory.New(memory.Options{MaxMemory: 256 << 20})
	const entries = 500
	var list []store.Entry
	addAll := func(m store.Message) {
		m.Time, m.Msg = time.Now(), []byte(`"a message of some length, as a sensor sends it"`)
		if list = append(list, m.Entry(nil)); len(list) == entries {
			add(t, l, list...)
			list = nil
		}
	}
	for i := range 20_000 {
		m := store.Message{Group: fmt.Sprintf("few/%d/temp", i), Retain: i%2 == 0}
		if i%4 == 0 {
			m.Group, m.Expires = fmt.Sprintf("old/%d/temp", i), time.Now().Add(time.Minute)
		}
		addAll(m)
		for range 5 {
			addAll(store.Message{Group: "many"})
		}
	}
	return l
}

// readAll reads to the end and returns how many messages there were.
func readAll(t testing.TB, l *memory.Log, q store.Query) (n int) {
	t.Helper()
	_, newest := l.Bounds()
	b := &store.Batch{Buf: make([]byte, 0, 64<<10)}
	for q.After < newest.Seq {
		if err := l.Read(q, b); err != nil {
			t.Fatal(err)
		}
		if b.Next <= q.After {
			t.Fatalf("a read at %d leads to %d", q.After, b.Next)
		}
		n += len(b.Frames)
		q.After, q.Reported = b.Next, b.Reported
	}
	return n
}

// TestNoCallHoldsTheLockForLong makes each call that may have much to do, and checks the longest hold of
// the lock, in steps.
func TestNoCallHoldsTheLockForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := large(t)
		defer l.Close()
		if u := l.Usage(); u.Messages != 120_000 {
			t.Fatalf("%+v", u)
		}
		check := func(what string) {
			t.Helper()
			if n := l.LongestHold(); n > memory.HoldMost*5/4 {
				t.Errorf("%s: a hold of %d steps, want %d", what, n, memory.HoldMost)
			}
		}
		read := func(want int, filters ...string) {
			t.Helper()
			if n := readAll(t, l, store.Query{Select: parse(t, filters...)}); n != want {
				t.Errorf("%v: %d messages, want %d", filters, n, want)
			}
			check(fmt.Sprint("read ", filters))
		}
		read(0, "+/none")
		read(0, "none/#", "+/+/none")
		read(1, "few/+/none/#", "few/77/temp")
		read(20_000, "few/#", "old/#")
		read(120_000, "#")
		for filter, want := range map[string]int{"#": 10_000, "+/7/#": 0, "few/2/#": 1, "none/#": 0} {
			if n := readAll(t, l, store.Query{Select: parse(t, filter), Retained: true}); n != want {
				t.Errorf("%d messages are retained of %s, want %d", n, filter, want)
			}
			check("retained of " + filter)
		}
		for _, filter := range []string{"many", "#", "few/#", "+/none", "few/77/#"} {
			l.Find(parse(t, filter), store.Start{Last: math.MaxInt32})
			l.Find(parse(t, filter), store.Start{Last: 3})
			l.Find(parse(t, filter), store.Start{Since: time.Now().Add(-time.Hour)})
			check("find " + filter)
		}
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		check("expiry")
		if u := l.Usage(); u.Messages != 115_000 {
			t.Errorf("5000 messages have expired: %+v", u)
		}
		if err := l.SetPolicy(parse(t, "few/#")[0], store.Policy{MaxBytes: 1}); err != nil {
			t.Fatal(err)
		}
		check("a policy of 15,000 groups")
		read(100_000, "#", "few/7/+") // and there are gaps in 15,000 groups
		if err := l.SetPolicy(parse(t, "many")[0], store.Policy{MaxMessages: 90_000}); err != nil {
			t.Fatal(err)
		}
		check("a policy that evicts 10,000")
		if err := l.SetPolicy(parse(t, "many")[0], store.Policy{MaxAge: time.Hour}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		read(0, "#")
		check("max_age")
		if u := l.Usage(); u.Messages != 0 {
			t.Errorf("all messages are too old: %+v", u)
		}
		time.Sleep(time.Minute)
		check("what has lingered")
	})
	t.Run("purge", func(t *testing.T) {
		l := large(t)
		defer l.Close()
		if err := l.Purge("many"); err != nil {
			t.Fatal(err)
		}
		if n := l.LongestHold(); n > memory.HoldMost*5/4 {
			t.Errorf("a hold of %d steps, want %d", n, memory.HoldMost)
		}
	})
}

// BenchmarkAppendBeside measures the longest append beside calls that have much to do.
func BenchmarkAppendBeside(b *testing.B) {
	for _, c := range []struct {
		name string
		call func(l *memory.Log)
	}{
		{"nothing", func(*memory.Log) { time.Sleep(time.Millisecond) }},
		{"a read that matches nothing", func(l *memory.Log) { readAll(b, l, store.Query{Select: parse(b, "+/none")}) }},
		{"a read of all", func(l *memory.Log) { readAll(b, l, store.Query{Select: parse(b, "#")}) }},
		{"find last of all", func(l *memory.Log) { l.Find(parse(b, "#"), store.Start{Last: math.MaxInt32}) }},
		{"a policy of all", func(l *memory.Log) { _ = l.SetPolicy(parse(b, "#")[0], store.Policy{MaxBytes: 1 << 40}) }},
		{"a purge", func(l *memory.Log) { _ = l.Purge("many") }},
		{"the list of groups", func(l *memory.Log) {
			for range store.EachGroup(l, "") {
			}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := large(b)
			defer l.Close()
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-stop:
						return
					default:
						c.call(l)
					}
				}
			}()
			longestHold := time.Duration(0)
			e := []store.Entry{entry("beside", 128)}
			for b.Loop() {
				begun := time.Now()
				if _, err := l.Append(context.Background(), e); err != nil {
					b.Fatal(err)
				}
				longestHold = max(longestHold, time.Since(begun))
				time.Sleep(100 * time.Microsecond)
			}
			close(stop)
			<-done
			b.ReportMetric(float64(longestHold.Microseconds()), "longest-µs")
		})
	}
}
