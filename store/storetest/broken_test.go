package storetest_test

import (
	"cmp"
	"context"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/sparse"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
	"github.com/watchbox-go/watchbox/store/storetest"
)

// broken is a store with a bug. Its fields replace methods of the good store.
type broken struct {
	store.Store
	append func(s store.Store, entries []store.Entry) (store.ID, error)
	read   func(s store.Store, q store.Query, b *store.Batch) error
	bounds func(oldest, newest store.ID) (store.ID, store.ID)
	watch  func(s store.Store, wake chan<- struct{}) func()
	policy func(p *store.Policy)
	close  func(s store.Store) error
}

func (b *broken) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	if b.append != nil {
		return b.append(b.Store, entries)
	}
	return b.Store.Append(ctx, entries)
}

func (b *broken) Read(q store.Query, batch *store.Batch) error {
	if b.read != nil {
		return b.read(b.Store, q, batch)
	}
	return b.Store.Read(q, batch)
}

func (b *broken) Bounds() (oldest, newest store.ID) {
	oldest, newest = b.Store.Bounds()
	if b.bounds != nil {
		return b.bounds(oldest, newest)
	}
	return oldest, newest
}

func (b *broken) Watch(wake chan<- struct{}) func() {
	if b.watch != nil {
		return b.watch(b.Store, wake)
	}
	return b.Store.Watch(wake)
}

func (b *broken) SetPolicy(f group.Filter, p store.Policy) error {
	if b.policy != nil {
		b.policy(&p)
	}
	return b.Store.SetPolicy(f, p)
}

func (b *broken) Close() error {
	if b.close != nil {
		return b.close(b.Store)
	}
	return b.Store.Close()
}

// bugs are the bugs, each with the tests that should find it.
var bugs = []struct {
	name   string
	finder string // prefix of the names of these tests
	make   func(s store.Store) *broken
}{
	{"loses one message in 1000", "I1", func(s store.Store) *broken {
		return &broken{Store: s, read: func(s store.Store, q store.Query, b *store.Batch) error {
			err := s.Read(q, b)
			keep(b, func(f store.Frame) int { return min(1, int(f.Seq%1000)) })
			return err
		}}
	}},
	{"loses one message in 20", "random operations agree", func(s store.Store) *broken {
		return &broken{Store: s, read: func(s store.Store, q store.Query, b *store.Batch) error {
			err := s.Read(q, b)
			keep(b, func(f store.Frame) int { return min(1, int((f.Seq+7)%20)) })
			return err
		}}
	}},
	{"repeats a message", "I4", func(s store.Store) *broken {
		return &broken{Store: s, read: func(s store.Store, q store.Query, b *store.Batch) error {
			err := s.Read(q, b)
			keep(b, func(f store.Frame) int { return 1 + int(f.Seq)/6 })
			return err
		}}
	}},
	{"stops one short of the end", "Next moves past", func(s store.Store) *broken {
		return &broken{Store: s, read: func(s store.Store, q store.Query, b *store.Batch) error {
			err := s.Read(q, b)
			b.Next = max(b.Next, 1) - 1
			return err
		}}
	}},
	{"reports no gaps", "I5", func(s store.Store) *broken {
		return &broken{Store: s, read: func(s store.Store, q store.Query, b *store.Batch) error {
			err := s.Read(q, b)
			b.Gaps = nil
			return err
		}}
	}},
	{"reports one gap and no later one", "all at once", func(s store.Store) *broken {
		return &broken{Store: s, read: func(s store.Store, q store.Query, b *store.Batch) error {
			if q.Reported > 0 {
				q.Reported = math.MaxUint64
			}
			return s.Read(q, b)
		}}
	}},
	{"reports a gap without a loss", "I5", func(s store.Store) *broken {
		return &broken{Store: s, read: func(s store.Store, q store.Query, b *store.Batch) error {
			err := s.Read(q, b)
			if len(b.Gaps) == 0 && b.Next > q.After && s.Usage().Evicted > 0 {
				b.Gaps = append(b.Gaps, store.Gap{Filter: "quiet", Evicted: b.Next})
			}
			return err
		}}
	}},
	{"retains the first message instead of the last", "I6", func(s store.Store) *broken {
		had := map[string]bool{}
		return &broken{Store: s, append: func(s store.Store, entries []store.Entry) (store.ID, error) {
			for i := range entries {
				e := &entries[i]
				e.Retain = e.Retain && (e.Clear || !had[e.Group])
				had[e.Group] = had[e.Group] || e.Retain && !e.Clear
			}
			return s.Append(context.Background(), entries)
		}}
	}},
	{"ignores expiry", "I8", func(s store.Store) *broken {
		return &broken{Store: s, append: func(s store.Store, entries []store.Entry) (store.ID, error) {
			for i := range entries {
				entries[i].Expires = time.Time{}
			}
			return s.Append(context.Background(), entries)
		}}
	}},
	{"gives ids of an earlier life again", "I3", func(s store.Store) *broken {
		same := func(id store.ID) store.ID { return store.ID{Epoch: "same", Seq: id.Seq} }
		return &broken{Store: s, bounds: func(oldest, newest store.ID) (store.ID, store.ID) {
			return same(oldest), same(newest)
		}}
	}},
	{"tears batches", "I2", func(s store.Store) *broken {
		return &broken{Store: s, append: func(s store.Store, entries []store.Entry) (first store.ID, err error) {
			for i := range entries {
				id, err := s.Append(context.Background(), entries[i:i+1])
				if err != nil {
					return id, err
				}
				if i == 0 {
					first = id
				}
			}
			return first, nil
		}}
	}},
	{"skips an id within an Append", "I2 ids rise", func(s store.Store) *broken {
		return &broken{Store: s, append: func(s store.Store, entries []store.Entry) (store.ID, error) {
			_, id := s.Bounds()
			id.Seq++
			seqs := make([]store.Seq, len(entries))
			for i := range seqs {
				seqs[i] = id.Seq + 2*store.Seq(i)
			}
			return id, s.(*memory.Log).Place(entries, seqs)
		}}
	}},
	{"examines 10000 ids per read instead of as many messages", "I1", func(s store.Store) *broken {
		_ = s.Close()
		// Only a store that skips ids shows this bug.
		return &broken{Store: sparse.New(memory.Options{}), read: func(s store.Store, q store.Query, b *store.Batch) error {
			_, newest := s.Bounds()
			q.Through = min(cmp.Or(q.Through, newest.Seq), newest.Seq, q.After+10_000)
			return s.Read(q, b)
		}}
	}},
	{"loses a wake-up", "I7", func(s store.Store) *broken {
		watched := false
		return &broken{Store: s, watch: func(s store.Store, wake chan<- struct{}) func() {
			if watched {
				return func() {}
			}
			watched = true
			return s.Watch(wake)
		}}
	}},
	{"does not give evicted messages to live readers", "a live reader", func(s store.Store) *broken {
		return &broken{Store: s, read: func(s store.Store, q store.Query, b *store.Batch) error {
			q.Live = false
			return s.Read(q, b)
		}}
	}},
	{"ignores max_age", "max_age", func(s store.Store) *broken {
		return &broken{Store: s, policy: func(p *store.Policy) { p.MaxAge = 0 }}
	}},
	{"leaves a goroutine", "Close", func(s store.Store) *broken {
		return &broken{Store: s, close: func(s store.Store) error {
			go func() { select {} }()
			return s.Close()
		}}
	}},
	{"panics with its lock held", "I2", func(s store.Store) *broken {
		lock := make(chan struct{}, 1)
		return &broken{
			Store: s,
			append: func(store.Store, []store.Entry) (store.ID, error) {
				lock <- struct{}{}
				panic("a ring is nil")
			},
			close: func(s store.Store) error {
				lock <- struct{}{} // forever
				return s.Close()
			},
		}
	}},
}

