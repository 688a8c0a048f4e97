//go:build !windows

package logs

import (
	"bytes"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// overtaken is a dialer. Another hub is faster when its hub sends something next.
type overtaken struct {
	by atomic.Pointer[rival]
}

// rival is what another hub does before something is sent.
type rival struct {
	sent string
	does func()
}

// Dial implements jetstream.Dialer.
func (o *overtaken) Dial(network, address string) (net.Conn, error) {
	return rewrite(func(b []byte) []byte {
		if r := o.by.Load(); r != nil && bytes.Contains(b, []byte(r.sent)) && o.by.CompareAndSwap(r, nil) {
			r.does()
		}
		return b
	}).Dial(network, address)
}

// TestWhatIsPurgedStaysPurgedThoughAnotherHubMarksTheGroup has a hub that adds and purges messages just before another one, which does not know
// of that yet, writes what the group has lost. A hub that starts later reads only the newest mark.
func TestWhatIsPurgedStaysPurgedThoughAnotherHubMarksTheGroup(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	kept := func(msg string) store.Entry {
		m := store.Message{Group: "x", Time: time.Now(), Msg: store.AppendQuote(nil, msg), Retain: true}
		return m.Entry(nil)
	}
	for name, c := range map[string]struct {
		sent  string
		grace time.Duration
		begin func(a *jetstream.Log) // has one of the hubs write
	}{
		"a purge": {".n.evict.x", time.Hour, func(a *jetstream.Log) {
			add(t, a, kept("1"))
			must(t, a.Purge("x"))
		}},
		"the janitor tells what a policy has evicted": {".n.evict.x", time.Hour, func(a *jetstream.Log) {
			must(t, a.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 1}))
			add(t, a, text("x", "1"))
			add(t, a, text("x", "2"))
		}},
		"the janitor forgets the mark": {".n.lost", time.Millisecond, func(a *jetstream.Log) {
			for _, group := range []string{"x", "y", "z"} {
				add(t, a, text(group, "1"))
				must(t, a.Purge(group))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := jetstream.Options{URL: url, Stream: newStream(), Times: quick, MaxMarks: 2}
			o.Times.Patience, o.Times.Grace = patience, c.grace
			var dialers [2]overtaken
			var hubs [2]*jetstream.Log
			done := make(chan struct{})
			for i := range hubs {
				o.Dialer = &dialers[i]
				hubs[i] = open(t, o)
			}
			for i := range hubs {
				other := hubs[1-i]
				dialers[i].by.Store(&rival{c.sent, func() {
					dialers[1-i].by.Store(nil)
					add(t, other, text("x", "purged"), kept("purged, too"))
					must(t, other.Purge("x"))
					close(done)
				}})
			}
			c.begin(hubs[0])
			<-done
			for _, l := range hubs { // what was overtaken is over when this hub has written something else
				_, err := l.AppendNoted(t.Context(), nil, store.Note{Key: "other", Value: []byte("1")})
				must(t, err)
			}
			o.Dialer = nil
			for i, l := range []*jetstream.Log{open(t, o), hubs[0], hubs[1]} {
				must(t, l.CatchUp(t.Context()))
				b := &store.Batch{Buf: make([]byte, 0, 1<<10)}
				must(t, l.Read(store.Query{Select: filters("x"), Retained: true}, b))
				if h := read(t, l, "x", 0); h.n > 0 || h.gap == 0 || len(b.Frames) > 0 {
					t.Errorf("hub %d has messages again that were purged: %v, %d retained", i, h, len(b.Frames))
				}
			}
		})
	}
}
