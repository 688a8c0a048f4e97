package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// boundTests test counts and limits.
var boundTests = []test{
	{"Bounds: messages held have ids above oldest, up to newest", bounds},
	{"Bounds: oldest is never above newest, 4 writers and a reader", boundsAtOnce},
	{"Groups describes each group", groupsDescribed},
	{"Groups returns pages sorted by name, 1000 groups", groupPages},
	{"Usage has the sums over all groups", usage},
	{"memory stays within its bound, 20 MiB of messages in 2 MiB", withinMemory},
	{"ErrFull changes nothing", full},
	{"ErrFull if retained messages fill the memory", fullOfRetained},
	{"ErrTooManyGroups changes nothing", tooMany},
	{"ErrTooManyGroups for two new groups if one is allowed", oneTooMany},
}

func bounds(e *env) {
	l := e.start(Options{})
	old, newest := l.Bounds()
	if old != newest || newest.Epoch == "" {
		e.Errorf("an empty log goes from %v to %v", old, newest)
	}
	l.appendNumbers("a", 1, 10)
	check := func(held, last int) {
		e.Helper()
		oldest, newest := l.Bounds()
		if oldest.Epoch != newest.Epoch || oldest.Seq >= l.at(held) || newest.Seq != l.at(last) {
			e.Errorf("the log goes from %v to %v; held are %d to %d", oldest, newest, l.at(held), l.at(last))
		}
		if oldest.Seq < l.at(held)-1 {
			e.Logf("oldest is %d, where %d is the first held", oldest.Seq, l.at(held))
		}
	}
	check(1, 10)
	l.policy("a", store.Policy{MaxMessages: 4})
	check(7, 10)
	l.appendTexts("b", "11")
	if err := l.Purge("a"); err != nil {
		e.Fatal(err)
	}
	check(11, 11)
	if err := l.Purge("b"); err != nil {
		e.Fatal(err)
	}
	check(12, 11)
}

