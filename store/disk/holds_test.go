package disk_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// TestNoCallHoldsTheLockForLong makes each call that may have much to do in a log of 6,000 groups, each of
// which has lost messages. It counts the groups and the messages that one hold or turn examines.
func TestNoCallHoldsTheLockForLong(t *testing.T) {
	t.Parallel()
	const groups = 6000
	l, err := disk.Open(disk.Options{Dir: "store", MaxMemory: 32 << 20, Fsync: disk.Never}.On(vfs.NewMem()).Recalling(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	check := func(what string) {
		t.Helper()
		if n := l.MaxHeld(); n > disk.MaxHold {
			t.Errorf("%s: one hold or turn examines %d groups, want at most %d", what, n, disk.MaxHold)
		}
		if n := l.MaxExamined(); n > disk.MaxLooked {
			t.Errorf("%s: one step examines %d messages, want at most %d", what, n, disk.MaxLooked)
		}
	}
	say := func() {
		for from := 0; from < groups; from += 500 {
			var entries []store.Entry
			for i := range 500 {
				m := store.Message{Group: fmt.Sprintf("few/%d/temp", from+i), Time: time.Now(), Msg: []byte("1")}
				entries = append(entries, m.Entry(nil))
			}
			if _, err := l.Append(t.Context(), entries); err != nil {
				t.Fatal(err)
			}
		}
	}
	say()
	say()
	for _, last := range []int{3, math.MaxInt32} {
		for filter, want := range map[string]int{"#": 2 * groups, "few/#": 2 * groups, "few/7/+": 2, "few/7/temp": 2, "+/none": 0} {
			_, newest := l.Bounds()
			var seqs []store.Seq
			err := l.Backward(filtersOf(filter), last, func(seq store.Seq) bool { seqs = append(seqs, seq); return true })
			if err != nil || len(seqs) != min(want, last) || !slices.IsSortedFunc(seqs, func(a, b store.Seq) int { return int(b) - int(a) }) {
				t.Errorf("the last %d of %s: %d messages and %v, want %d, the newest first", last, filter, len(seqs), err, min(want, last))
			}
			at := newest.Seq
			if len(seqs) > 0 {
				at = seqs[len(seqs)-1] - 1
			}
			if pos, err := l.Find(filtersOf(filter), store.Start{Last: last}); err != nil || pos != at {
				t.Errorf("the last %d of %s begin after %d (%v), want %d", last, filter, pos, err, at)
			}
			check("last of " + filter)
		}
	}
	if err := l.SetPolicy(filtersOf("few/#")[0], store.Policy{MaxMessages: 1}); err != nil {
		t.Fatal(err)
	}
	check("a policy of all groups")
	if u := l.Usage(); u.Messages != groups {
		t.Errorf("the policy left %d messages, want %d", u.Messages, groups)
	}
	for filter, gap := range map[string]store.Seq{"few/#": groups, "few/7/+": 8, "few/7/temp": 8, "+/none": 0} {
		b := &store.Batch{Buf: make([]byte, 0, 64<<10)}
		if err := l.Read(store.Query{Select: filtersOf(filter)}, b); err != nil {
			t.Fatal(err)
		}
		if got := gapOf(b); got != gap {
			t.Errorf("%s has a gap up to %d, want %d", filter, got, gap)
		}
		reported := b.Reported
		if err := l.Read(store.Query{Select: filtersOf(filter), Reported: reported}, b); err != nil {
			t.Fatal(err)
		}
		if got := gapOf(b); got != 0 {
			t.Errorf("%s: a gap up to %d is reported again", filter, got)
		}
		check("gaps of " + filter)
	}
	if pos, err := l.Find(filtersOf("few/#"), store.Start{Since: time.Now().Add(-time.Hour)}); err != nil || pos >= groups {
		t.Errorf("messages of the last hour begin after %d (%v), though older ones were evicted", pos, err)
	}
	check("since")
}

// gapOf returns how far the first gap of a batch reaches, or 0.
func gapOf(b *store.Batch) store.Seq {
	if len(b.Gaps) == 0 {
		return 0
	}
	return b.Gaps[0].Evicted
}
