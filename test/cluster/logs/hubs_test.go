//go:build !windows

package logs

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestAHubIsCalledAgainUntilItServes calls a hub that is alive and that the servers cannot reach yet.
func TestAHubIsCalledAgainUntilItServes(t *testing.T) {
	o := jetstream.Options{URL: servers.ForTest(t, 1).URL(), Times: jetstream.Times{Sign: patience, Silent: time.Hour}}
	b := open(t, o)
	id := b.Hubs().Self()
	calls := &counter{text: []byte("hub." + id)}
	o.Dialer = calls
	a := open(t, o)
	eventually(t, "the hubs know each other", func() bool { return a.Hubs().Alive(id) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		reply, err := a.Hubs().Call(t.Context(), id, []byte("x"))
		if err != nil || string(reply) != "here" {
			t.Errorf("the call returns %q, %v", reply, err)
		}
	}()
	eventually(t, "the hub is called twice", func() bool { return calls.n.Load() >= 2 })
	b.Hubs().Serve(func(context.Context, []byte) []byte { return []byte("here") })
	<-done
}

// counter is a dialer that counts how often a text is sent.
type counter struct {
	text []byte
	n    atomic.Int64
}

// Dial implements jetstream.Dialer.
func (c *counter) Dial(network, address string) (net.Conn, error) {
	return rewrite(func(b []byte) []byte {
		c.n.Add(int64(bytes.Count(b, c.text)))
		return b
	}).Dial(network, address)
}
