package disk_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
	"github.com/watchbox-go/watchbox/store/tiered"
)

func put(l store.Log, name, text string, retain bool) error {
	m := store.Message{Group: name, Time: time.Now(), Msg: store.AppendQuote(nil, text), Retain: retain}
	_, err := l.Append(context.Background(), []store.Entry{m.Entry(nil)})
	return err
}

// narrowly opens a log that may take so much on disk.
func narrowly(t *testing.T, fs vfs.FS, most int64) *disk.Log {
	t.Helper()
	l, err := disk.Open(disk.Options{Dir: "store", MaxMemory: 1 << 20, MaxDisk: most, Fsync: disk.Never}.On(fs))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// TestTheLargestGroupMakesRoomOnDisk: a flood in one group takes nothing from the quiet ones.
func TestTheLargestGroupMakesRoomOnDisk(t *testing.T) {
	const most = 16 << 20
	l := narrowly(t, vfs.NewMem(), most)
	for i := range 20 {
		if err := put(l, fmt.Sprint("quiet/", i), "hello", false); err != nil {
			t.Fatal(err)
		}
	}
	for range 300 {
		if err := put(l, "flood", strings.Repeat("x", 200_000), false); err != nil {
			t.Fatal(err)
		}
	}
	quiet, flood := 0, int64(0)
	for _, g := range l.Groups() {
		if g.Group == "flood" {
			flood = g.Bytes
		} else {
			quiet++
		}
	}
	if quiet != 20 || flood == 0 || flood > most {
		t.Errorf("%d quiet groups of 20 are left, and %d bytes of the flood", quiet, flood)
	}
}

// TestWhatIsRetainedIsBoundedOnDisk: it takes no more than half, what replaces it is taken, and after
// a restart it counts as before.
func TestWhatIsRetainedIsBoundedOnDisk(t *testing.T) {
	const most = 16 << 20
	fs := vfs.NewMem()
	text := strings.Repeat("x", 200_000)
	fillUp := func(l *disk.Log, from int) (n int) {
		for n = from; n < 200; n++ {
			if err := put(l, fmt.Sprint("a/", n), text, true); errors.Is(err, store.ErrFull) {
				return n
			} else if err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	var n int
	t.Run("first life", func(t *testing.T) {
		l := narrowly(t, fs, most)
		n = fillUp(l, 0)
		if int64(n*len(text)) > most/2 || n < 20 {
			t.Errorf("%d are retained", n)
		}
		if err := put(l, "a/0", text, true); err != nil {
			t.Errorf("the next value of one: %v", err)
		}
	})
	t.Run("second life", func(t *testing.T) {
		l := narrowly(t, fs, most)
		if m := fillUp(l, n); m != n {
			t.Errorf("%d more are retained", m-n)
		}
		if err := l.Purge("a/1"); err != nil {
			t.Fatal(err)
		}
		if err := put(l, "b", text, true); err != nil {
			t.Errorf("in the place of another: %v", err)
		}
	})
}

// TestAForgottenGroupOfMemoryIsAGapAfterARestart: its messages are gone with the process, though
// the log on disk knew of the group no more.
func TestAForgottenGroupOfMemoryIsAGapAfterARestart(t *testing.T) {
	dir := tempDir(t)
	open := func() store.Store {
		s, err := tiered.Open(disk.Options{Dir: dir, MaxGroups: 12, Fsync: disk.Never})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	f, _ := group.ParseFilter("mem/#")
	if err := s.SetPolicy(f, store.Policy{Store: store.Memory}); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if err := put(s, fmt.Sprint("mem/", i), "hello", false); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 11 {
		if err := put(s, fmt.Sprint("disk/", i), "hello", false); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 8 {
		b := &store.Batch{Buf: make([]byte, 0, 64<<10)}
		name := fmt.Sprint("mem/", i)
		if err := s.Read(store.Query{Select: group.Set{group.Exact(name)}}, b); err != nil {
			t.Fatal(err)
		}
		if len(b.Gaps) == 0 {
			t.Errorf("nobody is told of what was in %s", name)
		}
	}
}
