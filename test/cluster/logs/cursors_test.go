//go:build !windows

package logs

import (
	"context"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/cursortest"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestPositions runs the suite of positions, with one hub at a time and with several.
func TestPositions(t *testing.T) {
	url, times := servers.ForTest(t, 1).URL(), quick
	times.Patience = patience // a slow machine fails no append
	newLog := func(t testing.TB) cursortest.Log {
		o := jetstream.Options{URL: url, Stream: newStream(), Times: times}
		return cursortest.Log{Open: func() store.Noter { return open(t, o) }}
	}
	t.Run("one hub", func(t *testing.T) { cursortest.Run(t, newLog) })
	t.Run("several hubs", func(t *testing.T) { cursortest.RunShared(t, newLog) })
}

// TestPositionsOutliveTheirStream deletes the stream. The hub that has a position writes it into the new one.
func TestPositionsOutliveTheirStream(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	positions := func(l *jetstream.Log) *cursor.Set {
		s := cursor.New(cursor.Options{Log: l, Ask: func(context.Context, string, string, bool) (store.Seq, error) { return 0, store.ErrNoHub }})
		t.Cleanup(s.Close)
		must(t, l.Follow(func(n store.Note) {
			if n.Key == store.EpochNote {
				s.Anew()
			} else if strings.HasPrefix(n.Key, cursor.Prefix) {
				must(t, s.Learn(n))
			}
		}))
		return s
	}
	l := open(t, o)
	a, b := positions(l), positions(open(t, o))
	epoch, _ := end(l)
	_, _, err := a.Claim(t.Context(), "k")
	must(t, err)
	p := cursor.Position{Key: "k", Epoch: epoch, Done: 5, Read: 5, Expiry: cursor.ForEver}
	must(t, a.Save(&p))
	must(t, a.Flush(t.Context(), "k"))
	must(t, connect(t, url).DeleteStream(t.Context(), o.Stream))
	eventually(t, "a new epoch", func() bool { now, _ := end(l); return now != epoch })
	eventually(t, "the position is in the new stream", func() bool {
		found := false
		must(t, l.Notes(func(n store.Note) error { found = found || n.Key == cursor.Prefix+"k"; return nil }))
		return found
	})
	p.Done, p.Read = 6, 6
	must(t, a.Save(&p))
	must(t, a.Flush(t.Context(), "k"))
	eventually(t, "the other hub knows it", func() bool { p, _ := b.Get("k"); return p.Done == 6 && p.Epoch == epoch })
	later := positions(open(t, o))
	if p, ok := later.Get("k"); !ok || p.Done != 6 || p.Epoch != epoch {
		t.Errorf("a hub that starts later has %+v, %v", p, ok)
	}
}
