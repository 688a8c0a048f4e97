//go:build !windows

package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/judge"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// jetStream returns access to the streams of servers.
func jetStream(t *testing.T, s servers.Servers) jetstream.JetStream {
	t.Helper()
	js, done, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return js
}

// limit sets max_bytes of the stream, with the discard policy new.
func limit(t *testing.T, s servers.Servers, bytes int64) {
	t.Helper()
	js := jetStream(t, s)
	stream, err := js.Stream(t.Context(), "WATCHBOX")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxBytes, config.Discard = bytes, jetstream.DiscardNew
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until a request is answered as expected.
func eventually(t *testing.T, want string, request func() (string, error)) {
	t.Helper()
	var answer string
	for late := time.Now().Add(patience); ; {
		var err error
		if answer, err = request(); err != nil {
			answer = err.Error()
		}
		if strings.Contains(answer, want) {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("want %s, got %s", want, answer)
		}
		<-time.After(retry)
	}
}

// TestAFullStream has two hubs on a stream up to its limit: POSTs get 507 at both, streams open and sessions end, but their
// wills wait. Everything goes on once the limit is raised.
func TestAFullStream(t *testing.T) {
	s := servers.ForTest(t, 1)
	all := hubs.ForTest(t, program, 2, settings("--nats", s.URL(), "--nats-replicas", "1")...)
	limit(t, s, 4<<20)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	ask := func(h *hubs.Hub, method, path, body string) func() (string, error) {
		return func() (string, error) { return call(client, method, h, path, "", body) }
	}
	witness := watch(t, "members", all[1])
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	member := newListener("member", "members", all[:1])
	left := make(chan struct{})
	go func() {
		defer close(left)
		member.run(ctx, rand.New(rand.NewPCG(1, 1)), func() int { return 1 << 30 })
	}()
	if !witness.until(ctx, func(seen []judge.Event) bool { return saw(seen, "join") == 1 }) {
		t.Fatal("the session has no stream")
	}
	if _, err := call(client, http.MethodPut, all[0], "/v1/sessions/"+member.uid+"/will", member.secret, `{"group":"wills","msg":"the will"}`); err != nil {
		t.Fatal(err)
	}

	eventually(t, ": 507 ", ask(all[0], http.MethodPost, "/v1/groups/x", strings.Repeat("x", 50_000)))
	for _, h := range all {
		eventually(t, "store-full", ask(h, http.MethodGet, "/readyz", ""))
		eventually(t, ": 507 ", ask(h, http.MethodPost, "/v1/groups/x", "small"))
	}
	leave()
	<-left
	eventually(t, `"state":"lost"`, ask(all[1], http.MethodGet, "/v1/sessions/"+member.uid, ""))
	stream, err := client.Get(all[0].URL + "/v1/groups/x")
	if err != nil || stream.StatusCode != http.StatusOK {
		t.Errorf("no stream is opened without room for messages: %v", err)
	} else {
		_ = stream.Body.Close() // its end is not read
	}

	limit(t, s, 64<<20)
	for _, h := range all {
		eventually(t, "ready", ask(h, http.MethodGet, "/readyz", ""))
		eventually(t, `"id"`, ask(h, http.MethodPost, "/v1/groups/y", "later"))
	}
	eventually(t, "the will", ask(all[1], http.MethodGet, "/v1/history/wills", ""))
	eventually(t, ": 404 ", ask(all[0], http.MethodGet, "/v1/sessions/"+member.uid, ""))
	if answer, err := ask(all[0], http.MethodGet, "/v1/history/wills", "")(); strings.Count(answer, "the will") != 1 {
		t.Errorf("the will is there several times: %s %v", fmt.Sprint(answer), err)
	}
}
