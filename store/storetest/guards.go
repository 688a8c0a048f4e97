package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/watchbox-go/watchbox/store"
)

// guardTests test notes that are Guarded, which two hubs write.
var guardTests = []sharedTest{
	{"of two guarded writes of a version, the first wins", firstWins},
	{"a conflict stores nothing: no entry and no other note", conflictStoresNothing},
	{"a guarded note is removed by one hub, and created again by one", removedOnce},
	{"each of several guarded notes has to match", allGuards},
	{"a guarded brief note is stored by one of the hubs that store it at once", briefOnce},
	{"a note that is not guarded replaces any version", unguarded},
	{"two hubs raise a counter 200 times, 2 writers each, and no step is lost", counted(false)},
	{"with unknown outcomes, two hubs raise a counter 80 times, and no step is lost or repeated", counted(true)},
}

func guarded(key, value string, at store.Seq) store.Note {
	return store.Note{Key: key, Value: []byte(value), At: at, Guarded: true}
}

func removal(key string, at store.Seq) store.Note {
	return store.Note{Key: key, Why: "over", At: at, Guarded: true}
}

func firstWins(c *cluster) {
	a, b := c.two()
	first := a.put(nil, guarded("k", "1", 0)).Seq
	b.refuses(store.ErrConflict, nil, guarded("k", "2", 0)) // b may not even know the first version yet
	b.await("k", first)
	second := b.put(nil, guarded("k", "2", first)).Seq
	if second <= first {
		c.Errorf("version %d follows %d", second, first)
	}
	a.refuses(store.ErrConflict, nil, guarded("k", "3", first))
	a.await("k", second)
	b.refuses(store.ErrConflict, nil, guarded("k", "3", first))
	b.refuses(store.ErrConflict, nil, guarded("k", "3", second+1))
	a.put(nil, guarded("k", "3", second))
	a.meets(b)
	for _, p := range []*peer{a, b} {
		if n := p.note("k"); string(n.Value) != "3" {
			c.Errorf("the note is %q", n.Value)
		}
	}
}

func conflictStoresNothing(c *cluster) {
	a, b := c.two()
	one := b.follow()
	at := a.put([]*store.Message{text("a", "1")}, guarded("k", "1", 0)).Seq + 1
	list := []*store.Message{text("a", "x"), retain("b", "x"), text("a", "x")}
	for _, p := range []*peer{a, b} {
		p.refuses(store.ErrConflict, list, guarded("k", "x", 0))
		p.refuses(store.ErrConflict, list, store.Note{Key: "other", Value: []byte("x")}, guarded("k", "x", at-1))
		p.refuses(store.ErrConflict, list, guarded("new", "x", 0), removal("k", at+100))
		p.refuses(store.ErrConflict, list[:1], store.Note{Key: "brief", Value: []byte("x"), Brief: true}, guarded("k", "x", 0))
	}
	a.put([]*store.Message{text("a", "2")}, guarded("k", "2", at))
	a.meets(b)
	for _, p := range []*peer{a, b} {
		p.want("a b", "1 2")
		wantTexts(c, p.retained("#"), "")
		if list := p.notes(); len(list) != 1 {
			c.Errorf("notes %v", list)
		}
	}
	for _, n := range one.all() {
		if n.Key != "k" || string(n.Value) == "x" {
			c.Errorf("the other hub was told of %+v", n)
		}
	}
}

func briefOnce(c *cluster) {
	a, b := c.two()
	brief := func(key string) store.Note {
		return store.Note{Key: key, Value: []byte("x"), Brief: true, Guarded: true}
	}
	var want []string
	for i := range 30 {
		key := fmt.Sprint("k", i)
		list := []*store.Message{text("a", key)}
		if i%2 > 0 {
			list = append(list, text("b", key))
		}
		a.put(list, brief(key))
		b.refuses(store.ErrConflict, list, brief(key)) // it may not even know the note yet
		b.refuses(store.ErrConflict, list[:1], brief(key))
		for range list {
			want = append(want, key)
		}
	}
	a.refuses(store.ErrConflict, []*store.Message{text("a", "x"), text("b", "x")}, brief("k7"))
	var stored atomic.Int64
	writers(4, 25, func(w, r int) {
		p := []*peer{a, b}[w%2]
		list := []*store.Message{text("c", fmt.Sprint(r)), text("c", fmt.Sprint(r))}
		switch _, err := p.AppendNoted(c.Context(), entries(list[:1+r%2]...), brief(fmt.Sprint("at once", r))); {
		case err == nil:
			stored.Add(1)
		case !errors.Is(err, store.ErrConflict):
			c.Error(err)
		}
	})
	if n := stored.Load(); n != 25 {
		c.Errorf("25 notes that 4 writers stored at once were stored %d times", n)
	}
	a.meets(b)
	for _, p := range []*peer{a, b} {
		p.want("a b", strings.Join(want, " "))
		if n := len(p.all("c").Frames); n != 25+12 {
			c.Errorf("%d messages, want 37", n)
		}
	}
}

