//go:build !windows

package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestAKickBetweenTwoPollsIsToldAtAnyHub kicks sessions that polled at the first hub by each hub, and lets them go on at each hub.
func TestAKickBetweenTwoPollsIsToldAtAnyHub(t *testing.T) {
	s := servers.ForTest(t, 1)
	all := hubs.ForTest(t, program, 3, "--nats", s.URL(), "--nats-replicas", "1", "--session-timeout", "10m")
	client := &http.Client{}
	defer client.CloseIdleConnections()
	for _, kicker := range all {
		for _, next := range all {
			for _, way := range []string{"/v1/history/%s?wait=0s&last=0", "/v1/history/other-%s?wait=0s&last=0", "/v1/groups/%s"} {
				l := newListener("kicked", fmt.Sprintf("%s-%s-%d", kicker.Name, next.Name, len(way)), all)
				poll := func(h *hubs.Hub, path, want string) {
					t.Helper()
					answer, err := call(client, http.MethodGet, h, fmt.Sprintf(path, l.filter), l.secret, "")
					if err != nil {
						answer = err.Error()
					}
					if !strings.Contains(answer, want) {
						t.Errorf("kicked by %s: %s at %s: %s, want %s", kicker.Name, path, h.Name, answer, want)
					}
				}
				const path = "/v1/history/%s?wait=0s&last=0"
				poll(all[0], path, `"next"`)
				eventually(t, "kicked", func() (string, error) { // the hub may not know the session yet
					_, err := call(client, http.MethodDelete, kicker, "/v1/sessions/"+l.uid, "", "")
					return "kicked", err
				})
				eventually(t, ": 404 ", func() (string, error) { // a hub that lags answers as before the kick, and the poll after that is told
					return call(client, http.MethodGet, next, "/v1/sessions/"+l.uid, "", "")
				})
				want := "session-ended"
				if strings.Contains(way, "groups") {
					want = `{"reason":"kicked"}`
				}
				for range 2 { // the client may not get the answer
					poll(next, way, want)
				}
				for _, h := range all {
					eventually(t, "session-ended", func() (string, error) { // one that lags answers as before the kick
						return call(client, http.MethodGet, h, fmt.Sprintf(path, l.filter), l.secret, "")
					})
				}
			}
		}
	}
}
