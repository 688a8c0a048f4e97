package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// gapTests test I5: no message is missing without a gap, and no gap is reported without a loss.
var gapTests = []test{
	{"I5 a gap if and only if a matching message after the position was evicted", exactGaps},
	{"I5 gaps name the filters with losses, and the newest message that each lost", namedGaps},
	{"I5 evictions from other groups are no gap", othersGaps},
	{"I5 a message that expired before it was evicted is no gap", expiredGaps},
	{"I5 losses up to Reported are not reported again, later ones are", gapsReportedOnce},
	{"I5 gaps of dropped groups are reported, 20 groups where 3 are allowed", forgottenGaps},
	{"I5 a slow reader gets a gap for each loss, 8 MiB of messages in 1 MiB", pressure},
}

// threeOfEight returns a log in which group a had 1…8 and keeps the newest three.
func threeOfEight(e *env) *log {
	l := e.start(Options{})
	l.appendNumbers("a", 1, 8)
	l.policy("a", store.Policy{MaxMessages: 3})
	return l
}

func exactGaps(e *env) {
	l := threeOfEight(e)
	for after := range 9 {
		want := ""
		if after < 5 {
			want = "a:5"
		}
		q := store.Query{Select: filters("a"), After: l.at(after)}
		l.wantGaps(q, want)
		wantTexts(e, texts(l.read(q)), numbers(max(after, 5)+1, 8))
	}
}

func namedGaps(e *env) {
	l := threeOfEight(e) // a:5
	l.appendTexts("b", "9", "10", "11")
	l.appendTexts("a/x", "12")
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
			l.in(t).wantGaps(store.Query{Select: filters(set)}, want)
		})
	}
}

func othersGaps(e *env) {
	l := e.start(Options{})
	l.policy("busy", store.Policy{MaxMessages: 1})
	l.appendTexts("quiet", "1")
	for range 1000 {
		l.appendTexts("busy", "x")
	}
	l.appendTexts("quiet", "2")
	for after := range 2 {
		l.wantGaps(store.Query{Select: filters("quiet"), After: l.at(after)}, "")
		l.wantGaps(store.Query{Select: filters("quiet/#"), After: l.at(after)}, "")
	}
	l.want("quiet", "1 2")
}

func expiredGaps(e *env) {
	l := e.start(Options{})
	gone := text("a", "1")
	gone.Time, gone.Expires = time.Now().Add(-time.Minute), time.Now().Add(-time.Second)
	l.add(gone)
	l.appendTexts("a", "2")
	l.policy("a", store.Policy{MaxMessages: 1})
	l.wantGaps(store.Query{Select: filters("a")}, "")
	l.appendTexts("a", "3")
	l.wantGaps(store.Query{Select: filters("a")}, "a:2")
	l.want("a", "3")
}

// gapsReportedOnce has a reader of two filters that first learns of a loss of one filter, and later of a loss
// of the other one at a lower position.
func gapsReportedOnce(e *env) {
	l := e.start(Options{})
	l.appendNumbers("a", 1, 5)
	l.appendNumbers("b", 6, 10)
	l.policy("b", store.Policy{MaxMessages: 1})
	q := store.Query{Select: filters("a b"), After: l.at(1)}
	l.wantGaps(q, "b:9")
	q.Reported = l.read(q).Reported
	l.wantGaps(q, "")
	l.policy("a", store.Policy{MaxMessages: 2})
	l.wantGaps(q, "a:3")
	l.wantGaps(store.Query{Select: filters("a b"), After: l.at(1), Reported: l.read(q).Reported}, "")
	l.wantGaps(store.Query{Select: filters("#"), After: l.at(1), Reported: q.Reported}, "#:3")
	l.wantGaps(store.Query{Select: filters("a b"), After: l.at(1)}, "a:3 b:9")
	l.wantGaps(store.Query{Select: filters("a b"), After: l.at(3)}, "b:9")
	l.appendTexts("b", "11")
	l.wantGaps(store.Query{Select: filters("#"), After: l.at(1), Reported: l.read(q).Reported}, "")
	l.wantGaps(q, "a:3 b:10")
}

// forgottenGaps uses twenty groups in a store that may know three. The store may report the losses of
// dropped groups too often, but never too rarely.
func forgottenGaps(e *env) {
	l := e.start(Options{MaxGroups: 3})
	lost := map[string]store.Seq{}
	for i := range 20 {
		name := fmt.Sprint("group/", i)
		id, err := l.Append(e.Context(), entries(text(name, "x"), text(name, "y")))
		if errors.Is(err, store.ErrTooManyGroups) {
			return // the store drops no groups: there is nothing to test
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
				e.Errorf("%s after %d: no gap, but %d was evicted", f, seq-1, seq)
			}
		}
	}
}

// pressure has a reader that falls behind a log that evicts messages all the time.
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
		l.noSilentHole(e, q.After, b)
		n := l.count(b.Next)
		q.After = l.at(n - n%4)
	}
	if u := l.Usage(); u.Messages < 8000 && len(l.read(store.Query{Select: q.Select}).Gaps) == 0 {
		e.Errorf("messages were evicted without a gap; %d are left", u.Messages)
	}
}

// noSilentHole fails if an even message after the position is missing without a gap.
func (l *log) noSilentHole(e *env, after store.Seq, b *store.Batch) {
	e.Helper()
	next := l.count(after) + 1
	if len(b.Gaps) > 0 {
		next = max(next, l.count(b.Gaps[0].Evicted)+1)
	}
	next += next % 2
	for i := range b.Frames {
		if n := l.count(b.Frames[i].Seq); n > next {
			e.Fatalf("after %d: got message %d, want %d; gaps %v", after, n, next, b.Gaps)
		} else if n == next {
			next += 2
		}
	}
}
