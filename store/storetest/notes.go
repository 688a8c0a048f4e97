package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/watchbox-go/watchbox/store"
)

// noteTests test notes: their positions, and what Follow and Notes tell of them.
var noteTests = []sharedTest{
	{"notes are behind the entries stored with them, and their positions rise", notePositions},
	{"Notes yields the newest version of each note, sorted by key", notesSorted},
	{"Follow yields the notes that exist, and then each change in order, but perhaps not versions that were replaced", followOrder},
	{"Follow says which notes a hub has stored or removed itself", followOwn},
	{"Follow yields a note before a message after it can be read, 2 writers of 200 appends", notesFirst},
	{"entries and notes are stored together, in several groups, 2 hubs with 2 writers and readers each", notedTogether},
	{"a brief note is known to each hub, and to one that opens the log later", briefNotes},
	{"990 entries and 10 notes are stored together; of more than 1000, all or none", noteLimits},
	{"the caller may change entries and notes after an append", ownNotes},
}

func plain(key, value string) store.Note { return store.Note{Key: key, Value: []byte(value)} }

func notePositions(c *cluster) {
	a, b := c.two()
	f := b.follow()
	last := store.Seq(0)
	for i, n := range []struct{ entries, notes int }{{0, 1}, {1, 1}, {3, 2}, {0, 3}, {1, 0}, {2, 1}} {
		var list []*store.Message
		for k := range n.entries {
			list = append(list, text([]string{"a", "b"}[k%2], "x"))
		}
		var notes []store.Note
		for k := range n.notes {
			notes = append(notes, plain(fmt.Sprint(i, "/", k), "x"))
		}
		known := len(f.all())
		id := a.put(list, notes...)
		if id.Epoch != a.epoch() || id.Seq <= last {
			c.Errorf("append %d: the id is %v, after %d", i, id, last)
		}
		last = id.Seq + store.Seq(n.entries+n.notes) - 1
		for k, note := range f.await(c, have(known+n.notes))[known:] {
			if at := id.Seq + store.Seq(n.entries+k); note.Key != notes[k].Key || note.At != at || note.Seq != id.Seq {
				c.Errorf("append %d at %v: note %d is %+v, want it at %d", i, id, k, note, at)
			}
		}
	}
	a.meets(b)
	for _, p := range []*peer{a, b} {
		frames := p.read(store.Query{Select: filters("a b")}).Frames
		for i := range frames {
			if want := a.at(i + 1); frames[i].Seq != want {
				c.Errorf("message %d has the seq %d, want %d", i+1, frames[i].Seq, want)
			}
		}
	}
}

func notesSorted(c *cluster) {
	a, b := c.two()
	at := map[string]store.Seq{}
	for i, key := range []string{"b", "a/b c", "é", "a", "b", "session/1", "gone", "a.b", "b", ">", "*"} {
		at[key] = []*peer{a, b}[i%2].put(nil, plain(key, fmt.Sprint(i))).Seq
	}
	a.put(nil, store.Note{Key: "gone"}, plain("empty", ""))
	a.meets(b)
	later := c.hub()
	for _, p := range []*peer{a, b, later} {
		var got []string
		for _, n := range p.notes() {
			got = append(got, fmt.Sprint(n.Key, "=", string(n.Value)))
			if n.Value == nil || at[n.Key] != 0 && n.At != at[n.Key] {
				c.Errorf("the note %+v, want it at %d", n, at[n.Key])
			}
		}
		if want := []string{"*=10", ">=9", "a=3", "a.b=7", "a/b c=1", "b=8", "empty=", "session/1=5", "é=2"}; !slices.Equal(got, want) {
			c.Errorf("the notes are %q, want %q", got, want)
		}
	}
	stop := errors.New("enough")
	n := 0
	if err := later.Notes(func(store.Note) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		c.Errorf("Notes goes on after an error: %d notes, %v", n, err)
	}
}

// followOrder has a hub follow notes while another one changes them.
func followOwn(c *cluster) {
	a, b := c.two()
	followers := map[string]*noteLog{"a": a.follow(), "b": b.follow()}
	a.put(nil, plain("k/a", "x"))
	a.meets(b)
	b.put(nil, store.Note{Key: "k/a"})
	b.put([]*store.Message{text("g", "x")}, plain("k/b", "x"))
	b.meets(a)
	a.put(nil, store.Note{Key: "k/b"})
	for name, f := range followers {
		list := f.await(c, have(4))
		got := ""
		for _, n := range list {
			if n.Own {
				got += fmt.Sprintf(" %s=%s", n.Key, n.Value)
			}
		}
		if want := map[string]string{"a": " k/a=x k/b=", "b": " k/a= k/b=x"}[name]; got != want {
			c.Errorf("hub %s takes%s for its own, want%s", name, got, want)
		}
	}
}

