//go:build !windows

package cluster

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/store/storetest"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// streams is how many streams the tests have made, for their names.
var streams atomic.Int64

// open opens a stream for a hub until the test closes it.
func open(t *testing.T, o jetstream.Options) *jetstream.Log {
	t.Helper()
	o.Replicas = 1
	o.Times.Sign, o.Times.Silent = 200*time.Millisecond, time.Minute // a slow machine makes no hub silent
	l, err := jetstream.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSharedStore(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	storetest.RunShared(t, func(t *testing.T) storetest.SharedLog {
		o := jetstream.Options{URL: url, Stream: fmt.Sprint("S", streams.Add(1))}
		return storetest.SharedLog{
			Open: func(t *testing.T) storetest.Peer { return open(t, o) },
			Disturbed: func(t *testing.T) (storetest.Peer, func()) {
				d := &breaking{}
				o := o
				o.Dialer, o.Times.Patience = d, 300*time.Millisecond
				l := open(t, o)
				d.breaks.Store(true)
				return l, func() { d.breaks.Store(false) }
			},
		}
	})
}

// breaking is a dialer whose connections break after some writes. The server may have received the last one.
type breaking struct {
	breaks atomic.Bool
	writes atomic.Int64
}

// Dial implements jetstream.Dialer.
func (d *breaking) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return &breakingConn{conn, d}, err
}

type breakingConn struct {
	net.Conn
	*breaking
}

// Write implements net.Conn.
func (c *breakingConn) Write(b []byte) (n int, err error) {
	n, err = c.Conn.Write(b)
	if c.breaks.Load() && c.writes.Add(1)%17 == 0 {
		_ = c.Close()
	}
	return n, err
}
