package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

var findTests = []test{
	{"Find without a Start leads to all messages held", findAll},
	{"Find Last leads to that many of the newest messages", findLast},
	{"Find Last does not count expired messages", findLastExpired},
	{"Find Since leads to the messages of that time or later", findSince},
	{"Find Since before evicted messages leads to a gap", findSinceEvicted},
	{"Find in an empty log leads to the next message", findEmpty},
}

// found reads after the position that Find returns.
func (l *log) found(set string, s store.Start) *store.Batch {
	l.t.Helper()
	return l.read(store.Query{Select: filters(set), After: l.find(filters(set), s)})
}

// find is Find, which must not fail.
func (l *log) find(set group.Set, s store.Start) store.Seq {
	l.t.Helper()
	pos, err := l.Find(set, s)
	if err != nil {
		l.t.Fatalf("Find: %v", err)
	}
	return pos
}

// hourly returns a log with 1…8, one per hour and the last one an hour ago: odd ones in a, even ones in
// b/x.
func hourly(e *env) (l *log, start time.Time) {
	l = e.start(Options{})
	start = time.Now().Add(-9 * time.Hour)
	for i := 1; i <= 8; i++ {
		m := text([]string{"b/x", "a"}[i%2], fmt.Sprint(i))
		m.Time = start.Add(time.Duration(i) * time.Hour)
		l.add(m)
	}
	return l, start
}

func findAll(e *env) {
	l, _ := hourly(e)
	for set, want := range map[string]string{
		"a": "1 3 5 7", "b/x": "2 4 6 8", "#": numbers(1, 8), "a b/x": numbers(1, 8), "c": "", "b/+ c": "2 4 6 8",
	} {
		wantTexts(e, texts(l.found(set, store.Start{})), want)
	}
	l.policy("a", store.Policy{MaxMessages: 1})
	wantTexts(e, texts(l.found("#", store.Start{})), "2 4 6 7 8")
	wantTexts(e, texts(l.found("a", store.Start{})), "7")
}

func findLast(e *env) {
	l, _ := hourly(e)
	for _, c := range []struct {
		set  string
		n    int
		want string
	}{
		{"a", 1, "7"}, {"a", 3, "3 5 7"}, {"a", 4, "1 3 5 7"}, {"a", 100, "1 3 5 7"},
		{"#", 1, "8"}, {"#", 3, "6 7 8"}, {"#", 8, numbers(1, 8)}, {"#", 9, numbers(1, 8)},
		{"a b/x", 3, "6 7 8"}, {"a a", 2, "5 7"}, {"a #", 2, "7 8"}, {"b/+ c", 2, "6 8"}, {"b/#", 1, "8"},
		{"c", 5, ""}, {"c/#", 5, ""},
	} {
		e.Run(fmt.Sprintf("%d of %s", c.n, c.set), func(t *testing.T) {
			l := l.in(t)
			b := l.found(c.set, store.Start{Last: c.n})
			wantTexts(t, texts(b), c.want)
			if len(b.Gaps) > 0 {
				t.Errorf("gaps %v", b.Gaps)
			}
		})
	}
	l.policy("a", store.Policy{MaxMessages: 1})
	wantTexts(e, texts(l.found("#", store.Start{Last: 3})), "6 7 8")
	wantTexts(e, texts(l.found("#", store.Start{Last: 5})), "2 4 6 7 8")
	wantTexts(e, texts(l.found("a", store.Start{Last: 2})), "7")
}

func findLastExpired(e *env) {
	l := e.start(Options{})
	l.appendTexts("a", "1", "2")
	l.add(expiring(-time.Second, "a", "3"), expiring(-time.Second, "b", "4"))
	for _, set := range []string{"a", "#", "a b"} {
		wantTexts(e, texts(l.found(set, store.Start{Last: 1})), "2")
		wantTexts(e, texts(l.found(set, store.Start{Last: 2})), "1 2")
	}
}

func findSince(e *env) {
	l, start := hourly(e)
	for _, c := range []struct {
		set  string
		from time.Duration
		want string
	}{
		{"#", 0, numbers(1, 8)}, {"#", time.Hour, numbers(1, 8)}, {"#", time.Hour + time.Millisecond, numbers(2, 8)},
		{"#", 5*time.Hour - time.Minute, "5 6 7 8"}, {"#", 8 * time.Hour, "8"}, {"#", 9 * time.Hour, ""},
		{"a", 5 * time.Hour, "5 7"}, {"a", 6 * time.Hour, "7"}, {"a", 8 * time.Hour, ""},
		{"a b/x", 6 * time.Hour, "6 7 8"}, {"b/#", 6 * time.Hour, "6 8"}, {"a a", 6 * time.Hour, "7"},
		{"c", 0, ""}, {"a", 1000 * time.Hour, ""}, {"a", -1000 * time.Hour, "1 3 5 7"},
	} {
		e.Run(fmt.Sprintf("%v of %s", c.from, c.set), func(t *testing.T) {
			l := l.in(t)
			b := l.found(c.set, store.Start{Since: start.Add(c.from)})
			wantTexts(t, texts(b), c.want)
			if len(b.Gaps) > 0 {
				t.Errorf("gaps %v", b.Gaps)
			}
		})
	}
}

func findSinceEvicted(e *env) {
	l, start := hourly(e)
	l.policy("a", store.Policy{MaxMessages: 2}) // 1 and 3 are evicted
	for _, c := range []struct {
		set        string
		from       time.Duration
		want, gaps string
	}{
		{"a", 0, "5 7", "a:3"},
		{"a", 3 * time.Hour, "5 7", "a:3"},
		{"a", 3*time.Hour + time.Millisecond, "5 7", ""},
		{"a", 6 * time.Hour, "7", ""},
		{"b/x", 0, "2 4 6 8", ""},
		{"#", 4 * time.Hour, "4 5 6 7 8", ""},
		{"#", 3 * time.Hour, "4 5 6 7 8", "#:3"},
		{"b/# a", 6 * time.Hour, "6 7 8", ""},
	} {
		e.Run(fmt.Sprintf("%v of %s", c.from, c.set), func(t *testing.T) {
			l := l.in(t)
			b := l.found(c.set, store.Start{Since: start.Add(c.from)})
			wantTexts(t, texts(b), c.want)
			if got := l.gaps(b); got != c.gaps {
				t.Errorf("gaps %q, want %q", got, c.gaps)
			}
		})
	}
	if err := l.Purge("a"); err != nil {
		e.Fatal(err)
	}
	if got := l.gaps(l.found("a", store.Start{Since: start})); got != "a:7" {
		e.Errorf("gaps %q of a purged group", got)
	}
}

func findEmpty(e *env) {
	l := e.start(Options{})
	for _, s := range []store.Start{{}, {Last: 3}, {Since: time.Now().Add(-time.Hour)}} {
		before := l.newest()
		pos := l.find(filters("a"), s)
		l.appendTexts("a", "x")
		b := l.read(store.Query{Select: filters("a"), After: max(pos, before)})
		if pos > before || len(b.Frames) != 1 {
			e.Errorf("%+v leads to %d in a log that ends at %d", s, pos, before)
		}
	}
}
