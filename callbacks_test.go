package watchbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/watchbox-go/watchbox/internal/leak"

	"github.com/watchbox-go/watchbox"
)

// logged is the log of a hub.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

func (l *logged) option() watchbox.Option {
	return watchbox.WithLogger(slog.New(slog.NewTextHandler(l, nil)))
}

// TestCallbacksRunInOrderForEachSession runs many clients at once and cuts their connections.
func TestCallbacksRunInOrderForEachSession(t *testing.T) {
	h, addr := serve(t, watchbox.WithSessionTimeout(time.Hour)) // no session ends on a slow machine
	p := at(t, addr)
	events := newEvents(t)
	events.register(h)
	var all sync.WaitGroup
	for n := range 30 {
		all.Go(func() {
			secret := fmt.Sprintf("secret-of-number-%02d", n)
			l := p.listen("/v1/groups/foo", secret)
			for i := range 5 {
				p.wants(201, "POST /v1/groups/foo", fmt.Sprint(i), l.proof()...)
			}
			p.wants(202, "POST /v1/server", "psst", l.proof()...)
			l.own(204, "PUT", "/groups/bar/%23", "")
			l.own(204, "DELETE", "/groups/bar/%23", "")
			l.cut()
			want := "connect, join foo, message 0, message 1, message 2, message 3, message 4, message psst, join bar/#, leave bar/#"
			lost(p, l.uid)
			l = p.listen("/v1/groups/foo", secret)
			want += ", reconnect"
			if n%2 == 0 {
				l.own(204, "DELETE", "", "")
				want += ", disconnect ended"
			} else {
				p.wants(204, "DELETE /v1/sessions/"+l.uid, "")
				want += ", disconnect kicked"
			}
			events.want(l.uid, want)
		})
	}
	all.Wait()
}

func TestSlowCallbackDelaysNoOtherSession(t *testing.T) {
	h, addr := serve(t)
	p := at(t, addr)
	events := newEvents(t)
	release := make(chan struct{})
	blocked := make(chan string, 1)
	var second atomic.Bool
	h.OnConnect(func(s watchbox.Session) {
		if !second.Swap(true) {
			blocked <- s.UID
			<-release
		}
	})
	events.register(h)
	slow := p.listen("/v1/groups/foo", "")
	if uid := <-blocked; uid != slow.uid {
		t.Fatalf("%s, want %s", uid, slow.uid)
	}
	p.wants(201, "POST /v1/groups/foo", "1", slow.proof()...)
	other := p.listen("/v1/groups/foo", "")
	p.wants(201, "POST /v1/groups/foo", "2", other.proof()...)
	p.wants(201, "POST /v1/groups/foo", "3")
	slow.gets(`"1"`, `"2"`, `"3"`)
	events.want(other.uid, "connect, join foo, message 2")
	events.want("", "message 3")
	events.want(slow.uid, "")
	close(release)
	events.want(slow.uid, "connect, join foo, message 1")
}

func TestCallbackMayPanicOrExitItsGoroutine(t *testing.T) {
	var log logged
	h, addr := serve(t, log.option())
	p := at(t, addr)
	events := newEvents(t)
	h.OnMessage(func(m watchbox.Message) {
		switch m.Text() {
		case "panic":
			panic("so it goes")
		case "exit":
			runtime.Goexit()
		}
	})
	events.register(h)
	l := p.listen("/v1/groups/foo", "")
	for _, text := range []string{"panic", "exit", "fine"} {
		p.wants(201, "POST /v1/groups/foo", text, l.proof()...)
	}
	events.want(l.uid, "connect, join foo, message panic, message fine")
	if !log.has("a callback panicked") || !log.has("so it goes") {
		t.Error("the log does not mention it")
	}
}

