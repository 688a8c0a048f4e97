package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// narrowly opens a log that may use the given number of bytes on disk.
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

// TestTheLargestGroupIsEvictedFirst: a flood in one group evicts nothing from quiet groups.
func TestTheLargestGroupIsEvictedFirst(t *testing.T) {
	t.Parallel()
	const most = 8 << 20
	l := narrowly(t, vfs.NewMem(), most)
	for i := range 20 {
		if err := put(l, fmt.Sprint("quiet/", i), "hello", false); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		if err := put(l, "flood", strings.Repeat("x", 200_000), false); err != nil {
			t.Fatal(err)
		}
	}
	quiet, flood := 0, int64(0)
	for g := range store.EachGroup(l, "") {
		if g.Group == "flood" {
			flood = g.Bytes
		} else {
			quiet++
		}
	}
	if quiet != 20 || flood == 0 || flood > most {
		t.Errorf("%d of 20 quiet groups and %d bytes of the flood are left", quiet, flood)
	}
}

// TestRetainedMessagesTakeAtMostHalfOfTheDisk: more are refused, replacements are accepted, and
// the limit also holds after a restart.
func TestRetainedMessagesTakeAtMostHalfOfTheDisk(t *testing.T) {
	t.Parallel()
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
			t.Errorf("%d messages were accepted", n)
		}
		if err := put(l, "a/0", text, true); err != nil {
			t.Errorf("replacing a retained message: %v", err)
		}
	})
	t.Run("second life", func(t *testing.T) {
		l := narrowly(t, fs, most)
		if m := fillUp(l, n); m != n {
			t.Errorf("%d more messages were accepted", m-n)
		}
		if err := l.Purge("a/1"); err != nil {
			t.Fatal(err)
		}
		if err := put(l, "b", text, true); err != nil {
			t.Errorf("after another was purged: %v", err)
		}
	})
}

// TestAForgottenGroupInMemoryIsAGapAfterARestart: its messages are lost with the process, even if the log on disk
// had forgotten the group.
func TestAForgottenGroupInMemoryIsAGapAfterARestart(t *testing.T) {
	t.Parallel()
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
			t.Errorf("%s lost messages without a gap", name)
		}
	}
}

// small is a disk of a given size in bytes.
type small struct {
	*vfs.MemFS
	size    uint64
	removed chan struct{} // holds a wake-up after each removal of a file
}

// Remove implements vfs.FS.
func (s *small) Remove(name string) error {
	defer waker(s.removed)()
	return s.MemFS.Remove(name)
}

// GetDiskUsage implements vfs.FS.
func (s *small) GetDiskUsage(string) (vfs.DiskUsage, error) {
	used := uint64(0)
	list, err := s.List("store/log")
	for _, name := range list {
		if info, err := s.Stat("store/log/" + name); err == nil { // otherwise it was just removed
			used += uint64(info.Size())
		}
	}
	return vfs.DiskUsage{AvailBytes: s.size - min(used, s.size), TotalBytes: s.size, UsedBytes: used}, err
}

// TestAFullDiskCanBeEmptiedByPurges: the log keeps enough room free for deletions, and gives back the room of
// deleted messages.
func TestAFullDiskCanBeEmptiedByPurges(t *testing.T) {
	t.Parallel()
	fs := &small{vfs.NewMem(), 40 << 20, make(chan struct{}, 1)}
	l := narrowly(t, fs, 0)
	rng := rand.New(rand.NewPCG(7, 8))
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = 'a' + byte(rng.IntN(26))
	}
	text := func() string { // hardly compressible
		at := rng.IntN(len(random) - 100_000)
		return string(random[at : at+100_000])
	}
	for range 2 {
		n := 0
		for ; n < 2000; n++ {
			err := put(l, fmt.Sprint("a/", n%4), text(), n%8 == 0)
			if errors.Is(err, store.ErrFull) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if full, _ := fs.GetDiskUsage(""); n < 100 || full.AvailBytes < 1<<20 {
			t.Fatalf("the disk is full with %d messages, and %d bytes are free", n, full.AvailBytes)
		}
		if err := l.SetPolicy(group.Exact("a/0"), store.Policy{MaxMessages: 3}); err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			if err := l.Purge(fmt.Sprint("a/", i)); err != nil {
				t.Fatal(err)
			}
		}
		until(t, fs.removed, "the room is given back", func() bool {
			u, err := fs.GetDiskUsage("")
			return err == nil && u.UsedBytes < 12<<20
		})
	}
}

