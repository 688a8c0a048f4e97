package disk_test

import (
	"context"
	"flag"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/leak"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
	"github.com/watchbox-go/watchbox/store/storetest"
	"github.com/watchbox-go/watchbox/store/tiered"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir, os.Getenv(victimFsync))
	}
	if err := flag.Set("rapid.checks", strconv.Itoa(10*scale)); err != nil { // each opens a log
		panic(err)
	}
	flag.Parse()
	leak.Main(m)
}

func TestStore(t *testing.T) {
	suite(t, func(o disk.Options) (store.Store, error) { return disk.Open(o) })
}

// TestTieredStore runs the suite with a log that keeps some of the suite's groups in memory.
func TestTieredStore(t *testing.T) {
	suite(t, func(o disk.Options) (store.Store, error) {
		l, err := tiered.Open(o)
		if err != nil {
			return nil, err
		}
		return &mixed{Store: l, set: map[string]bool{}}, nil
	})
}

var inMemory = []string{"a/b", "c", "d", "b/x", "a/b/c", "$e", "even", "busy", "group/1"}

// mixed keeps the groups of inMemory in memory. It sets their policies when their first message comes, since the
// suite counts policies, too.
type mixed struct {
	store.Store

	mu  sync.Mutex
	set map[string]bool // groups that have a policy
}

func (m *mixed) SetPolicy(f group.Filter, p store.Policy) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.setPolicy(f, p)
}

func (m *mixed) setPolicy(f group.Filter, p store.Policy) error {
	if slices.Contains(inMemory, f.String()) {
		p.Store = store.Memory
		m.set[f.String()] = true
	}
	return m.Store.SetPolicy(f, p)
}

// OwnPolicy returns what the suite has set.
func (m *mixed) OwnPolicy(f group.Filter) (own, inherited store.Policy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own, inherited = m.Store.OwnPolicy(f)
	if m.set[f.String()] {
		own.Store = ""
	}
	return own, inherited
}

func (m *mixed) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	for i := range entries {
		if name := entries[i].Group; slices.Contains(inMemory, name) {
			if err := m.keepInMemory(name); err != nil {
				return store.ID{}, err
			}
		}
	}
	return m.Store.Append(ctx, entries)
}

func (m *mixed) keepInMemory(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.set[name] {
		return nil
	}
	return m.setPolicy(group.Exact(name), store.Policy{})
}

// suite runs the tests of every store on real files.
func suite(t *testing.T, open func(disk.Options) (store.Store, error)) {
	calls := make(chan func()) // created outside of the bubbles that tests run in
	defer close(calls)
	go func() {
		for f := range calls {
			go f()
		}
	}()
	// outside runs f in a goroutine outside of any bubble. Channels that were created in a bubble must not be
	// used outside, and the engine keeps some for its next caller.
	outside := func(f func()) {
		done := <-outsiders
		calls <- func() { f(); done <- struct{}{} }
		<-done
		outsiders <- done
	}
	storetest.Run(t, func(t *testing.T, o storetest.Options) store.Store {
		d := disk.Options{Dir: o.Dir, MaxMemory: o.MaxMemory, MaxGroups: o.MaxGroups, Server: o.Server, Fsync: disk.Never}
		if d.MaxMemory == 0 {
			d.MaxMemory = 8 << 20
		}
		if d.Dir == "" {
			d.Dir = tempDir(t)
		}
		if inBubble() {
			d = d.Outside(outside)
		}
		l, err := open(d.Recalling(32 << 10))
		if err != nil {
			t.Fatal(err)
		}
		return l
	})
}

// outsiders are channels that were created outside of any bubble.
var outsiders = func() chan chan struct{} {
	c := make(chan chan struct{}, 64)
	for range cap(c) {
		c <- make(chan struct{}, 1)
	}
	return c
}()

// inBubble reports whether the test runs in a synctest bubble, whose clock begins in 2000.
func inBubble() bool { return time.Now().Year() == 2000 }

func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "watchbox-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
