package cursortest_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/cursortest"
	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
)

func TestWithoutALog(t *testing.T) {
	cursortest.Run(t, func(testing.TB) cursortest.Log { return cursortest.Log{} })
}

func TestOnDisk(t *testing.T) {
	cursortest.Run(t, func(t testing.TB) cursortest.Log {
		dir := t.TempDir()
		return cursortest.Log{Open: func() store.Noter {
			l, err := disk.Open(disk.Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			return l
		}}
	})
}

func shared(testing.TB) cursortest.Log {
	c := sharedtest.New()
	return cursortest.Log{Open: func() store.Noter { return c.Open() }}
}

func TestOneHubOfASharedLog(t *testing.T) { cursortest.Run(t, shared) }

func TestHubsOfASharedLog(t *testing.T) { cursortest.RunShared(t, shared) }

// TestThePositionsOfOtherHubsAreNotInMemoryTwice has a log that keeps the notes of the positions, as store.Shared does.
func TestThePositionsOfOtherHubsAreNotInMemoryTwice(t *testing.T) {
	cluster := sharedtest.New()
	first, second := cluster.Open(), cluster.Open()
	writer, reader := cursor.New(cursor.Options{Log: first}), cursor.New(cursor.Options{Log: second})
	const positions, size = 500, 20 << 10
	if err := first.Follow(func(n store.Note) { _ = writer.Learn(n) }); err != nil {
		t.Fatal(err)
	}
	for i := range positions {
		p := &cursor.Position{Key: fmt.Sprint(i), Epoch: "e", Expiry: cursor.ForEver, Data: make([]byte, size)}
		if _, _, err := writer.Claim(t.Context(), p.Key); err != nil {
			t.Fatal(err)
		}
		if err := writer.Save(p); err != nil {
			t.Fatal(err)
		}
	}
	writer.Close()
	var notes []store.Note
	if err := second.Follow(func(n store.Note) { notes = append(notes, n) }); err != nil {
		t.Fatal(err)
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // the first one leaves what is in a sync.Pool
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for _, n := range notes {
		if err := reader.Learn(n); err != nil {
			t.Fatal(err)
		}
	}
	if grown := heap() - before; grown > positions*size/2 {
		t.Errorf("%d positions of %d bytes take %d bytes besides", positions, size, grown)
	}
	runtime.KeepAlive(notes)
	reader.Close()
	for _, log := range []*sharedtest.Log{first, second} {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}