func TestEventsDroppedForASlowCallbackAreCounted(t *testing.T) {
	var log logged
	h, addr := serve(t, log.option(), watchbox.WithSessionTimeout(100*time.Millisecond))
	p := at(t, addr)
	release := make(chan struct{})
	blocked := make(chan struct{})
	var once sync.Once
	events := newEvents(t)
	h.OnConnect(func(s watchbox.Session) { events.note(s.UID, "connect") })
	h.OnDisconnect(func(s watchbox.Session, _ watchbox.Reason) { events.note(s.UID, "disconnect") })
	l, other := p.listen("/v1/groups/bar", ""), p.listen("/v1/groups/bar", "")
	n := 0
	h.OnMessage(func(m watchbox.Message) {
		if m.UID == other.uid {
			events.note(m.UID, "%s", m.Text())
			return
		}
		once.Do(func() { close(blocked); <-release })
		n++
	})
	lines := strings.Repeat("1\n", 600)
	for range 3 { // a batch is queued as a whole if fewer than a thousand messages wait
		p.wants(201, "POST /v1/groups/foo", lines, append(l.proof(), "Content-Type", "application/x-ndjson")...)
	}
	<-blocked
	p.refused(503, "program-busy", "POST /v1/server", "hello?", l.proof()...)
	p.wants(202, "POST /v1/server", "hello", other.proof()...)
	events.want(other.uid, "connect, hello")
	if body := p.wants(200, "GET /metrics", ""); !strings.Contains(body, "watchbox_callbacks_dropped_total 601\n") {
		t.Errorf("%s", body[strings.Index(body, "watchbox_callbacks"):][:200])
	}
	if !log.has("callbacks are too slow") {
		t.Error("the log does not mention it")
	}
	l.cut()
	other.cut()
	events.want(other.uid, "connect, hello, disconnect")
	close(release)
	events.want(l.uid, "connect, disconnect") // disconnects are not dropped with the messages
	if n != 1200 {
		t.Errorf("OnMessage ran %d times, want 1200", n)
	}
}