func removedOnce(c *cluster) {
	a, b := c.two()
	f := b.follow()
	for round := range 5 {
		at := a.put(nil, guarded("k", fmt.Sprint(round), 0)).Seq
		b.refuses(store.ErrConflict, nil, guarded("k", "x", 0))
		a.refuses(store.ErrConflict, nil, removal("k", at+1))
		b.await("k", at)
		gone := b.put(nil, removal("k", at)).Seq
		a.refuses(store.ErrConflict, nil, removal("k", at))
		a.refuses(store.ErrConflict, nil, guarded("k", "x", at))
		list := f.await(c, have(2*(round+1)))[2*round:]
		if n := list[0]; n.Key != "k" || string(n.Value) != fmt.Sprint(round) || n.At != at {
			c.Errorf("round %d: %+v was stored at %d", round, n, at)
		}
		if n := list[1]; n.Key != "k" || n.Value != nil || n.Why != "over" || n.At != gone {
			c.Errorf("round %d: %+v was removed at %d", round, n, gone)
		}
		a.meets(b)
		if len(a.notes())+len(b.notes()) > 0 {
			c.Errorf("round %d: the notes are %v and %v", round, a.notes(), b.notes())
		}
	}
}

func allGuards(c *cluster) {
	a, b := c.two()
	at := a.put(nil, guarded("x", "1", 0), guarded("y", "1", 0)).Seq
	x, y := at, at+1
	b.await("y", y)
	b.refuses(store.ErrConflict, nil, guarded("x", "2", x), guarded("y", "2", x))
	b.refuses(store.ErrConflict, nil, guarded("x", "2", y), guarded("y", "2", y))
	x = b.put(nil, guarded("x", "2", x), guarded("y", "2", y)).Seq
	a.await("x", x)
	a.put(nil, guarded("y", "3", x+1), guarded("z", "1", 0), removal("x", x))
	a.meets(b)
	for _, p := range []*peer{a, b} {
		if list := p.notes(); len(list) != 2 || string(list[0].Value) != "3" || list[1].Key != "z" {
			c.Errorf("notes %v", list)
		}
	}
}

func unguarded(c *cluster) {
	a, b := c.two()
	a.put(nil, guarded("k", "1", 0))
	b.put(nil, store.Note{Key: "k", Value: []byte("2")})
	at := a.put(nil, store.Note{Key: "k", Value: []byte("3"), At: 12345}).Seq
	b.await("k", at)
	b.put(nil, guarded("k", "4", at))
	a.put(nil, store.Note{Key: "k"})
	b.put(nil, store.Note{Key: "k"}) // a note that does not exist may be removed
	b.put(nil, guarded("k", "5", 0))
	b.meets(a)
	if n := a.note("k"); string(n.Value) != "5" {
		c.Errorf("the note is %q", n.Value)
	}
}

// counted has two writers at each of two hubs raise a counter. Each step is one append: a message in each of two
// groups, and the guarded note with how many steps each writer has made. A writer that does not know whether its
// append was stored finds that out from the newest version, which follows from its own if that was stored.
func counted(disturbed bool) func(c *cluster) {
	return func(c *cluster) {
		each, open := 50, func() (*peer, func()) { return c.hub(), func() {} }
		if disturbed {
			each, open = 20, c.disturbed
		}
		a, endA := open()
		b, endB := open()
		counters := []*counter{{a, a.follow()}, {b, b.follow()}}
		writers(countWriters, each, func(w, r int) { counters[w%2].raise(w, r+1) })
		endA()
		endB()
		c.eventually("an append after the disturbances", func() bool {
			_, err := a.Append(c.Context(), entries(text("end", "x")))
			return err == nil
		})
		b.reaches(a.newest())
		for _, p := range []*peer{a, b} {
			for _, name := range []string{"a", "b"} {
				list := texts(p.all(name))
				for i, s := range list {
					if s != fmt.Sprint(i+1) {
						c.Fatalf("step %d of %s is %s", i+1, name, s)
					}
				}
				if len(list) != countWriters*each {
					c.Errorf("%d steps were made, want %d", len(list), countWriters*each)
				}
			}
		}
	}
}

const countWriters = 4

// counter is the guarded note at a hub.
type counter struct {
	*peer
	notes *noteLog
}

// count is a version of the note.
type count struct {
	at    store.Seq
	steps [countWriters]int // by writer
}

func parseCount(list []store.Note) (n count) {
	if len(list) > 0 {
		n.at = list[len(list)-1].At
		for i, s := range strings.Fields(string(list[len(list)-1].Value)) {
			_, _ = fmt.Sscan(s, &n.steps[i])
		}
	}
	return n
}

// raise makes a step for a writer, so that it has made as many as steps. The newest version that was told may be older
// than its last step, if that was replaced before this hub read it.
func (x *counter) raise(w, steps int) {
	for n := parseCount(x.notes.all()); n.steps[w] < steps; {
		err := x.step(n, w)
		switch {
		case err == nil:
			return
		case errors.Is(err, store.ErrConflict):
			n = parseCount(x.notes.await(x.t, func(list []store.Note) bool { return parseCount(list).at > n.at }))
		case !errors.Is(err, store.ErrUnknownOutcome) && !errors.Is(err, store.ErrAway):
			x.t.Errorf("step %v of %d: %v", n.steps, w, err)
			return
		}
	}
}

// step replaces a version by the next.
func (x *counter) step(n count, w int) error {
	n.steps[w]++
	sum := 0
	for _, steps := range n.steps {
		sum += steps
	}
	list := entries(text("a", fmt.Sprint(sum)), text("b", fmt.Sprint(sum)))
	_, err := x.AppendNoted(x.env.Context(), list, guarded("count", strings.Trim(fmt.Sprint(n.steps), "[]"), n.at))
	return err
}
