//go:build !windows

package logs

import (
	"fmt"
	"testing"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestALogThatWasCutOffDropsWhatAnotherThatStartsHasTold purges messages while the only log is cut off. Another one that is opened meanwhile tells
// that they are missing, and counts again. It cannot know which messages those were. The first one still has them in memory when it is back.
func TestALogThatWasCutOffDropsWhatAnotherThatStartsHasTold(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	for name, stays := range map[string]bool{"and stays open": true, "and is closed": false} {
		t.Run(name, func(t *testing.T) {
			v, o := &valve{}, jetstream.Options{URL: url, Stream: newStream(), Times: quick}
			o.Dialer = v
			a := open(t, o)
			const messages, left = 10, 3
			for i := range messages {
				add(t, a, text("all", fmt.Sprint(i)), text("front", fmt.Sprint(i)), text("kept", fmt.Sprint(i)), retain("value", fmt.Sprint(i)))
			}
			last := add(t, a, text("value", "is not retained"))
			counted(t, admin, o.Stream, last)
			stream, err := admin.Stream(t.Context(), o.Stream)
			must(t, err)
			purge := func(subject string, o2 ...js.StreamPurgeOpt) {
				t.Helper()
				must(t, stream.Purge(t.Context(), append(o2, js.WithPurgeSubject("wb."+o.Stream+"."+subject))...))
			}
			whileAway(t, a, v, func() {
				purge("m.all")
				purge("m.front", js.WithPurgeKeep(left))
				purge("r.value")
				o.Dialer = nil
				b := open(t, o)
				info, err := stream.Info(t.Context())
				must(t, err)
				counted(t, admin, o.Stream, store.Seq(info.State.LastSeq))
				if !stays {
					must(t, b.Close())
				}
			})
			for group, n := range map[string]int{"all": 0, "front": left, "value": 1} {
				var h history
				defer func() {
					if t.Failed() {
						t.Logf("%s: %v, want a gap and %d messages", group, h, n)
					}
				}()
				eventually(t, "the purge of "+group+" is told", func() bool { h = read(t, a, group, 0); return h.gap > 0 && h.n == n })
			}
			eventually(t, "the retained message is dropped", func() bool {
				b := &store.Batch{Buf: make([]byte, 0, 1<<10)}
				must(t, a.Read(store.Query{Select: filters("value"), Retained: true}, b))
				return len(b.Frames) == 0
			})
			if h := read(t, a, "kept", 0); h.gap > 0 || h.n != messages {
				t.Errorf("kept has lost nothing: %v", h)
			}
		})
	}
}
