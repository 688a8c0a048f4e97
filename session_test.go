package watchbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

func TestPresenceMessagesForEachChange(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, watchbox.WithSessionTimeout(10*time.Second)) // long enough for a busy machine to reconnect
	p := at(t, addr)
	room, all := p.listen("/v1/groups/$presence/room?format=raw", ""), p.listen("/v1/groups/$presence/%23", "")
	expect := func(uid string, want ...string) {
		t.Helper()
		for _, w := range want {
			event, reason, _ := strings.Cut(w, " ")
			w = fmt.Sprintf(`{"event":"%s","uid":"%s"`, event, uid)
			if reason != "" {
				w += fmt.Sprintf(`,"reason":"%s"`, reason)
			}
			w += "}"
			if ev := room.next(); string(ev.Data) != w {
				t.Fatalf("got %s, want %s", ev.Data, w)
			}
			all.gets(w)
		}
	}
	a := p.listen("/v1/groups/room", "")
	expect(a.uid, "join")
	tab := p.listen("/v1/groups/room", a.secret)
	a.cut()
	b := p.listen("/v1/groups/room", "")
	expect(b.uid, "join")
	tab.cut()
	expect(a.uid, "lost closed")
	again := p.listen("/v1/groups/room", a.secret)
	expect(a.uid, "back closed")
	again.own(204, "DELETE", "/groups/room", "")
	expect(a.uid, "leave")
	again.own(204, "PUT", "/groups/room", "")
	expect(a.uid, "join")
	again.own(204, "DELETE", "", "")
	expect(a.uid, "gone ended")
	b.cut()
	expect(b.uid, "lost closed", "gone closed")
	c := p.listen("/v1/groups/room", "")
	p.wants(204, "DELETE /v1/sessions/"+c.uid, "")
	expect(c.uid, "join", "gone kicked")
	p.listen("/v1/groups/other/%2B", "")
	if m := all.message(); m.Group != "$presence/other/+" {
		t.Errorf("the presence of a pattern is published to %s", m.Group)
	}
}

