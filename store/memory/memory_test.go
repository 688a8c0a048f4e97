package memory_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
	"github.com/watchbox-go/watchbox/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o storetest.Options) store.Store {
		return memory.New(memory.Options{MaxMemory: o.MaxMemory, MaxGroups: o.MaxGroups, Server: o.Server})
	})
}

// some selects groups like a shard's index, which is not a group.Set.
type some string

func (s some) Match(name string) bool { return strings.Contains(name, string(s)) }

func TestGapsAreReportedForASelectorThatIsNotASet(t *testing.T) {
	l := memory.New(memory.Options{})
	defer l.Close()
	add(t, l, entry("xa", 1), entry("b", 1), entry("xc", 1), entry("b", 1))
	if err := l.Purge("xa"); err != nil {
		t.Fatal(err)
	}
	for sel, gaps := range map[some]int{"x": 1, "b": 0, "": 1} {
		b := &store.Batch{}
		if err := l.Read(store.Query{Select: sel}, b); err != nil || len(b.Gaps) != gaps {
			t.Errorf("%q: gaps %v, %v", sel, b.Gaps, err)
		}
	}
}

func TestFindSinceLeadsToTheGapOfADroppedGroup(t *testing.T) {
	l := memory.New(memory.Options{MaxGroups: 1})
	defer l.Close()
	start := time.Now().Add(-time.Second)
	add(t, l, entry("forgotten", 1))
	if err := l.Purge("forgotten"); err != nil {
		t.Fatal(err)
	}
	add(t, l, entry("other", 1))
	for _, name := range []string{"forgotten", "#", "other forgotten"} {
		var set group.Set
		for s := range strings.FieldsSeq(name) {
			f, err := group.ParseFilter(s)
			if err != nil {
				t.Fatal(err)
			}
			set = append(set, f)
		}
		b := &store.Batch{}
		after, err := l.Find(set, store.Start{Since: start})
		if err != nil {
			t.Fatal(err)
		}
		q := store.Query{Select: set, After: after}
		if err := l.Read(q, b); err != nil || len(b.Gaps) == 0 {
			t.Errorf("%s: Find Since leads to %d without a gap: %v", name, q.After, err)
		}
	}
}

func TestAnEventNameTooLongForASlotIsRefused(t *testing.T) {
	l := memory.New(memory.Options{})
	defer l.Close()
	m := store.Message{Group: "a", Event: strings.Repeat("e", 40_000), Time: time.Now(), Msg: []byte(`1`)}
	if _, err := l.Append(context.Background(), []store.Entry{m.Entry(nil)}); !errors.Is(err, store.ErrFull) {
		t.Errorf("80000 bytes before a message: %v", err)
	}
}
