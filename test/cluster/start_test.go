//go:build !windows

package cluster

import (
	"fmt"
	"sync"
	"testing"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestHubsThatStartAtOnce opens several logs on servers that have no stream yet. Each sets the policies of
// the server, as a hub does.
func TestHubsThatStartAtOnce(t *testing.T) {
	s := servers.ForTest(t, 3)
	for round := range 5 {
		o := jetstream.Options{URL: s.URL(), Stream: fmt.Sprint("S", round)}
		filter, err := group.ParseFilter("$sys/#")
		if err != nil {
			t.Fatal(err)
		}
		logs := make([]*jetstream.Log, 5)
		var starting sync.WaitGroup
		for i := range logs {
			starting.Go(func() {
				l, err := jetstream.Open(t.Context(), o)
				if err != nil {
					t.Errorf("round %d: open: %v", round, err)
					return
				}
				logs[i] = l
				if err := l.SetPolicy(filter, store.Policy{MaxMessages: 60}); err != nil {
					t.Errorf("round %d: policy: %v", round, err)
				}
			})
		}
		starting.Wait()
		epochs := map[string]bool{}
		for _, l := range logs {
			if l == nil {
				continue
			}
			_, newest := l.Bounds()
			epochs[newest.Epoch] = true
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		if len(epochs) != 1 {
			t.Errorf("round %d: the hubs have the epochs %v", round, epochs)
		}
	}
}