// A client that has given up, or middleware with a deadline, is not told that the program refuses the message.
func TestAHookThatReturnsTheErrorOfItsContextDoesNotRefuseTheMessage(t *testing.T) {
	h, _ := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	h.BeforePublish(func(ctx context.Context, _ *watchbox.Message) error {
		cancel()
		<-ctx.Done()
		return fmt.Errorf("lookup: %w", ctx.Err())
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/v1/groups/foo", strings.NewReader("x")).WithContext(ctx))
	if w.Code != 503 || !strings.Contains(w.Body.String(), `"given-up"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestBeforePublishRefusesAndRewrites(t *testing.T) {
	h, addr := serve(t, watchbox.WithSessionTimeout(100*time.Millisecond))
	p := at(t, addr)
	h.BeforePublish(func(_ context.Context, m *watchbox.Message) error {
		switch m.Text() {
		case "damn":
			return errors.New("mind your words, please")
		case "canceled": // by the program itself
			return fmt.Errorf("lookup: %w", context.Canceled)
		case "late":
			return fmt.Errorf("lookup: %w", context.DeadlineExceeded)
		case "a":
			m.Group = "elsewhere"
		case "b":
			m.Event = "alarm"
		case "c":
			return m.Set(map[string]string{"was": m.Text()})
		case "d":
			return m.Set("text")
		case "e":
			return m.Set([]byte{0xff})
		case "f":
			return m.Set(func() {}) // cannot be encoded
		case "g":
			m.Group = "$presence/forged"
		case "h":
			m.Event = "bye"
		case "panic":
			panic("in a hook")
		}
		return nil
	})
	calls := 0
	h.BeforePublish(func(context.Context, *watchbox.Message) error { calls++; return nil })
	l := p.listen("/v1/groups/%23", "")
	refusals := map[string]string{
		"damn": "mind your words, please", "canceled": "lookup: context canceled", "late": "lookup: context deadline exceeded",
	}
	for text, detail := range refusals {
		p.refused(403, "refused", "POST /v1/groups/foo", text)
		if answer := p.wants(403, "POST /v1/groups/foo", text); !strings.Contains(answer, `"detail":"`+detail+`"`) {
			t.Error(answer)
		}
	}
	if calls != 0 {
		t.Error("the second hook ran for a message that the first one had refused")
	}
	p.refused(403, "refused", "POST /v1/groups/foo", `"damn"`, "Content-Type", "application/json")
	p.refused(403, "refused", "POST /v1/sessions/"+l.uid, "damn")
	p.refused(403, "refused", "PUT /v1/sessions/"+l.uid+"/will", `{"group":"foo","msg":"damn"}`, append(l.proof(), "Content-Type", "application/json")...)
	p.refused(400, "group-invalid", "POST /v1/groups/foo", "g")
	p.refused(400, "event-invalid", "POST /v1/groups/foo", "h")
	p.wants(403, "POST /v1/groups/foo", "f")
	if resp, err := p.try(t.Context(), "POST /v1/groups/foo", "panic"); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != 500 {
			t.Errorf("a hook that panics: %s", resp.Status)
		}
	}
	// The hook runs for each message of a batch. If one is refused, none is appended.
	p.refused(403, "refused", "POST /v1/groups/foo", "1\n\"damn\"\n3", "Content-Type", "application/x-ndjson")
	p.wants(201, "POST /v1/groups/foo", "1\n\"a\"\n\"c\"\n{}", "Content-Type", "application/x-ndjson")
	l.gets("1")
	if m := l.message(); m.Group != "elsewhere" || string(m.Msg) != `"a"` {
		t.Errorf("%+v", m)
	}
	l.gets(`{"was":"c"}`, "{}")
	for text, want := range map[string]string{"a": `elsewhere "a"`, "b": `foo "b" alarm`, "c": `foo {"was":"c"}`, "d": `foo "text"`, "e": `foo "/w=="`} {
		answer := p.wants(201, "POST /v1/groups/foo", text)
		m := l.message()
		if got := strings.TrimSpace(m.Group + " " + string(m.Msg) + " " + m.Event); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
		if !strings.Contains(answer, `"group":"`+m.Group+`"`) {
			t.Errorf("it was published to %s, but the answer is %s", m.Group, answer)
		}
	}
	if _, err := h.Publish(t.Context(), "foo", "damn"); err != nil {
		t.Errorf("BeforePublish ran for the program's own message: %v", err)
	}
	l.gets(`"damn"`)
	// BeforePublish runs for a will when it is set.
	w := p.listen("/v1/groups/foo", "")
	w.own(204, "PUT", "/will", `{"group":"foo","msg":"b"}`, "Content-Type", "application/json")
	before := calls
	p.wants(204, "DELETE /v1/sessions/"+w.uid, "")
	if m := l.message(); string(m.Msg) != `"b"` || m.Event != "alarm" || m.UID != w.uid || calls != before {
		t.Errorf("the will is %+v, and BeforePublish ran %d times", m, calls-before)
	}
}

func TestOnMessageGetsTheGroupThatBeforePublishSet(t *testing.T) {
	h, addr := serve(t)
	p := at(t, addr)
	messages := make(chan watchbox.Message, 10)
	h.OnMessage(func(m watchbox.Message) { messages <- m })
	h.BeforePublish(func(_ context.Context, m *watchbox.Message) error { m.Group = "moved"; return nil })
	l := p.listen("/v1/groups/%23", "")
	p.wants(202, "POST /v1/server", "for the program") // has no group to change
	if m := <-messages; m.Group != "" || m.ID != "" || m.Text() != "for the program" {
		t.Errorf("%+v", m)
	}
	for _, call := range []string{"POST /v1/sessions/" + l.uid, "POST /v1/groups/foo"} {
		p.wants(201, call, "x")
		m, sent := <-messages, l.message()
		if sent.Group != "moved" || m.Group != "moved" || m.ID != sent.ID || m.Text() != "x" {
			t.Errorf("%s: OnMessage gets %+v, the group %+v", call, m, sent)
		}
	}
	if got := p.wants(200, "GET /v1/history/%23", ""); strings.Contains(got, "for the program") {
		t.Errorf("it was published: %s", got)
	}
}

// TestHookMayKeepData keeps Data after the hook has returned.
func TestHookMayKeepData(t *testing.T) {
	h, addr := serve(t)
	p := at(t, addr)
	var kept [][]byte
	h.BeforePublish(func(_ context.Context, m *watchbox.Message) error { kept = append(kept, m.Data); return nil })
	for i := range 20 {
		p.wants(201, "POST /v1/groups/foo", fmt.Sprint("text ", i))
	}
	for i, b := range kept {
		if string(b) != fmt.Sprint("text ", i) {
			t.Errorf("the bytes of message %d became %q", i, b)
		}
	}
}

func TestOnMessageGetsOnlyMessagesOfClients(t *testing.T) {
	h, addr := serve(t)
	p := at(t, addr)
	messages := make(chan watchbox.Message, 10)
	p.refused(404, "nobody-listens", "POST /v1/server", "hello")
	h.OnMessage(func(m watchbox.Message) { messages <- m })
	l := p.listen("/v1/groups/foo", "")
	if _, err := h.Publish(t.Context(), "foo", "the program's own"); err != nil {
		t.Fatal(err)
	}
	p.wants(201, "POST /v1/sessions/"+l.uid, "for another session")
	p.wants(201, "POST /v1/groups/foo?event=alarm", `{"n":1}`, append(l.proof(), "Content-Type", "application/json")...)
	l.gets(`"the program's own"`, `"for another session"`)
	sent := l.next()
	m := <-messages
	var v struct{ N int }
	if err := m.Decode(&v); err != nil || v.N != 1 || m.ID != sent.ID || m.Group != "foo" || m.Event != "alarm" || m.UID != l.uid ||
		m.Text() != `{"n":1}` || time.Since(m.Time) > patience {
		t.Errorf("%+v, %v", m, err)
	}
	if id, err := m.Reply(t.Context(), []int{1, 2}); err != nil || id == "" {
		t.Error(err)
	}
	l.gets("[1,2]")
	p.wants(201, "POST /v1/groups/foo", "1\n2", "Content-Type", "application/x-ndjson")
	for range 2 {
		if m, ev := <-messages, l.next(); m.ID != ev.ID || m.UID != "" {
			t.Errorf("%+v, want the id %s", m, ev.ID)
		}
	}
	p.wants(202, "POST /v1/server", "ho\xffw")
	m = <-messages
	var b []byte
	if err := m.Decode(&b); err != nil || string(b) != "ho\xffw" || m.Group != "" || m.ID != "" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := m.Reply(t.Context(), "who are you?"); !errors.Is(err, watchbox.ErrNoSession) {
		t.Errorf("a reply without a session: %v, want ErrNoSession", err)
	}
	if len(messages) > 0 {
		t.Errorf("OnMessage also got %+v", <-messages)
	}
}

func TestTextAndDecodeForEachKindOfMessage(t *testing.T) {
	h, err := watchbox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	messages := make(chan watchbox.Message, 1)
	h.OnMessage(func(m watchbox.Message) { messages <- m })
	for _, c := range []struct{ kind, body, text string }{
		{"", "plain", "plain"},
		{"", `"quoted"`, `"quoted"`},
		{"application/json", `"quoted"`, "quoted"},
		{"application/json", `{"a":1}`, `{"a":1}`},
		{"application/json", `null`, `null`},
		{"application/json", `[ "x" ]`, `[ "x" ]`},
		{"application/octet-stream", "\xff", "\xff"},
	} {
		r := httptest.NewRequest("POST", "/v1/server", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusAccepted {
			t.Fatal(w.Body)
		}
		m := <-messages
		var s string
		if err := m.Decode(&s); err != nil || s != c.text || m.Text() != c.text {
			t.Errorf("%s %s: %q, %q, %v", c.kind, c.body, m.Text(), s, err)
		}
		var n int
		if err := m.Decode(&n); (err == nil) != (c.body == "null") {
			t.Errorf("%s as a number: %v", c.body, err)
		}
	}
}

func TestCloseEndsStreamsCallbacksAndGoroutines(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	h, err := watchbox.New()
	if err != nil {
		t.Fatal(err)
	}
	events := newEvents(t)
	srv := httptest.NewServer(h)
	defer srv.Close()
	p := at(t, strings.TrimPrefix(srv.URL, "http://"))
	defer p.client.CloseIdleConnections()
	begun, release := make(chan struct{}), make(chan struct{})
	h.OnDisconnect(func(watchbox.Session, watchbox.Reason) {
		begun <- struct{}{}
		<-release
	})
	events.register(h)
	a, b := p.listen("/v1/groups/foo", ""), p.listen("/v1/groups/%23?heartbeat=1h", "")
	gone := p.listen("/v1/groups/$sys/stats", "")
	gone.cut()
	lost(p, gone.uid)

	ctx, stop := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	for range 4 {
		publishing.Go(func() {
			for ctx.Err() == nil {
				if _, err := h.Publish(ctx, "foo", "bar"); err != nil {
					if !strings.Contains(err.Error(), "shutting down") {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	a.next()
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- h.Close() }()
	}
	for range 3 {
		<-begun
	}
	select {
	case <-closed:
		t.Error("Close did not wait for the callbacks")
	default:
	}
	close(release)
	for range 2 {
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
	if err := h.Close(); err != nil {
		t.Errorf("the third Close: %v", err)
	}
	stop()
	publishing.Wait()
	for _, l := range []*subscriber{a, b} {
		ev := l.next()
		for ev.Type == "message" {
			ev = l.next()
		}
		if ev.Type != "bye" || string(ev.Data) != `{"reason":"shutdown"}` {
			t.Errorf("the last event is %s %s", ev.Type, ev.Data)
		}
		l.ended()
		got, _ := events.of(l.uid)
		if !strings.HasSuffix(got, "disconnect shutdown") {
			t.Errorf("when Close returned, the callbacks were: %s", got)
		}
	}
	p.refused(503, "shutting-down", "GET /v1/groups/foo", "")
	p.refused(503, "shutting-down", "POST /v1/groups/foo", "x")
	p.refused(503, "shutting-down", "POST /v1/server", "x")
	p.refused(503, "shutting-down", "GET /readyz", "")
	if _, err := h.Send(t.Context(), a.uid, "x"); err == nil {
		t.Error("Send succeeds after Close")
	}
	srv.Close()
	p.client.CloseIdleConnections()
	if err := leak.Find(ignore); err != nil {
		t.Error(err)
	}
}

func TestCloseWaitsForCallbacksForALimitedTime(t *testing.T) {
	var log logged
	h, addr := serve(t, log.option())
	p := at(t, addr)
	release := make(chan struct{})
	defer close(release)
	begun := make(chan struct{})
	h.OnConnect(func(watchbox.Session) { close(begun); <-release })
	p.listen("/v1/groups/foo", "")
	<-begun
	begin := time.Now()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < time.Second || took > patience || !log.has("callbacks still run") {
		t.Errorf("Close took %v", took)
	}
}

// TestMessagesForASlowCallbackAreBoundedInBytes checks that the messages of one session leave room
// for those of others.
func TestMessagesForASlowCallbackAreBoundedInBytes(t *testing.T) {
	h, addr := serve(t)
	p := at(t, addr)
	release, messages := make(chan struct{}), make(chan string, 100)
	l, other := p.listen("/v1/groups/bar", ""), p.listen("/v1/groups/bar", "")
	h.OnMessage(func(m watchbox.Message) {
		if m.UID == l.uid {
			<-release
		}
		messages <- m.UID
	})
	defer close(release)
	large := strings.Repeat("x", 1<<20)
	for range 20 {
		p.wants(201, "POST /v1/groups/foo", large, l.proof()...)
	}
	body := p.wants(200, "GET /metrics", "")
	for _, want := range []string{"\nwatchbox_callbacks_dropped_total 12\n", fmt.Sprintf("\nwatchbox_callback_bytes %v\n", float64(8<<20))} {
		if !strings.Contains(body, want) {
			t.Errorf("there is no %q in\n%s", want, body)
		}
	}
	p.refused(503, "program-busy", "POST /v1/server", "hello?", l.proof()...)
	p.wants(202, "POST /v1/server", large, other.proof()...)
	if uid := <-messages; uid != other.uid {
		t.Errorf("OnMessage got a message of %s first", uid)
	}
}
