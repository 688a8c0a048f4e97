package memory_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// TestALossAheadOfTheEndIsReportedWithWhatFollows tells a log of a loss before it places the messages behind it. A reader that finds
// nothing in between gets the gap with them.
func TestALossAheadOfTheEndIsReportedWithWhatFollows(t *testing.T) {
	losses := map[string]func(l *memory.Log){
		"all groups": func(l *memory.Log) { l.Lose(3) },
		"one group":  func(l *memory.Log) { l.LoseGroup("g", 3) },
	}
	for name, lose := range losses {
		for _, live := range []bool{false, true} {
			l := memory.New(memory.Options{Behind: true})
			q := store.Query{Select: group.Set{group.Exact("g")}, Live: live}
			read := func() (gaps int) {
				b := &store.Batch{Buf: make([]byte, 0, 1<<10)}
				if err := l.Read(q, b); err != nil {
					t.Fatal(err)
				}
				q.After, q.Reported = b.Next, b.Reported
				return len(b.Gaps)
			}
			place := func(seq store.Seq) {
				if err := l.Place([]store.Entry{entry("g", 5)}, []store.Seq{seq}); err != nil {
					t.Fatal(err)
				}
			}
			place(1)
			before := read()
			lose(l)
			between := read()
			place(4)
			if behind := read(); before+between > 0 || behind != 1 {
				t.Errorf("%s, live %v: %d, %d and %d gaps", name, live, before, between, behind)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestALossIsNotForgottenWithOlderMessages evicts and removes messages that are older than those that a log was told to be lost.
func TestALossIsNotForgottenWithOlderMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New(memory.Options{Behind: true})
		defer l.Close()
		place := func(seq store.Seq) {
			if err := l.Place([]store.Entry{entry("g", 5)}, []store.Seq{seq}); err != nil {
				t.Fatal(err)
			}
		}
		place(1)
		l.LoseGroup("g", 3)
		place(4)
		if err := l.Evict(memory.Eviction{Group: "g", Through: 3}); err != nil {
			t.Fatal(err)
		}
		for _, wait := range []time.Duration{0, time.Minute} {
			<-time.After(wait)
			place(5 + store.Seq(wait))
			for _, live := range []bool{false, true} {
				b := &store.Batch{Buf: make([]byte, 0, 1<<10)}
				q := store.Query{Select: group.Set{group.Exact("g")}, After: 1, Live: live}
				if err := l.Read(q, b); err != nil {
					t.Fatal(err)
				}
				if len(b.Gaps) != 1 || b.Gaps[0].Evicted != 3 {
					t.Errorf("after %v, live %v: gaps %v", wait, live, b.Gaps)
				}
			}
		}
	})
}

// TestSpillMakesAGroupComeFromTheLogBehind spills a group. Some of its messages are no longer in the log behind.
func TestSpillMakesAGroupComeFromTheLogBehind(t *testing.T) {
	l := memory.New(memory.Options{Behind: true})
	defer l.Close()
	for seq := range store.Seq(6) {
		if err := l.Place([]store.Entry{entry([]string{"g", "other"}[seq%2], 5)}, []store.Seq{seq + 1}); err != nil {
			t.Fatal(err)
		}
	}
	l.Spill("g", 3)
	b := &store.Batch{Buf: make([]byte, 0, 1<<10)}
	if err := l.Read(store.Query{Select: group.Set{group.Exact("g")}}, b); !errors.As(err, new(*memory.SpilledError)) {
		t.Errorf("reading the group that is spilled: %v", err)
	}
	if err := l.Read(store.Query{Select: group.Set{group.Exact("other")}}, b); err != nil || len(b.Frames) != 3 {
		t.Errorf("reading the other group: %v, %d messages", err, len(b.Frames))
	}
	for x := range l.Excesses() {
		if x.Group != "g" || !x.Unsure || x.Spilled != 3 {
			t.Errorf("%+v", x)
		}
		l.Correct(&x, 2, 0)
	}
	if page, _ := l.Groups(store.GroupQuery{Prefix: "g", Limit: 1}); page[0].Messages != 1 {
		t.Errorf("of three messages two are gone: %+v", page)
	}
}