// keep repeats each frame of a batch as often as times returns.
func keep(b *store.Batch, times func(store.Frame) int) {
	frames, buf := b.Frames, b.Buf
	b.Frames, b.Buf = nil, nil
	for _, f := range frames {
		for range times(f) {
			at := len(b.Buf)
			b.Buf = append(b.Buf, buf[f.At:f.At+len(f.Bytes)]...)
			f.At = at
			b.Frames = append(b.Frames, f)
		}
	}
	for i := range b.Frames {
		f := &b.Frames[i]
		f.Bytes = b.Buf[f.At : f.At+len(f.Bytes)]
	}
}

// TestBroken runs the suite with a broken store. TestTheSuiteFindsBugs runs it in a process of its own.
func TestBroken(t *testing.T) {
	for _, c := range bugs {
		if c.name != os.Getenv("STORETEST_BUG") {
			continue
		}
		storetest.Run(t, func(t *testing.T, o storetest.Options) store.Store {
			return c.make(memory.New(memory.Options{MaxMemory: o.MaxMemory, MaxGroups: o.MaxGroups, Server: o.Server}))
		})
	}
}

func TestTheSuiteFindsBugs(t *testing.T) {
	for _, c := range bugs {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			finds(t, "TestBroken", c.name, c.finder)
		})
	}
}

// finds runs those tests of a suite whose names begin with finder, with a bug, and fails unless one of them fails.
func finds(t *testing.T, suite, bug, finder string) {
	t.Helper()
	finder = strings.ReplaceAll(finder, " ", "_")
	cmd := exec.CommandContext(t.Context(), os.Args[0],
		"-test.run=^"+suite+"$/^"+finder, "-test.failfast", "-test.timeout=5m",
		"-rapid.nofailfile", "-rapid.shrinktime=100ms")
	cmd.Env = append(os.Environ(), "STORETEST_BUG="+bug)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: "+suite+"/"+finder) || strings.Contains(string(out), "test timed out") {
		t.Errorf("a store that %s passes, or fails in another test: %v\n%s", bug, err, last(out, 3000))
	}
}

func last(b []byte, n int) string { return string(b[max(0, len(b)-n):]) }
