package storetest

import (
	"fmt"
	"testing"

	"github.com/watchbox-go/watchbox/store"
)

var purgeTests = []test{
	{"Purge evicts all messages of a group, with a gap, and nothing else", purge},
	{"Purge of an unknown group has no effect", purgeNothing},
	{"a group is usable after Purge", purgeRefilled},
}

func purge(e *env) {
	l := e.start(Options{})
	l.add(text("a", "1"), retain("a", "2"), text("a/b", "3"), text("b", "4"), text("a", "5"))
	if err := l.Purge("a"); err != nil {
		e.Fatal(err)
	}
	l.want("#", "3 4")
	wantTexts(e, l.retained("#"), "")
	for _, c := range []struct {
		set   string
		after int
		want  string
	}{{"a", 0, "a:5"}, {"a", 4, "a:5"}, {"a", 5, ""}, {"#", 0, "#:5"}, {"b a/b", 0, ""}, {"a/b", 0, ""}} {
		l.wantGaps(store.Query{Select: filters(c.set), After: l.at(c.after)}, c.want)
	}
	for g := range store.EachGroup(l, "") {
		if g.Group == "a" && (g.Messages != 0 || g.Bytes != 0 || g.Retained || g.Oldest != 0) {
			e.Errorf("after its purge a is %+v", g)
		}
	}
}

func purgeNothing(e *env) {
	l := e.start(Options{})
	l.appendTexts("a", "1")
	for range 2 {
		if err := l.Purge("b"); err != nil {
			e.Error(err)
		}
	}
	l.want("#", "1")
	l.wantGaps(store.Query{Select: filters("#")}, "")
}

func purgeRefilled(e *env) {
	l := e.start(Options{})
	for round := range 5 {
		e.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			l := l.in(t)
			before := l.newest()
			l.appendNumbers("a", 1, 200)
			l.want("a", numbers(1, 200))
			if err := l.Purge("a"); err != nil {
				t.Fatal(err)
			}
			l.want("a", "")
			l.wantGaps(store.Query{Select: filters("a"), After: before}, fmt.Sprint("a:", 200*(round+1)))
		})
	}
}
