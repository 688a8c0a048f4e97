package cursortest_test

import (
	"testing"

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
