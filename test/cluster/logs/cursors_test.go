//go:build !windows

package logs

import (
	"testing"

	"github.com/watchbox-go/watchbox/internal/cursortest"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestPositions runs the suite of positions, with one hub at a time and with several.
func TestPositions(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	newLog := func(t testing.TB) cursortest.Log {
		o := jetstream.Options{URL: url, Stream: newStream()}
		return cursortest.Log{Open: func() store.Noter { return open(t, o) }}
	}
	t.Run("one hub", func(t *testing.T) { cursortest.Run(t, newLog) })
	t.Run("several hubs", func(t *testing.T) { cursortest.RunShared(t, newLog) })
}
