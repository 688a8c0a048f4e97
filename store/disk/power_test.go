package disk_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

// cut is what a power cut has left, and what was known then.
type cut struct {
	fs   *vfs.MemFS
	then *record
	op   string
}

// cutter takes a picture of what a power cut would leave before each of the operations after which
// the disk is to have kept something.
type cutter struct {
	mem *vfs.MemFS
	r   *record

	mu   sync.Mutex // guards what follows
	rng  *rand.Rand
	cuts []cut
}

// String implements errorfs.Injector.
func (c *cutter) String() string { return "cuts" }

// MaybeError implements errorfs.Injector. It lets all operations be.
func (c *cutter) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpRename, errorfs.OpRemove:
		c.mu.Lock()
		defer c.mu.Unlock()
		kept := []int{0, 0, 50, 100}[c.rng.IntN(4)]
		then := c.r.copy() // first: what is acknowledged by now must be there
		fs := c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: c.rng})
		then.sent = c.r.copy().sent // and what is sent by now may be
		c.cuts = append(c.cuts, cut{fs, then, fmt.Sprintf("%v of %s", op.Kind, op.Path)})
	}
	return nil
}

// powerOptions are those of a log whose tables are small, so that there are many of them.
func powerOptions(fs vfs.FS, fsync disk.Fsync) disk.Options {
	return disk.Options{Dir: "store", MaxMemory: 1 << 20, Fsync: fsync}.On(fs).Recalling(1)
}

// work has four writers append to a log, while groups are bounded and purged.
func work(t *testing.T, fsync disk.Fsync, messages int) (*cutter, []cut) {
	mem := vfs.NewCrashableMem()
	c := &cutter{mem: mem, r: newRecord(), rng: rand.New(rand.NewPCG(1, 2))}
	l, err := disk.Open(powerOptions(errorfs.Wrap(mem, c), fsync))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetPolicy(group.Exact("few"), store.Policy{MaxMessages: 3}); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := range messages / 4 {
				text := fmt.Sprintf("%d-%d %s", w, n, strings.Repeat("x", 20*(n%50)))
				m := store.Message{Group: []string{"all", "few", "all/b"}[n%3], Time: time.Now(), Msg: store.AppendQuote(nil, text)}
				m.Retain = n%7 == 0
				c.r.send(text)
				id, err := l.Append(context.Background(), []store.Entry{m.Entry(nil)})
				if err != nil {
					t.Error(err)
					return
				}
				c.r.ack(id.String(), text)
			}
		})
	}
	writers.Wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	return c, c.cuts
}

// examine opens what a cut has left, judges it, and goes on with it for a moment: what is given an
// id then is judged, too.
func examine(t *testing.T, c cut, fsync disk.Fsync, lossless bool) []string {
	t.Helper()
	l, err := disk.Open(powerOptions(c.fs, fsync))
	if err != nil {
		return []string{fmt.Sprintf("it does not open: %v", err)}
	}
	text := "after the cut"
	c.then.send(text)
	m := store.Message{Group: "all", Time: time.Now(), Msg: store.AppendQuote(nil, text)}
	id, err := l.Append(t.Context(), []store.Entry{m.Entry(nil)})
	if err != nil {
		t.Fatal(err)
	}
	c.then.ack(id.String(), text)
	got, gaps, err := all(l, "#")
	if err != nil {
		t.Fatal(err)
	}
	few, err := evicted(l)
	if err != nil {
		t.Fatal(err)
	}
	c.then.judge(got, func(id string) bool {
		return !lossless && covered(id, gaps) || covered(id, few) && isFew(c.then.is[id])
	})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	return c.then.wrong
}

// evicted returns the gap of the group that keeps few messages.
func evicted(l store.Log) ([]store.Gap, error) {
	b := &store.Batch{Buf: make([]byte, 0, 64<<10)}
	err := l.Read(store.Query{Select: group.Set{group.Exact("few")}}, b)
	return b.Gaps, err
}

// isFew reports whether a text was sent to that group.
func isFew(text string) bool {
	var w, n int
	_, err := fmt.Sscanf(text, "%d-%d ", &w, &n)
	return err == nil && n%3 == 1
}

// TestAPowerCutAtAnyMomentLosesNothingAcknowledged cuts the power before each operation that has
// the disk keep something.
func TestAPowerCutAtAnyMomentLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	_, cuts := work(t, disk.Always, 800)
	if len(cuts) < 50 {
		t.Fatalf("only %d cuts", len(cuts))
	}
	for _, c := range some(cuts, 30*scale) {
		for _, s := range examine(t, c, disk.Always, true) {
			t.Errorf("cut before %s: %s", c.op, s)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d cuts", len(cuts))
}

// TestAPowerCutWithoutFsyncIsReportedAsAGap: every reader gets a gap that covers the messages lost, and no id
// names two contents.
func TestAPowerCutWithoutFsyncIsReportedAsAGap(t *testing.T) {
	t.Parallel()
	for name, fsync := range map[string]disk.Fsync{"never": disk.Never, "interval": disk.Fsync(2 * time.Millisecond)} {
		t.Run(name, func(t *testing.T) {
			_, cuts := work(t, fsync, 800)
			for _, c := range some(cuts, 30*scale) {
				for _, s := range examine(t, c, fsync, false) {
					t.Errorf("cut before %s: %s", c.op, s)
				}
				if t.Failed() {
					return
				}
			}
			t.Logf("%d cuts", len(cuts))
		})
	}
}

// TestTheJudgeFindsMessagesLostByAPowerCut: a log that acknowledges what is not on disk is found out.
func TestTheJudgeFindsMessagesLostByAPowerCut(t *testing.T) {
	t.Parallel()
	_, cuts := work(t, disk.Never, 800)
	found := 0
	for _, c := range some(cuts, 30*scale) {
		for _, s := range examine(t, c, disk.Always, true) {
			if strings.Contains(s, "lost") {
				found++
			}
		}
	}
	if found == 0 {
		t.Error("no fault was found")
	}
}
