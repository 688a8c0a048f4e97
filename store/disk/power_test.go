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

// cut is a file system after a power cut, and the record at that time.
type cut struct {
	fs   *vfs.MemFS
	then *record
	op   string
}

// cutter clones the file system as a power cut would leave it, before each operation that makes data durable.
type cutter struct {
	mem *vfs.MemFS
	r   *record

	mu   sync.Mutex // guards the fields below
	rng  *rand.Rand
	cuts []cut
}

// String implements errorfs.Injector.
func (c *cutter) String() string { return "cuts" }

// MaybeError implements errorfs.Injector. It never fails an operation.
func (c *cutter) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpRename, errorfs.OpRemove:
		c.mu.Lock()
		defer c.mu.Unlock()
		kept := []int{0, 0, 50, 100}[c.rng.IntN(4)]
		then := c.r.copy() // copied first: messages acknowledged by now must be on disk
		fs := c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: c.rng})
		then.sent = c.r.copy().sent // messages sent by now may be on disk
		c.cuts = append(c.cuts, cut{fs, then, fmt.Sprintf("%v of %s", op.Kind, op.Path)})
	}
	return nil
}

// powerOptions returns options of a log with many small tables.
func powerOptions(fs vfs.FS, fsync disk.Fsync) disk.Options {
	return disk.Options{Dir: "store", MaxMemory: 1 << 20, Fsync: fsync}.On(fs).Recalling(1)
}

// work runs four writers on a log with a bounded group.
func work(t *testing.T, fsync disk.Fsync, messages int) (*cutter, []cut) {
	mem := vfs.NewCrashableMem()
	c := &cutter{mem: mem, r: newRecord(), rng: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
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

// examine opens the log after a cut and judges it. It then appends a message and judges its id, too.
func examine(t *testing.T, c cut, fsync disk.Fsync, lossless bool) []string {
	t.Helper()
	l, err := disk.Open(powerOptions(c.fs, fsync))
	if err != nil {
		return []string{fmt.Sprintf("the store cannot be opened: %v", err)}
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

// isFew reports whether a text was sent to the group "few".
func isFew(text string) bool {
	var w, n int
	_, err := fmt.Sscanf(text, "%d-%d ", &w, &n)
	return err == nil && n%3 == 1
}

// TestAPowerCutAtAnyMomentLosesNothingAcknowledged cuts the power before each operation that
// makes data durable.
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

// TestTheJudgeFindsMessagesLostByAPowerCut judges a log that acknowledges messages before they are on disk.
func TestTheJudgeFindsMessagesLostByAPowerCut(t *testing.T) {
	t.Parallel()
	for range 20 { // a cut may be one after which everything was on disk by chance
		_, cuts := work(t, disk.Never, 800)
		for _, c := range some(cuts, 30*scale) {
			for _, s := range examine(t, c, disk.Always, true) {
				if strings.Contains(s, "lost") {
					return
				}
			}
		}
	}
	t.Error("no fault was found")
}