func boundsAtOnce(e *env) {
	l := e.start(Options{Server: store.Policy{MaxMessages: 1}})
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			if oldest, newest := l.Bounds(); oldest.Seq > newest.Seq {
				e.Errorf("the log goes from %v to %v", oldest, newest)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	writers(4, 500, func(int, int) { l.add(text("a", "1"), text("a", "2"), text("a", "3")) })
	close(stop)
	reader.Wait()
}

func groupsDescribed(e *env) {
	l := e.start(Options{})
	m := newModel(l.epoch(), store.Policy{})
	m.checkGroups(l)
	for i := range 30 {
		m.add(l, []*store.Message{text([]string{"a", "a/b", "c"}[i%3], strings.Repeat("x", i))})
	}
	m.add(l, []*store.Message{retain("d", "kept")})
	m.checkGroups(l)
	for _, f := range []string{"a", "d"} {
		m.setPolicy(filters(f)[0], store.Policy{MaxBytes: 1})
		l.policy(f, store.Policy{MaxBytes: 1})
	}
	m.checkGroups(l)
	for g := range store.EachGroup(l, "") {
		if g.Rate <= 0 || g.Rate > 30 {
			e.Errorf("%s has a rate of %v messages a second", g.Group, g.Rate)
		}
	}
}

// groupPages reads the groups with each limit, and with each prefix.
func groupPages(e *env) {
	l := e.start(Options{})
	var list []*store.Message
	for i := range 1000 {
		list = append(list, text(fmt.Sprintf("%c/%d", 'a'+i%3, i*7919%1000), "x"))
	}
	l.add(list...)
	for i := range 100 { // these groups hold nothing and are on no page
		if err := l.Purge(list[i*3].Group); err != nil {
			e.Fatal(err)
		}
	}
	for _, prefix := range []string{"", "b/", "b/9", "c", "d", "a/1"} {
		var want []string
		for i, m := range list {
			if (i >= 300 || i%3 > 0) && strings.HasPrefix(m.Group, prefix) {
				want = append(want, m.Group)
			}
		}
		slices.Sort(want)
		for _, limit := range []int{1, 7, 300, 5000} {
			var got []string
			for q := (store.GroupQuery{Prefix: prefix, Limit: limit}); ; {
				page, next := l.Groups(q)
				if len(page) > limit || next != "" && next <= q.After {
					e.Fatalf("a page of %d groups after %q, limit %d, next %q", len(page), q.After, limit, next)
				}
				for _, g := range page {
					got = append(got, g.Group)
				}
				if q.After = next; next == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				e.Errorf("prefix %q in pages of %d: %d groups, want %d", prefix, limit, len(got), len(want))
			}
		}
	}
	for _, at := range []time.Duration{0, 24 * time.Hour} {
		page, _ := l.Groups(store.GroupQuery{Limit: 1, Prefix: "b/", Time: time.Now().Add(at).UnixMilli()})
		if len(page) != 1 || (page[0].Rate > 0) != (at == 0) {
			e.Errorf("%v later: %+v", at, page)
		}
	}
}

// checkGroups fails unless Groups agrees with the model.
func (m *model) checkGroups(l *log) {
	l.t.Helper()
	if wrong := m.wrongGroups(l); wrong != "" {
		l.t.Fatalf("%s", wrong)
	}
}

// wrongGroups says where Groups does not agree with the model, or "".
func (m *model) wrongGroups(l *log) string {
	listed := map[string]store.GroupInfo{}
	for g := range store.EachGroup(l, "") {
		if _, twice := listed[g.Group]; twice {
			return g.Group + " is listed twice"
		}
		g.Rate = 0
		listed[g.Group] = g
	}
	for _, name := range m.groups() {
		want := m.info(name)
		got, ok := listed[name]
		delete(listed, name)
		if m.spills && got.Oldest > 0 && got.Oldest < want.Oldest {
			got.Oldest = want.Oldest
		}
		if got.Group = name; got != want && (ok || want.Messages > 0 || want.Retained) {
			return fmt.Sprintf("groups say\n%+v, want\n%+v", got, want)
		}
	}
	if len(listed) > 0 {
		return fmt.Sprintf("groups without messages are listed: %v", listed)
	}
	return ""
}

func (m *model) info(name string) store.GroupInfo {
	g := store.GroupInfo{Group: name}
	for _, s := range m.of(filters(name), 0, m.newest()) {
		if g.Messages == 0 {
			g.Oldest = s.Seq
		}
		g.Messages++
		g.Bytes += int64(len(s.Bytes))
		g.Newest = s.Seq
	}
	_, g.Retained = m.retained[name]
	return g
}

func usage(e *env) {
	l := e.start(Options{MaxMemory: 4 << 20})
	l.policy("a", store.Policy{MaxMessages: 10})
	l.appendNumbers("a", 1, 50)
	l.appendNumbers("b", 1, 5)
	u := l.Usage()
	var messages, bytes int64
	for g := range store.EachGroup(l, "") {
		messages += g.Messages
		bytes += g.Bytes
	}
	if u.Messages != 15 || u.Messages != messages || u.Bytes != bytes || u.Evicted != 40 || u.Groups != 2 || u.MaxMemory != 4<<20 {
		e.Errorf("usage %+v; the groups sum up to %d messages of %d bytes", u, messages, bytes)
	}
}

func withinMemory(e *env) {
	const bound = 2 << 20
	l := e.start(Options{MaxMemory: bound})
	for i := range 7000 {
		l.add(text(fmt.Sprint("group/", i%7), strings.Repeat("x", 1500+3*(i%1000))))
		if i%200 == 0 {
			if u := l.Usage(); u.Memory > bound+bound/8 {
				e.Fatalf("after %d messages %d bytes of memory are used, the bound is %d", i, u.Memory, bound)
			}
		}
	}
	if u := l.Usage(); u.Messages < 170 {
		e.Errorf("only %d messages are held", u.Messages)
	}
}

func full(e *env) {
	l := e.start(Options{MaxMemory: 1 << 20})
	l.add(retain("a", "1"), text("b", "2"))
	huge := strings.Repeat("x", 3<<20)
	for _, list := range [][]*store.Message{
		{text("a", huge)}, {text("b", "x"), retain("a", huge), text("b", "y")}, {text("new", huge)},
	} {
		if _, err := l.Append(e.Context(), entries(list...)); err == nil {
			e.Skip("the store is not bound by MaxMemory")
		} else if !errors.Is(err, store.ErrFull) {
			e.Fatalf("3 MiB in 1 MiB: %v", err)
		}
		l.untouched(l.at(2), "1 2", "1")
	}
	l.appendTexts("a", "3")
	l.want("#", "1 2 3")
}

// untouched fails unless the log ends at newest and has these messages and retained messages.
func (l *log) untouched(newest store.Seq, held, retained string) {
	l.t.Helper()
	if n := l.newest(); n != newest {
		l.t.Errorf("newest is %d, want %d", n, newest)
	}
	l.want("#", held)
	wantTexts(l.t, l.retained("#"), retained)
	l.wantGaps(store.Query{Select: filters("#")}, "")
}

func fullOfRetained(e *env) {
	l := e.start(Options{MaxMemory: 1 << 20})
	filler := strings.Repeat("x", 10_000)
	var kept []string
	for i := range 300 {
		s := fmt.Sprint(i, filler)
		_, err := l.Append(e.Context(), entries(retain(fmt.Sprint("group/", i), s)))
		if errors.Is(err, store.ErrFull) {
			if !slices.Equal(l.retained("#"), kept) || len(kept) < 10 {
				e.Fatalf("%d messages are retained of %d", len(l.retained("#")), len(kept))
			}
			l.appendTexts("group/0", "still room for others")
			return
		}
		if err != nil {
			e.Fatal(err)
		}
		kept = append(kept, s)
	}
	e.Skip("the store is not bound by MaxMemory")
}

func tooMany(e *env) {
	l := e.start(Options{MaxGroups: 2})
	l.add(text("a", "1"), text("b", "2"))
	for _, list := range [][]*store.Message{{text("c", "x")}, {text("a", "x"), text("c", "x"), retain("b", "x")}} {
		if _, err := l.Append(e.Context(), entries(list...)); !errors.Is(err, store.ErrTooManyGroups) {
			e.Fatalf("a third group of two: %v", err)
		}
		l.untouched(l.at(2), "1 2", "")
	}
	l.add(text("b", "3"), text("a", "4"))
	l.want("a b", "1 2 3 4")
}

// oneTooMany appends to two groups, where the only place is taken by a group that holds nothing.
func oneTooMany(e *env) {
	for _, c := range []struct{ name, first, second string }{
		{"both new", "a", "b"}, {"one known and empty", "old", "b"}, {"the empty one last", "b", "old"},
	} {
		e.Run(c.name, func(t *testing.T) {
			l := (&env{T: t, open: e.open}).start(Options{MaxGroups: 1})
			l.appendTexts("old", "1")
			if err := l.Purge("old"); err != nil {
				t.Fatal(err)
			}
			before := l.newest()
			_, err := l.Append(t.Context(), entries(text(c.first, "x"), text(c.second, "y")))
			if !errors.Is(err, store.ErrTooManyGroups) || l.newest() != before {
				t.Errorf("two groups if one is allowed: %v, newest %d", err, l.newest())
			}
			l.want("#", "")
		})
	}
}
