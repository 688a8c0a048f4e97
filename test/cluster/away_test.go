//go:build !windows

package cluster

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestTheLogSaysOnceThatNATSIsAway pauses all servers, or kills two of three. Whatever is asked meanwhile, a hub's log has one
// line when they go, and one when they are back.
func TestTheLogSaysOnceThatNATSIsAway(t *testing.T) {
	for name, test := range map[string]struct {
		servers    int
		away, back func(*testing.T, servers.Servers)
	}{
		"paused": {1, func(_ *testing.T, s servers.Servers) { s[0].Pause() }, func(_ *testing.T, s servers.Servers) { s[0].Continue() }},
		"without a majority": {3, func(t *testing.T, s servers.Servers) {
			leader, err := s.Leader(t.Context(), "WATCHBOX")
			if err != nil {
				t.Fatal(err)
			}
			for _, server := range s {
				if server != leader {
					server.Kill()
				}
			}
		}, func(t *testing.T, s servers.Servers) {
			for _, server := range s {
				select {
				case <-server.Done():
					if err := server.Restart(); err != nil {
						t.Fatal(err)
					}
				default:
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := servers.ForTest(t, test.servers)
			replicas := map[int]string{1: "1", 3: "3"}[test.servers]
			h := hubs.ForTest(t, program, 1, settings("--nats", s[0].URL, "--nats-replicas", replicas)...)[0]
			client := &http.Client{}
			defer client.CloseIdleConnections()
			ask := func(method, path string) func() (string, error) {
				return func() (string, error) { return call(client, method, h, path, "", "x") }
			}
			eventually(t, `"id"`, ask(http.MethodPost, "/v1/groups/x"))
			eventually(t, "ready", ask(http.MethodGet, "/readyz"))
			before := len(h.Log()) // a new stream may have had no leader for a moment
			test.away(t, s)
			var posts sync.WaitGroup
			for range 5 {
				posts.Go(func() { _, _ = ask(http.MethodPost, "/v1/groups/x")() }) // 503, or it was stored before
			}
			eventually(t, "store-away", ask(http.MethodGet, "/readyz"))
			for range 10 {
				eventually(t, "store-away", ask(http.MethodGet, "/readyz"))
			}
			posts.Wait()
			eventually(t, "away for", ask(http.MethodGet, "/readyz"))
			test.back(t, s)
			eventually(t, "ready", ask(http.MethodGet, "/readyz"))
			eventually(t, `"id"`, ask(http.MethodPost, "/v1/groups/x"))
			// A server that starts again may be away once more for a moment.
			eventually(t, "the same", func() (string, error) {
				log := h.Log()[before:]
				away, back := strings.Count(log, "NATS is away"), strings.Count(log, "NATS is back")
				if away == back && away+back == strings.Count(log, "level=") && away <= 2 {
					return "the same", nil
				}
				return log, nil
			})
		})
	}
}