func followOrder(c *cluster) {
	a, b := c.two()
	for i := range 20 {
		a.put(nil, plain(fmt.Sprint("old/", i), "x"))
	}
	a.put(nil, store.Note{Key: "old/7"})
	a.meets(b)
	var all sync.WaitGroup
	all.Go(func() {
		for i := range 200 {
			a.put(nil, plain([]string{fmt.Sprint("new/", i), "same"}[i%2], fmt.Sprint(i)))
		}
	})
	f := b.follow()
	all.Wait()
	list := f.await(c, func(list []store.Note) bool { return string(list[len(list)-1].Value) == "199" })
	var old []string
	changes := map[string][]int{}
	at := map[string]store.Seq{}
	for _, n := range list {
		kind, _, _ := strings.Cut(n.Key, "/")
		if kind == "old" {
			old = append(old, n.Key)
			continue
		}
		i := 0
		_, _ = fmt.Sscan(string(n.Value), &i)
		changes[kind] = append(changes[kind], i)
		if kind == "same" && n.At <= at[kind] {
			c.Errorf("version %d at %d comes after one at %d", i, n.At, at[kind])
		}
		at[kind] = n.At
	}
	// Notes that existed come in any order.
	slices.Sort(changes["new"])
	for k, i := range changes["new"] {
		if i != 2*k {
			c.Errorf("change %d comes where %d was expected", i, 2*k)
		}
	}
	if n := len(changes["new"]); n != 100 || !slices.IsSorted(changes["same"]) {
		c.Errorf("%d notes of 100 are new; one has the versions %v", n, changes["same"])
	}
	if slices.Sort(old); len(slices.Compact(old)) != 19 || len(old) != 19 || slices.Contains(old, "old/7") {
		c.Errorf("19 notes existed, those told are %v", old)
	}
}

// notesFirst has appends with a note that names them. Whoever reads a message has got the notes up to it.
func notesFirst(c *cluster) {
	a, b := c.two()
	followers := []*noteLog{a.follow(), b.follow()}
	const each = 200
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for i, p := range []*peer{a, b} {
		readers.Go(func() {
			wake := make(chan struct{}, 1)
			defer p.Watch(wake)()
			after := store.Seq(0)
			for over := false; !over; {
				select {
				case <-wake:
				case <-stop:
					over = true
				}
				after = c.notesUpTo(p, followers[i], after)
			}
		})
	}
	writers(2, each, func(w, r int) {
		p, name := []*peer{a, b}[w], fmt.Sprintf("%d/%d", w, r)
		if r%2 == 0 {
			p.put(nil, plain(name, "x"))
			p.add(text("group", name))
			return
		}
		p.put([]*store.Message{text("group", name), text("group", name)}, plain(name, "x"))
	})
	a.meets(b)
	b.meets(a)
	close(stop)
	readers.Wait()
	for _, f := range followers {
		if n := len(f.all()); n != 2*each {
			c.Errorf("%d notes of %d", n, 2*each)
		}
	}
}

// notesUpTo reads a hub's messages after a position, and fails if the note that names a message is missing.
func (c *cluster) notesUpTo(p *peer, f *noteLog, after store.Seq) store.Seq {
	b := p.read(store.Query{Select: filters("group"), After: after})
	has := map[string]bool{}
	for _, n := range f.all() {
		has[n.Key] = true
	}
	for i := range b.Frames {
		if name := string(b.Frames[i].Payload(nil)); !has[name] {
			c.Errorf("message %s at %d can be read before its note", name, b.Frames[i].Seq)
		}
	}
	return b.Next
}

// notedTogether appends one to five entries with one to three notes.
func notedTogether(c *cluster) {
	a, b := c.two()
	peers := []*peer{a, b}
	followers := []*noteLog{a.follow(), b.follow()}
	const each = 40
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			r := follower{log: peers[i%2].log}
			wake := make(chan struct{}, 1)
			defer r.Watch(wake)()
			for over := false; !over; {
				select {
				case <-wake:
				case <-stop:
					over = true
				}
				r.catchUp(c.env)
			}
		})
	}
	sent, count := make([]int, 4), 0
	writers(4, each, func(w, r int) {
		list := make([]*store.Message, 1+(w+r)%5)
		for i := range list {
			list[i] = text(fmt.Sprint("group/", i%3), fmt.Sprintf("%d %d %d %d", w, r, i, len(list)))
		}
		var notes []store.Note
		for i := range 1 + r%3 {
			notes = append(notes, plain(fmt.Sprint(w, "/", r, "/", i), "x"))
		}
		peers[w%2].put(list, notes...)
		sent[w] += len(list)
	})
	a.meets(b)
	b.meets(a)
	close(stop)
	readers.Wait()
	for _, n := range sent {
		count += n
	}
	for _, p := range peers {
		if n := len(p.all("group/#").Frames); n != count {
			c.Errorf("%d messages of %d", n, count)
		}
	}
	c.sameNotes(followers[0].all(), followers[1].all())
}

