//go:build !windows

package logs

import (
	"errors"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestALostMajorityIsNoticedWithoutAnAppend stops two of three servers. The other one has the consumer of the log, which goes on. The janitor is at another hub, which would notice
// by itself.
func TestALostMajorityIsNoticedWithoutAnAppend(t *testing.T) {
	s := servers.ForTest(t, 3)
	log := &logText{}
	o := jetstream.Options{Stream: newStream(), Replicas: 3, Logger: log.logger()}
	l, left := openBeside(t, s, o)
	add(t, l, text("x", "1"))
	before := len(log.String())
	for _, server := range s {
		if server != left {
			server.Pause()
			defer server.Continue()
		}
	}
	away := func() bool { return errors.Is(l.Err(), store.ErrAway) }
	eventually(t, "the log is away", away)
	for range 100 {
		if !away() {
			t.Error("the log is not away")
		}
	}
	for _, server := range s {
		server.Continue()
	}
	eventually(t, "the log is back", func() bool { return l.Err() == nil })
	eventually(t, "a message is stored", func() bool { _, err := l.Append(t.Context(), []store.Entry{text("x", "2")}); return err == nil })
	// A server that goes on may be away once more for a moment.
	eventually(t, "each end is logged", func() bool {
		text := log.String()[before:]
		gone, back := strings.Count(text, "NATS is away"), strings.Count(text, "NATS is back")
		return l.Err() == nil && gone == back && gone <= 2
	})
}

// openBeside opens a log whose consumer is kept by the server to which the log is connected, and returns that server. Another log that is connected there, too,
// has the janitor.
func openBeside(t *testing.T, s servers.Servers, o jetstream.Options) (*jetstream.Log, *servers.Server) {
	t.Helper()
	admin := connect(t, s.URL())
	for range 20 {
		for _, server := range s {
			o.URL = server.URL
			o.Name = "a"
			janitor := open(t, o)
			o.Name = "b"
			l := open(t, o)
			eventually(t, "the hubs know each other", func() bool { return len(l.Hubs().List()) == 2 && len(janitor.Hubs().List()) == 2 })
			if l.Hubs().List()[0].ID == l.Hubs().Self() {
				janitor, l = l, janitor
			}
			stream, err := admin.Stream(t.Context(), o.Stream)
			must(t, err)
			for c := range stream.ListConsumers(t.Context()).Info() {
				if c.Cluster != nil && c.Cluster.Leader == server.Name && c.Config.Description == l.Hubs().List()[1].Name {
					return l, server
				}
			}
			must(t, errors.Join(l.Close(), janitor.Close()))
		}
	}
	t.Fatal("no consumer is beside its log")
	return nil, nil
}