// TestJoinOnAnOpenStreamLosesAndRepeatsNothing covers etcd's issue 20655: a stream joins and leaves while others publish at
// full speed. Messages published between the answer to the PUT and the request of the DELETE arrive once
// and in order, after the retained message.
func TestJoinOnAnOpenStreamLosesAndRepeatsNothing(t *testing.T) {
	hub, addr := serve(t, watchbox.WithMaxMemory(512<<20)) // enough for all messages that pace allows
	p := at(t, addr)
	p.wants(201, "POST /v1/groups/sea/state?retain=true", "calm")
	streams := map[string]*subscriber{ // by the name of a group that only this stream has
		"alone": p.listen("/v1/groups/alone", ""), "busy": p.listen("/v1/events?group=busy&group=noise", ""),
	}
	done := make([]atomic.Int64, 3) // number of answered messages of each publisher
	pace := make([]chan bool, len(done))
	for i := range pace {
		pace[i] = make(chan bool, 50*41) // a value for each hundred messages
	}
	more := func() {
		for _, c := range pace {
			for range 50 {
				c <- true
			}
		}
	}
	more()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var publishing sync.WaitGroup
	for i := range done {
		publishing.Go(func() {
			for n := int64(1); ctx.Err() == nil; n++ {
				if n%100 == 1 {
					select {
					case <-pace[i]:
					case <-ctx.Done():
						return
					}
				}
				if _, err := hub.Publish(context.Background(), "sea", [2]int64{int64(i), n}); err != nil {
					t.Error(err)
					return
				}
				done[i].Store(n)
				if _, err := hub.Publish(context.Background(), "noise", n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var joining sync.WaitGroup
	for name, l := range streams {
		joining.Go(func() {
			for round := range 20 {
				if wrong := joinAndLeave(l, name, done, more, round); wrong != "" {
					t.Errorf("%s, round %d: %s", name, round, wrong)
					return
				}
			}
		})
	}
	joining.Wait()
	stop()
	publishing.Wait()
}

// joinAndLeave joins and leaves, and returns an error text if the messages in between are wrong. It calls
// more once, so that the publishers cannot outrun the log.
func joinAndLeave(l *subscriber, group string, done []atomic.Int64, more func(), round int) string {
	l.own(204, "PUT", "/groups/sea/%23", "")
	from := counts(done)
	more()
	for { // until some messages are published
		if now := counts(done); now[0] > from[0]+int64(round) {
			break
		}
	}
	to := counts(done)
	l.own(204, "DELETE", "/groups/sea/%23", "")
	after := counts(done)
	marker := fmt.Sprintf(`"marker %d"`, round)
	l.wants(201, "POST /v1/groups/"+group, marker, "Content-Type", "application/json")
	last := make([]int64, len(done))
	for first := true; ; {
		switch m := l.message(); {
		case m.Group == "noise":
		case first:
			if !m.Retained || string(m.Msg) != `"calm"` {
				return fmt.Sprintf("the first message is not the retained one but %+v", m)
			}
			first = false
		case string(m.Msg) == marker:
			for i := range last {
				if to[i] > from[i]+1 && last[i] < to[i] { // the first may have been under way before the PUT
					return fmt.Sprintf("publisher %d's message %d was answered before the DELETE, but the last one received is %d", i, to[i], last[i])
				}
			}
			return ""
		default:
			var msg [2]int64
			if err := json.Unmarshal(m.Msg, &msg); err != nil || m.Retained {
				return fmt.Sprintf("%+v", m)
			}
			i, n := msg[0], msg[1]
			if last[i] == 0 && n <= from[i]+2 || n == last[i]+1 && n <= after[i]+1 { // one may have been under way
				last[i] = n
				continue
			}
			return fmt.Sprintf("publisher %d's message %d comes after %d; the PUT was answered at %d, the DELETE at %d", i, n, last[i], from[i], after[i])
		}
	}
}

func counts(done []atomic.Int64) []int64 {
	list := make([]int64, len(done))
	for i := range done {
		list[i] = done[i].Load()
	}
	return list
}

func TestDirectMessageReachesOnlyItsSession(t *testing.T) {
	hub, addr := serve(t)
	p := at(t, addr)
	a := p.listen("/v1/groups/mine", "")
	var others []*subscriber
	for _, target := range []string{
		"/v1/groups/%23", "/v1/groups/%2B/%2B", "/v1/groups/%2B/" + a.uid, "/v1/groups/%2B/%23",
		"/v1/groups/$presence/%23", "/v1/groups/$sys/%23", "/v1/events?group=%23&group=$presence/%23", "/v1/groups/mine",
	} {
		others = append(others, p.listen(target, ""))
	}
	for range 3 {
		if _, err := hub.Send(t.Context(), a.uid, "for you alone"); err != nil {
			t.Fatal(err)
		}
	}
	a.gets(`"for you alone"`, `"for you alone"`, `"for you alone"`)
	own := "$session/" + a.uid
	for _, f := range []string{own, "$session", "$session/%23", "$session/%2B", "%24session%2F" + a.uid, own + "/%23", "$session/%2B/%23"} {
		p.refused(403, "filter-forbidden", "GET /v1/groups/"+f, "")
		p.refused(403, "filter-forbidden", "GET /v1/groups/"+f, "", a.proof()...)
		p.wants(403, "HEAD /v1/groups/"+f, "")
		p.refused(403, "filter-forbidden", "GET /v1/events?group=mine&group="+f, "")
		p.refused(403, "filter-forbidden", "GET /v1/history/"+f, "")
		p.refused(403, "filter-forbidden", "GET /v1/history/"+f+"?since=all", "", "Accept", "application/x-ndjson")
		others[0].own(403, "PUT", "/groups/"+f, "")
		p.refused(403, "filter-forbidden", "GET /v1/groups?filter="+f, "")
	}
	p.refused(400, "group-invalid", "POST /v1/groups/"+own, "forged")
	p.refused(403, "filter-forbidden", "DELETE /v1/groups/"+own, "")
	for _, call := range []string{
		"GET /v1/history/%23", "GET /v1/history/%2B/" + a.uid, "GET /v1/groups", "GET /v1/presence/%23",
		"GET /v1/groups?filter=%2B/%2B", "GET /v1/history/$presence/%23", "GET /v1/sessions",
	} {
		if answer := p.wants(200, call, ""); strings.Contains(answer, "$session") || strings.Contains(answer, "for you") {
			t.Errorf("%s: %s", call, answer)
		}
	}
	p.wants(201, "POST /v1/groups/mine", `"marker"`, "Content-Type", "application/json")
	for _, l := range others {
		l.own(204, "PUT", "/groups/mine", "")
		p.wants(201, "POST /v1/groups/mine", `"end"`, "Content-Type", "application/json")
		for m := (message{}); string(m.Msg) != `"end"`; {
			if m = l.message(); strings.HasPrefix(m.Group, "$session") || strings.Contains(string(m.Msg), "for you") {
				t.Errorf("another session got %+v", m)
			}
		}
	}
}

func TestMessagesToALostSessionWaitForItsReturn(t *testing.T) {
	h, addr := serve(t, watchbox.WithSessionTimeout(time.Minute))
	p := at(t, addr)
	events := newEvents(t)
	events.register(h)
	send := func(uid, text string) string {
		t.Helper()
		id, err := h.Send(t.Context(), uid, text)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	publish := func(text string) {
		t.Helper()
		if _, err := h.Publish(t.Context(), "foo", text); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string][]string{
		"":           {`"missed 1"`, `"missed 2"`, `"new"`},
		"?last=1":    {`"missed 1"`, `"missed 2"`, `"meanwhile 2"`, `"new"`},
		"?since=1ms": nil, // depends on the timing
		"?since=all": {`"got"`, `"before"`, `"missed 1"`, `"meanwhile 1"`, `"missed 2"`, `"meanwhile 2"`, `"new"`},
		"resume":     {`"before"`, `"missed 1"`, `"meanwhile 1"`, `"missed 2"`, `"meanwhile 2"`, `"new"`},
	} {
		t.Run(query, func(t *testing.T) {
			p.wants(204, "DELETE /v1/groups/foo", "")
			l := p.listen("/v1/groups/foo", "")
			got := send(l.uid, "got")
			publish("before")
			l.gets(`"got"`, `"before"`)
			l.cut()
			lost(p, l.uid)
			send(l.uid, "missed 1")
			publish("meanwhile 1")
			send(l.uid, "missed 2")
			publish("meanwhile 2")
			var back *subscriber
			if query == "resume" {
				back = p.listen("/v1/groups/foo", l.secret, "Last-Event-ID", got)
			} else {
				back = p.listen("/v1/groups/foo"+query, l.secret)
			}
			publish("new")
			if query == "?since=1ms" {
				texts := []string{}
				for m := (message{}); string(m.Msg) != `"new"`; texts = append(texts, string(m.Msg)) {
					m = back.message()
				}
				// If the first message is new enough, all later ones are, too.
				old := slices.Contains(texts, `"got"`) && !slices.Contains(texts, `"before"`)
				if !slices.Contains(texts, `"missed 1"`) || !slices.Contains(texts, `"missed 2"`) || old {
					t.Errorf("%s", texts)
				}
				return
			}
			back.gets(want...)
			// All missed messages are delivered now.
			tab := p.listen("/v1/groups/foo", l.secret)
			publish("last")
			tab.gets(`"last"`)
			back.gets(`"last"`)
			back.cut()
			tab.cut()
			lost(p, l.uid)
			back = p.listen("/v1/groups/foo", l.secret)
			publish("really the last")
			back.gets(`"really the last"`)
			p.wants(204, "DELETE /v1/sessions/"+l.uid, "", l.proof()...)
			if _, err := h.Send(t.Context(), l.uid, "too late"); !errors.Is(err, watchbox.ErrNoSession) {
				t.Error(err)
			}
			again := p.listen("/v1/groups/foo?since=all", l.secret)
			if m := again.message(); strings.HasPrefix(m.Group, "$session") {
				t.Errorf("a new session got a message to the previous one: %+v", m)
			}
		})
	}
}

// lost waits until a session is lost.
func lost(p *place, uid string) {
	p.Helper()
	eventually(p.T, "the session is lost", func() bool {
		return strings.Contains(p.wants(200, "GET /v1/sessions/"+uid, ""), `"state":"lost"`)
	})
}

// eventually calls ok until it returns true, or fails the test.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("timeout: %s", what)
		}
	}
}

func TestStatisticsDescribeTheHub(t *testing.T) {
	h, addr := serve(t)
	p := at(t, addr)
	l, foo := p.listen("/v1/groups/$sys/%23", ""), p.listen("/v1/groups/foo", "")
	if _, err := h.Publish(t.Context(), "foo", "bar"); err != nil {
		t.Fatal(err)
	}
	p.wants(201, "POST /v1/groups/foo", "baz")
	foo.message()
	foo.message()
	p.wants(404, "POST /v1/sessions/5fb22bbe-3ba4-8928-b938-4f1a2661e1dd", "refused")
	var raw map[string]json.RawMessage
	var m struct {
		Version          string
		Ready            bool
		Hubs             int
		Uptime, Interval float64
		Latency          struct {
			Publish, Delivery struct{ Count, P50, P99 float64 }
		}
		Memory struct{ Used, Max int64 }
	}
	publishes, deliveries := 0.0, 0.0
	for deliveries < 2 { // the first message may be older than the POST
		msg := l.message().Msg
		if err := json.Unmarshal(msg, &m); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(msg, &raw); err != nil {
			t.Fatal(err)
		}
		publishes += m.Latency.Publish.Count
		deliveries += m.Latency.Delivery.Count
		if d := m.Latency.Delivery; d.Count > 0 && (d.P50 <= 0 || d.P99 < d.P50) {
			t.Errorf("%+v", d)
		}
	}
	if m.Version == "" || !m.Ready || m.Hubs != 1 || m.Uptime <= 0 || m.Interval < 0.5 || m.Memory.Used <= 0 || m.Memory.Max < m.Memory.Used || publishes != 1 {
		t.Errorf("%+v; %v POSTs", m, publishes)
	}
	names := map[string]bool{}
	for line := range strings.Lines(p.wants(200, "GET /metrics", "")) {
		name, value, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(name, "watchbox_") {
			continue
		}
		names[name] = true
		if value = strings.TrimSpace(value); raw[name] == nil && value != "0" && !strings.Contains(name, "_seconds") && !strings.HasSuffix(name, "_bytes") {
			t.Errorf("$sys/stats has no %s, which is %s", name, value)
		}
		if name == "watchbox_publish_seconds_count" && value != "1" {
			t.Errorf("%s is %s", name, value)
		}
	}
	for name := range raw {
		if strings.HasPrefix(name, "watchbox_") && !names[name] {
			t.Errorf("/metrics has no %s", name)
		}
	}
	l.own(204, "DELETE", "/groups/$sys/%23", "")
	l.own(204, "PUT", "/groups/$sys/stats", "")
	if m := l.message(); m.Group != "$sys/stats" {
		t.Errorf("%+v", m)
	}
}

func TestPresenceIsPublishedForTheLongestFilter(t *testing.T) {
	_, addr := serve(t)
	p := at(t, addr)
	all := p.listen("/v1/groups/$presence/%23", "")
	for _, name := range []string{strings.Repeat("x", 255), strings.Repeat("x/", 15) + "x"} {
		p.listen("/v1/groups/"+name, "")
		if m := all.message(); m.Group != "$presence/"+name {
			t.Errorf("%+v", m)
		}
	}
}

// TestKilledClientIsDisconnectedAsClosed kills curl. The kernel then closes its connection.
func TestKilledClientIsDisconnectedAsClosed(t *testing.T) {
	h, addr := serve(t, watchbox.WithSessionTimeout(100*time.Millisecond))
	events := newEvents(t)
	events.register(h)
	uid := make(chan string, 1)
	h.OnConnect(func(s watchbox.Session) { uid <- s.UID })
	cmd := exec.Command("curl", "-sN", "http://"+addr+"/v1/groups/foo")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	who := <-uid
	events.want(who, "connect, join foo")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	events.want(who, "connect, join foo, disconnect closed")
}

// TestClientWithoutHeartbeatsIsDisconnected requests client heartbeats and sends none on an open connection.
func TestClientWithoutHeartbeatsIsDisconnected(t *testing.T) {
	h, addr := serve(t, watchbox.WithSessionTimeout(100*time.Millisecond))
	events := newEvents(t)
	events.register(h)
	l := at(t, addr).listen("/v1/groups/foo?heartbeat=100ms", "")
	events.want(l.uid, "connect, join foo, disconnect heartbeat")
}
