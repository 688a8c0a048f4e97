package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// gapTests are I5: never a silent hole, and never a gap about nothing.
var gapTests = []test{
	{"I5 a gap exactly when a message that matches was evicted behind the position", exactGaps},
	{"I5 a gap names the filters that lost something, and the newest that each lost", namedGaps},
	{"I5 evictions of other groups are no gap", othersGaps},
	{"I5 what expired before it was evicted is no gap", expiredGaps},
	{"I5 Told is not told again, and hides nothing that is lost later", toldGaps},
	{"I5 a gap is told until its group is forgotten, and then too, 20 groups of 3", forgottenGaps},
	{"I5 a reader that follows hears of each hole, 1 MiB for 8 MiB of messages", pressure},
}

// threeOfEight appends 1…8 to a and keeps the newest three.
func threeOfEight(e *env) *log {
	l := e.start(Options{})
	l.count("a", 1, 8)
	l.policy("a", store.Policy{MaxMessages: 3})
	return l
}

func exactGaps(e *env) {
	l := threeOfEight(e)
	for after := range store.Seq(9) {
		want := ""
		if after < 5 {
			want = "a:5"
		}
		q := store.Query{Select: filters("a"), After: after}
		l.wantGaps(q, want)
		wantTexts(e, texts(l.read(q)), numbers(int(max(after, 5))+1, 8))
	}
}

func namedGaps(e *env) {
	l := threeOfEight(e) // a:5
	l.say("b", "9", "10", "11")
	l.say("a/x", "12")
	l.policy("b", store.Policy{MaxMessages: 1}) // b:10
	for set, want := range map[string]string{
		"a":     "a:5",
		"b":     "b:10",
		"a/x":   "",
		"c":     "",
		"c a/x": "",
		"a/+":   "",
		"a/#":   "a/#:5",
		"#":     "#:10",
		"+":     "+:10",
		"c a":   "a:5",
		"b a":   "a:5 b:10",
		"$b/#":  "",
	} {
		e.Run(set, func(t *testing.T) {
			(&log{l.Store, t}).wantGaps(store.Query{Select: filters(set)}, want)
		})
	}
}

func othersGaps(e *env) {
	l := e.start(Options{})
	l.policy("busy", store.Policy{MaxMessages: 1})
	l.say("quiet", "1")
	for range 1000 {
		l.say("busy", "x")
	}
	l.say("quiet", "2")
	for after := range store.Seq(2) {
		l.wantGaps(store.Query{Select: filters("quiet"), After: after}, "")
		l.wantGaps(store.Query{Select: filters("quiet/#"), After: after}, "")
	}
	l.want("quiet", "1 2")
}

func expiredGaps(e *env) {
	l := e.start(Options{})
	gone := text("a", "1")
	gone.Time, gone.Expires = time.Now().Add(-time.Minute), time.Now().Add(-time.Second)
	l.add(gone)
	l.say("a", "2")
	l.policy("a", store.Policy{MaxMessages: 1})
	l.wantGaps(store.Query{Select: filters("a")}, "")
	l.say("a", "3")
	l.wantGaps(store.Query{Select: filters("a")}, "a:2")
	l.want("a", "3")
}

// toldGaps has a reader of two filters hear of what the one lost first, and then of what the other
// lost before that position.
func toldGaps(e *env) {
	l := e.start(Options{})
	l.count("a", 1, 5)
	l.count("b", 6, 10)
	l.policy("b", store.Policy{MaxMessages: 1})
	q := store.Query{Select: filters("a b"), After: 1}
	l.wantGaps(q, "b:9")
	q.Told = l.read(q).Told
	l.wantGaps(q, "")
	l.policy("a", store.Policy{MaxMessages: 2})
	l.wantGaps(q, "a:3")
	l.wantGaps(store.Query{Select: filters("a b"), After: 1, Told: l.read(q).Told}, "")
	l.wantGaps(store.Query{Select: filters("#"), After: 1, Told: q.Told}, "#:3")
	l.wantGaps(store.Query{Select: filters("a b"), After: 1}, "a:3 b:9")
	l.wantGaps(store.Query{Select: filters("a b"), After: 3}, "b:9")
	l.say("b", "11")
	l.wantGaps(store.Query{Select: filters("#"), After: 1, Told: l.read(q).Told}, "")
	l.wantGaps(q, "a:3 b:10")
}

// forgottenGaps has a store that may know three groups see twenty. What it cannot remember of a
// group that holds nothing it may tell too often, but must not keep to itself.
func forgottenGaps(e *env) {
	l := e.start(Options{MaxGroups: 3})
	lost := map[string]store.Seq{}
	for i := range 20 {
		name := fmt.Sprint("group/", i)
		id, err := l.Append(e.Context(), entries(text(name, "x"), text(name, "y")))
		if errors.Is(err, store.ErrTooManyGroups) {
			return // it forgets none: then there is nothing to test
		}
		if err != nil {
			e.Fatal(err)
		}
		if err := l.Purge(name); err != nil {
			e.Fatal(err)
		}
		lost[name] = id.Seq + 1
	}
	for name, seq := range lost {
		for _, f := range []string{name, "#", name + "/#"} {
			b := l.read(store.Query{Select: filters(f), After: seq - 1})
			if len(b.Gaps) == 0 {
				e.Errorf("%s behind %d: a silent hole: %d was evicted", f, seq-1, seq)
			}
		}
	}
}

// pressure has a reader lap behind a log that loses messages all the time.
func pressure(e *env) {
	l := e.start(Options{MaxMemory: 1 << 20})
	filler := strings.Repeat("x", 1000)
	q := store.Query{Select: filters("even c")}
	b := &store.Batch{Buf: make([]byte, 0, 16<<10)}
	for i := 1; i <= 8000; i++ {
		l.add(text([]string{"even", "odd"}[i%2], filler))
		if i%20 != 0 {
			continue // the reader gets 16 of 20, so that it falls behind
		}
		if err := l.Read(q, b); err != nil {
			e.Fatal(err)
		}
		noSilentHole(e, q.After, b)
		q.After = b.Next - b.Next%4
	}
	if u := l.Usage(); u.Messages < 8000 && len(l.read(store.Query{Select: q.Select}).Gaps) == 0 {
		e.Errorf("messages were evicted and no gap is told; %d are left", u.Messages)
	}
}

// noSilentHole fails if an even seq is missing behind the position that no gap accounts for.
func noSilentHole(e *env, after store.Seq, b *store.Batch) {
	e.Helper()
	next := after + 1
	if len(b.Gaps) > 0 {
		next = max(next, b.Gaps[0].Evicted+1)
	}
	next += next % 2
	for i := range b.Frames {
		if seq := b.Frames[i].Seq; seq > next {
			e.Fatalf("a silent hole behind %d: %d comes where %d was due, gaps %v", after, seq, next, b.Gaps)
		} else if seq == next {
			next += 2
		}
	}
}
