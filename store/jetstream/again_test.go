package jetstream

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
)

// TestAHubThatHasMissedAVersionDoesNotBringBackAnOlderOne lets a hub store a version again that a newer one had replaced.
func TestAHubThatHasMissedAVersionDoesNotBringBackAnOlderOne(t *testing.T) {
	for name, newer := range map[string]record{
		"changed": {flags: isNote, key: "k", value: []byte("new"), version: 2},
		"removed": {flags: isNote | isRemoval, key: "k", version: 2},
	} {
		t.Run(name, func(t *testing.T) {
			var knows, missed noteTable
			for _, n := range []*noteTable{&knows, &missed} {
				n.init()
			}
			seq := store.Seq(0)
			set := func(r record, tables ...*noteTable) {
				seq++
				r.seq, r.place.seq = seq, seq
				for _, n := range tables {
					n.set(&r, seq, false)
				}
			}
			again := func(n *noteTable) {
				t.Helper()
				list, _, _ := n.again(func(place) bool { return false })
				if len(list) != 1 {
					t.Fatalf("%d notes are stored again", len(list))
				}
				r := []record{{flags: isNote | isAgain, key: "k", value: list[0].Value}}
				if list[0].Value == nil {
					r[0].flags |= isRemoval
				}
				if err := n.guard(list, r); err != nil {
					t.Fatal(err)
				}
				set(r[0], &knows, &missed)
			}
			set(record{flags: isNote, key: "k", value: []byte("old"), version: 1}, &knows, &missed)
			set(newer, &knows)
			knows.pass(seq)
			missed.pass(seq)
			again(&missed)
			if v := knows.notes["k"]; string(v.value) != string(newer.value) || v.removed != newer.is(isRemoval) {
				t.Errorf("the older version is taken: %+v", v)
			}
			again(&knows)
			for _, n := range []*noteTable{&knows, &missed} {
				if v := n.notes["k"]; string(v.value) != string(newer.value) || v.removed != newer.is(isRemoval) || v.at != 2 || v.place.seq != seq {
					t.Errorf("%+v", v)
				}
				if list, _, _ := n.again(func(place) bool { return false }); len(list) > 0 {
					t.Errorf("it is stored again once more: %v", list)
				}
			}
		})
	}
}

// TestANoteIsNearTheFront when more than half of what a limit allows is behind it.
func TestANoteIsNearTheFront(t *testing.T) {
	const at = 1700000000123
	note := place{seq: 20, bytes: 1000, time: at}
	for name, c := range map[string]jetstream.StreamConfig{
		"max_bytes": {MaxBytes: 100}, "max_msgs": {MaxMsgs: 100}, "max_age": {MaxAge: 100 * time.Millisecond, Discard: jetstream.DiscardNew},
	} {
		for n, want := range map[int64]bool{50: false, 51: true} {
			b := boundsOf(&c)
			if got := b.near(note, place{seq: 20 + store.Seq(n), bytes: 1000 + n, time: at + n}); got != want {
				t.Errorf("%s: behind %d: %v", name, n, got)
			}
		}
	}
	for _, c := range []jetstream.StreamConfig{{MaxBytes: -1, MaxMsgs: -1}, {MaxBytes: 100, Discard: jetstream.DiscardNew}} {
		if b := boundsOf(&c); b.near(note, place{seq: 1000, bytes: 10_000, time: at + 1e9}) {
			t.Errorf("nothing is removed with %+v", b)
		}
	}
}

// TestANoteOfAnotherStreamIsANewOne has a hub store a note again that does not know yet that the stream is another one.
func TestANoteOfAnotherStreamIsANewOne(t *testing.T) {
	var n noteTable
	n.init()
	var told []store.Seq
	n.follow = func(n store.Note) { told = append(told, n.At) }
	for _, r := range []record{
		{flags: isNote | isAgain, key: "k", value: []byte("old"), was: 1000, version: 1, seq: 3},
		{flags: isNote, key: "k", value: []byte("new"), version: 2, seq: 4},
	} {
		r.place.seq = r.seq
		n.set(&r, r.seq, false)
	}
	if !slices.Equal(told, []store.Seq{3, 4}) {
		t.Errorf("the hub is told of versions at %v", told)
	}
}
