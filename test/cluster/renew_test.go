//go:build !windows

package cluster

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/watchbox-go/watchbox/sse"
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

	if err := jetStream(t, s).DeleteStream(t.Context(), "WATCHBOX"); err != nil {
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

// TestOpenStreamsAreToldThatTheStreamIsAnother deletes the stream under streams that stay open and send no heartbeats, and under an MQTT client.
func TestOpenStreamsAreToldThatTheStreamIsAnother(t *testing.T) {
	s := servers.ForTest(t, 1)
	all := hubs.ForTest(t, program, 2, "--nats", s.URL(), "--nats-replicas", "1", "--heartbeat", "1h", "--mqtt", "{mqtt}")
	client := &http.Client{}
	t.Cleanup(client.CloseIdleConnections)
	post := func(n int, group, text string) func() (string, error) {
		return func() (string, error) { return call(client, http.MethodPost, all[n], "/v1/groups/"+group, "", text) }
	}
	var bodies []io.ReadCloser
	for _, h := range all {
		res, err := client.Get(h.URL + "/v1/groups/x")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		bodies = append(bodies, res.Body)
	}
	d := attach(t, all[0], hello{id: "d", keep: true})
	d.subscribe("x", 1)
	for i := range 30 {
		eventually(t, `"id"`, post(0, "x", fmt.Sprint("old ", i)))
		d.take(fmt.Sprint("old ", i))
	}
	if err := jetStream(t, s).DeleteStream(t.Context(), "WATCHBOX"); err != nil {
		t.Fatal(err)
	}
	for n := range all {
		eventually(t, `"id"`, post(n, "y", "the log is back"))
	}
	want := "gap"
	for i := range 40 { // fewer than the old ones, and then more
		text := fmt.Sprint("new ", i)
		want += ", " + text
		if _, err := post(i%2, "x", text)(); err != nil {
			t.Fatal(err)
		}
	}
	for i, body := range bodies {
		r, late := sse.NewReader(body), time.AfterFunc(patience, func() { _ = body.Close() })
		var got []string
		for len(got) < 41 {
			e, err := r.Read()
			if err != nil {
				t.Fatalf("the stream of hub %d ends after %q: %v", i, got, err)
			}
			switch {
			case e.Type == "gap" && strings.Contains(string(e.Data), `"epoch"`):
				got = append(got, "gap")
			case e.Type == "message" && !strings.Contains(string(e.Data), "old "):
				_, text, _ := strings.Cut(string(e.Data), `"msg":"`)
				got = append(got, strings.TrimRight(text, `"}`))
			}
		}
		late.Stop()
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("hub %d sends %s, want %s", i, got, want)
		}
	}
	d.ended()
	d = attach(t, all[1], hello{id: "d", keep: true})
	m := d.message("new 0")
	if !slices.ContainsFunc(m.Properties.User, func(u packets.User) bool { return u.Key == "gap" }) {
		t.Errorf("the first message tells no gap: %v", m.Properties)
	}
	d.acknowledge(m)
	for i := range 39 {
		d.take(fmt.Sprint("new ", i+1))
	}
	d.leave()
}