// TestChangedBoundsApplyFromTheStart even if nothing is published.
func TestChangedBoundsApplyFromTheStart(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	for _, most := range []int64{0, 5} {
		turned := make(chan struct{}, 1)
		l, err := disk.Open(disk.Options{Dir: dir, Server: store.Policy{MaxMessages: most}, Fsync: disk.Never}.Watched(waker(turned)))
		if err != nil {
			t.Fatal(err)
		}
		if most > 0 {
			until(t, turned, "the new bound holds", func() bool { return groups(l)[0].Messages == most })
		}
		for i := range 30 {
			if err := put(l, "a", fmt.Sprint(i), false); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPoliciesOfGroupsInMemorySurviveARestart with all their fields.
func TestPoliciesOfGroupsInMemorySurviveARestart(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	for life := range 2 {
		s, err := tiered.Open(disk.Options{Dir: dir, Fsync: disk.Never})
		if err != nil {
			t.Fatal(err)
		}
		if life == 0 {
			if err := s.SetPolicy(group.Exact("a"), store.Policy{Store: store.Memory, MaxMessages: 3}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			if err := put(s, "a", fmt.Sprint(i), false); err != nil {
				t.Fatal(err)
			}
		}
		if list := groups(s); len(list) != 1 || list[0].Messages != 3 {
			t.Errorf("in life %d the groups are %+v", life, list)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAMessageRefusedByMemoryLeavesTheStoreUnchanged: its new group holds nothing.
func TestAMessageRefusedByMemoryLeavesTheStoreUnchanged(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	for life := range 2 {
		s, err := tiered.Open(disk.Options{Dir: dir, MaxMemory: 4 << 20, Fsync: disk.Never})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetPolicy(filtersOf("m/#")[0], store.Policy{Store: store.Memory}); err != nil {
			t.Fatal(err)
		}
		if err := put(s, "d", "hello", false); err != nil {
			t.Fatal(err)
		}
		if err := put(s, fmt.Sprint("m/", life), strings.Repeat("x", 4<<20), false); !errors.Is(err, store.ErrFull) {
			t.Errorf("a message larger than the memory: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := disk.Check(dir, func(fault string) { t.Error(fault) }, nil); err != nil {
		t.Error(err)
	}
}

// TestAPurgeOnAFullDiskIsAnswered purges a group that takes two turns to evict, on a disk that is full after
// the first turn. The call returns without an error, and the purge is completed when there is room. The log can
// be closed before that.
func TestAPurgeOnAFullDiskIsAnswered(t *testing.T) {
	t.Parallel()
	const messages = 4 * 8400 // more than one turn evicts
	for _, completed := range []bool{false, true} {
		fs := &narrow{FS: vfs.NewMem()}
		fs.room.Store(1 << 30)
		turned := make(chan struct{}, 1)
		var fills atomic.Bool
		var l *disk.Log
		wake := waker(turned)
		l, err := disk.Open(disk.Options{Dir: "store", MaxMemory: 8 << 20}.On(fs).Watched(func() {
			if fills.Load() && l.Usage().Messages < messages {
				fills.Store(false)
				fs.room.Store(0)
			}
			wake()
		}))
		if err != nil {
			t.Fatal(err)
		}
		m := store.Message{Group: "a", Time: time.Now(), Msg: []byte("1")}
		for range 4 {
			if _, err := l.Append(t.Context(), slices.Repeat([]store.Entry{m.Entry(nil)}, messages/4)); err != nil {
				t.Fatal(err)
			}
		}
		fills.Store(true)
		if err := l.Purge("a"); err != nil {
			t.Errorf("purge: %v", err)
		}
		if left := groups(l); len(left) == 0 {
			t.Error("the purge met no full disk: the test proves nothing")
		}
		if completed {
			fs.room.Store(1 << 30)
			until(t, turned, "the purge is completed", func() bool { return len(groups(l)) == 0 })
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPoliciesSetConcurrentlyAreTheSameInBothTiers sets policies in parallel. Any of them may be the last.
func TestPoliciesSetConcurrentlyAreTheSameInBothTiers(t *testing.T) {
	t.Parallel()
	s, err := tiered.Open(disk.Options{Dir: tempDir(t), Fsync: disk.Never})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for round := range 50 {
		var all sync.WaitGroup
		for most := range int64(4) {
			all.Go(func() {
				if err := s.SetPolicy(group.Exact("m"), store.Policy{Store: store.Memory, MaxMessages: 10 + most}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for i := range 20 {
			if err := put(s, "m", fmt.Sprint(i), false); err != nil {
				t.Fatal(err)
			}
		}
		if says, is := s.Policy(group.Exact("m")).MaxMessages, groups(s)[0].Messages; says != is {
			t.Fatalf("in round %d the policy keeps %d messages, and %d are held", round, says, is)
		}
	}
}

// TestAGroupThatMovesFromMemoryToDiskHasAGapAfterARestart: the log on disk had forgotten the group while its
// messages were in memory, and knows it again when the process ends.
func TestAGroupThatMovesFromMemoryToDiskHasAGapAfterARestart(t *testing.T) {
	t.Parallel()
	o := disk.Options{Dir: tempDir(t), Fsync: disk.Never, MaxGroups: 3}
	s, err := tiered.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	kept := func(k store.Kind) {
		if err := s.SetPolicy(group.Exact("x"), store.Policy{Store: k}); err != nil {
			t.Fatal(err)
		}
	}
	say := func(names ...string) {
		for _, name := range names {
			if err := put(s, name, "hello", true); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept(store.Memory)
	say("y/0", "x", "y/1", "y/2") // the log on disk forgets x
	if err := s.Purge("y/0"); err != nil {
		t.Fatal(err)
	}
	kept(store.Disk)
	say("x")
	b := &store.Batch{Buf: make([]byte, 0, 64<<10)}
	_, end := s.Bounds()
	if err := s.Read(store.Query{Select: filtersOf("x"), Retained: true, Through: end.Seq}, b); err != nil || len(b.Frames) != 1 {
		t.Errorf("%d messages are retained, want 1: %v", len(b.Frames), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = tiered.Open(o); err != nil {
		t.Fatal(err)
	}
	err = s.Read(store.Query{Select: filtersOf("x")}, b)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	if len(b.Frames) != 1 || len(b.Gaps) != 1 {
		t.Errorf("read %d messages and %d gaps, want 1 and 1", len(b.Frames), len(b.Gaps))
	}
}

// groups returns all groups that hold messages.
func groups(k store.Keeper) []store.GroupInfo { return slices.Collect(store.EachGroup(k, "")) }

// TestExpiredMessagesFreeTheirRoomAfterARestart: new groups can replace their groups, and retained messages free
// their room, in a store that was closed, or exported and imported. They leave nothing on disk.
func TestExpiredMessagesFreeTheirRoomAfterARestart(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"close", "export"} {
		t.Run(end, func(t *testing.T) {
			root := tempDir(t)
			o := disk.Options{Dir: root + "/0", MaxGroups: 8, Fsync: disk.Never}.Recalling(1)
			l, err := disk.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			expires := time.Now().Add(time.Hour)
			if end == "close" {
				expires = time.Now().Add(time.Second)
			}
			for i := range 7 {
				for n := range 3 {
					m := store.Message{Group: fmt.Sprint("a/", i), Time: time.Now(), Msg: []byte("1"), Retain: n%2 == 0, Expires: expires}
					if i == 0 && n == 1 {
						m.Expires = time.Time{} // one message stays
					}
					if i == 1 && n == 1 {
						m.Expires = time.Now().Add(-time.Second)
					}
					if _, err := l.Append(t.Context(), []store.Entry{m.Entry(nil)}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := l.SetPolicy(group.Exact("a/2"), store.Policy{MaxMessages: 1}); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if end == "export" {
				var dump bytes.Buffer
				if err := disk.Export(o.Dir, &dump, nil); err != nil {
					t.Fatal(err)
				}
				o.Dir = root + "/1"
				if err := disk.Import(t.Context(), o.Dir, &dump, disk.ImportOptions{Moved: true}); err != nil {
					t.Fatal(err)
				}
			} else {
				turned := make(chan struct{}, 1)
				if l, err = disk.Open(o.Watched(waker(turned))); err != nil {
					t.Fatal(err)
				}
				until(t, turned, "expired messages are evicted", func() bool {
					list := groups(l)
					return len(list) == 1 && list[0].Messages == 1 && !list[0].Retained && list[0].Oldest == 2 && list[0].Newest == 2
				})
				for i := range 7 {
					if err := put(l, fmt.Sprint("b/", i), "new", true); err != nil {
						t.Error(err)
					}
				}
				if got, gaps, err := all(l, "a/0"); err != nil || len(got) != 1 || len(gaps) > 0 {
					t.Errorf("read %d messages and %d gaps, want 1 and none: %v", len(got), len(gaps), err)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := disk.Check(o.Dir, func(fault string) { t.Error(fault) }, nil); err != nil {
				t.Error(err)
			}
		})
	}
}