// sameNotes fails unless both hubs got the same notes, those of an append one after the other.
func (c *cluster) sameNotes(one, two []store.Note) {
	c.Helper()
	format := func(list []store.Note) (out []string) {
		for _, n := range list {
			out = append(out, fmt.Sprintf("%s=%s at %d with %d", n.Key, n.Value, n.At, n.Seq))
		}
		return out
	}
	if a, b := format(one), format(two); !slices.Equal(a, b) {
		c.Errorf("one hub got the notes %.1000q, the other %.1000q", a, b)
	}
	for i := range one[1:] {
		n, next := one[i], one[i+1]
		if next.Seq == n.Seq && next.At != n.At+1 || next.At <= n.At {
			c.Errorf("%+v is followed by %+v", n, next)
		}
	}
}

func briefNotes(c *cluster) {
	a, b := c.two()
	f := b.follow()
	brief := func(i int) store.Note {
		return store.Note{Key: fmt.Sprint("key/", i), Value: []byte(fmt.Sprint(i)), Brief: true}
	}
	a.put([]*store.Message{text("a", "1")}, brief(1))
	a.put([]*store.Message{text("a", "2"), text("b", "3")}, brief(2), plain("k", "x"), brief(3))
	a.put([]*store.Message{text("b", "4")}, brief(4), guarded("g", "x", 0))
	a.refuses(store.ErrConflict, []*store.Message{text("b", "x")}, brief(5), guarded("g", "x", 0))
	a.meets(b)
	later := c.hub()
	const want = "g=x k=x key/1=1 key/2=2 key/3=3 key/4=4"
	told := []string{}
	for _, n := range f.await(c, have(6)) {
		told = append(told, n.Key+"="+string(n.Value))
	}
	slices.Sort(told)
	if got := strings.Join(told, " "); got != want {
		c.Errorf("Follow yields %s, want %s", got, want)
	}
	for _, p := range []*peer{a, b, later} {
		var got []string
		for _, n := range p.notes() {
			got = append(got, n.Key+"="+string(n.Value))
		}
		slices.Sort(got) // brief notes need not be sorted among the others
		if got := strings.Join(got, " "); got != want {
			c.Errorf("the notes are %s, want %s", got, want)
		}
		p.want("a b", "1 2 3 4")
	}
}

func noteLimits(c *cluster) {
	a, b := c.two()
	f := b.follow()
	many := func(n int, name string) (list []*store.Message) {
		for i := range n {
			list = append(list, text(fmt.Sprint(name, "/", i%7), fmt.Sprint(i)))
		}
		return list
	}
	var notes []store.Note
	for i := range 11 {
		notes = append(notes, plain(fmt.Sprint(i), "x"))
	}
	a.put(many(1000, "most"))
	a.put(many(990, "noted"), notes[:10]...)
	a.meets(b)
	for _, p := range []*peer{a, b} {
		if most, noted := len(p.all("most/+").Frames), len(p.all("noted/+").Frames); most != 1000 || noted != 990 || len(p.notes()) != 10 {
			c.Errorf("%d and %d messages and %d notes", most, noted, len(p.notes()))
		}
	}
	for i, n := range []int{1001, 1000, 990} {
		before := len(f.all())
		name := fmt.Sprint("more", i)
		want := n
		if _, err := b.AppendNoted(c.Context(), entries(many(n, name)...), notes...); errors.Is(err, store.ErrTooLarge) {
			want = 0
		} else if err != nil {
			c.Errorf("%d entries and 11 notes: %v", n, err)
		}
		b.meets(a)
		for _, p := range []*peer{a, b} {
			if got := len(p.all(name + "/+").Frames); got != want {
				c.Errorf("%d messages of %d", got, want)
			}
		}
		if got := len(f.all()) - before; got != 11 && want > 0 || got != 0 && want == 0 {
			c.Errorf("%d notes of 11, with %d messages", got, want)
		}
	}
}

func ownNotes(c *cluster) {
	a, b := c.two()
	list, notes := entries(text("a", "mine")), []store.Note{plain("k", "mine")}
	if _, err := a.AppendNoted(context.Background(), list, notes...); err != nil {
		c.Fatal(err)
	}
	clear(list[0].Tail)
	clear(notes[0].Value)
	a.meets(b)
	for _, p := range []*peer{a, b} {
		p.want("a", "mine")
		if n := p.note("k"); string(n.Value) != "mine" {
			c.Errorf("the note is %q", n.Value)
		}
	}
}
