//go:build !windows

package logs

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestNobodyWaitsLongerThanAllowedForServersThatAreStopped stops all servers, which then accept connections and say nothing. The client of
// NATS tries one after the other, and its methods do not return meanwhile.
func TestNobodyWaitsLongerThanAllowedForServersThatAreStopped(t *testing.T) {
	s := servers.ForTest(t, 3)
	const allowed, tolerance = time.Second, time.Second
	o := jetstream.Options{URL: s.URL(), Stream: newStream(), Replicas: 3, Times: quick}
	a := open(t, o)
	epoch, last := end(a)
	o.Times.Patience = allowed
	b := open(t, o)
	for _, server := range s {
		server.Pause()
		defer server.Continue()
	}
	reach := func(ctx context.Context, id store.ID) error {
		_, err := b.Reach(ctx, id)
		return err
	}
	calls := map[string]func(context.Context) error{
		"a position":                  func(ctx context.Context) error { return reach(ctx, store.ID{Epoch: epoch, Seq: last + 1000}) },
		"a position of another epoch": func(ctx context.Context) error { return reach(ctx, store.ID{Epoch: "another", Seq: 1}) },
		"a message": func(ctx context.Context) error {
			_, err := b.Append(ctx, []store.Entry{text("x", "x")})
			return err
		},
		"a batch": func(ctx context.Context) error {
			_, err := b.AppendNoted(ctx, []store.Entry{text("x", "x"), text("y", "y")}, store.Note{Key: "note"})
			return err
		},
		"the state": func(context.Context) error { return b.Err() },
	}
	var waiting sync.WaitGroup
	defer waiting.Wait()
	tick := time.NewTicker(allowed / 4)
	defer tick.Stop()
	for range 24 { // the client of NATS is at another point each time
		<-tick.C
		for name, call := range calls {
			waiting.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), allowed)
				defer cancel()
				began := time.Now()
				err := call(ctx)
				if took := time.Since(began); took > allowed+tolerance || err != nil && !errors.Is(err, store.ErrAway) && !errors.Is(err, store.ErrUnknownOutcome) {
					t.Errorf("%s: after %v: %v", name, took, err)
				}
			})
		}
	}
}
