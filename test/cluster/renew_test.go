//go:build !windows

package cluster

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/judge"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestWhatHubsKnowOutlivesTheStream deletes the stream under three hubs with sessions. The sessions stay, with their wills,
// and so do policies; they end as others do.
func TestWhatHubsKnowOutlivesTheStream(t *testing.T) {
	s := servers.ForTest(t, 1)
	all := hubs.ForTest(t, program, 3, settings("--nats", s.URL(), "--nats-replicas", "1")...)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	ask := func(h *hubs.Hub, method, path, body string) func() (string, error) {
		return func() (string, error) { return call(client, method, h, path, "", body) }
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var members []*listener
	left := make(chan struct{}, len(all))
	for i, h := range all {
		m := newListener("member", "members", []*hubs.Hub{h})
		members = append(members, m)
		go func() {
			m.run(ctx, rand.New(rand.NewPCG(uint64(i), 1)), func() int { return 1 << 30 })
			left <- struct{}{}
		}()
		eventually(t, `"id"`, ask(h, http.MethodPost, "/v1/groups/members", "before"))
		m.until(ctx, func(seen []judge.Event) bool { return len(seen) > 0 })
		if _, err := call(client, http.MethodPut, h, "/v1/sessions/"+m.uid+"/will", m.secret, `{"group":"wills","msg":"of `+h.Name+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "", ask(all[0], http.MethodPut, "/v1/policies/limited", `{"max_messages":7}`))

	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "WATCHBOX"); err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		eventually(t, `"id"`, ask(h, http.MethodPost, "/v1/groups/members", "after"))
	}
	again := hubs.ForTest(t, program, 1, settings("--nats", s.URL())...) // it knows only the new stream
	for _, h := range append(all, again...) {
		eventually(t, `"max_messages":7`, ask(h, http.MethodGet, "/v1/policies/limited", ""))
		for _, m := range members {
			eventually(t, `"state":"here"`, ask(h, http.MethodGet, "/v1/sessions/"+m.uid, ""))
		}
	}
	leave()
	for range all {
		<-left
	}
	for _, h := range append(all, again...) {
		for i, m := range members {
			eventually(t, "of "+all[i].Name, ask(h, http.MethodGet, "/v1/history/wills", ""))
			eventually(t, ": 404 ", ask(h, http.MethodGet, "/v1/sessions/"+m.uid, ""))
		}
		answer, err := call(client, http.MethodGet, h, "/v1/history/wills", "", "")
		if n := strings.Count(answer, "of h"); n != len(all) {
			t.Errorf("%d wills of %d sessions: %s %v", n, len(all), answer, err)
		}
	}
}
