//go:build !windows

package logs

import (
	"bytes"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// detour has direct gets from buckets, which any server that has the bucket may answer, take another way.
var detour = rewrite(func(b []byte) []byte {
	return bytes.ReplaceAll(b, []byte("$JS.API.DIRECT.GET.KV_"), []byte("LAGGING.DIRECT.GET.KV_")) // as long
})

// TestAHubThatStartsBelievesOnlyTheLeader has a server that lags answer all direct gets from the bucket: it still knows that
// there are messages, which were evicted and removed since then.
func TestAHubThatStartsBelievesOnlyTheLeader(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream()}
	a := open(t, o)
	var last store.Seq
	for range 10 {
		last = add(t, a, text("x", "x"))
	}
	counted(t, admin, o.Stream, last)
	bucket, err := admin.KeyValue(t.Context(), o.Stream+"_hubs")
	must(t, err)
	lagging := map[string]*nats.Msg{} // by subject
	for _, key := range []string{"counts", "log"} {
		subject := "$KV." + o.Stream + "_hubs." + key
		m, err := admin.nc.Request("$JS.API.DIRECT.GET.KV_"+o.Stream+"_hubs."+subject, nil, patience)
		must(t, err)
		lagging[subject] = m
	}
	must(t, a.Purge("x"))
	eventually(t, "the messages are removed", func() bool {
		s, err := admin.Stream(t.Context(), o.Stream)
		return err == nil && s.CachedInfo().State.Msgs < 10
	})
	must(t, a.Close())
	e, err := bucket.Get(t.Context(), "counts")
	must(t, err)
	if e.Revision() <= 1 {
		t.Fatal("the messages that are left are not counted")
	}
	direct := "LAGGING.DIRECT.GET.KV_" + o.Stream + "_hubs."
	sub, err := admin.nc.Subscribe(direct+">", func(m *nats.Msg) {
		answer := lagging[m.Subject[len(direct):]]
		must(t, m.RespondMsg(&nats.Msg{Header: answer.Header, Data: answer.Data}))
	})
	must(t, err)
	defer func() { _ = sub.Unsubscribe() }()

	log := &logText{}
	o.Dialer, o.Logger = detour, log.logger()
	b := open(t, o)
	if h := read(t, b, "y", 0); h.gap > 0 {
		t.Errorf("there was no message of y: %v", h)
	}
	if log.has("while no hub was running") {
		t.Errorf("the hub misses messages that a hub has removed: %s", log)
	}
}
