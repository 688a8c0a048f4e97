package watchbox_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/leak"

	"github.com/watchbox-go/watchbox"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for one event.
const patience = time.Minute

// serve runs a hub on its own port until the test ends, and returns the hub and its address.
func serve(t *testing.T, opts ...watchbox.Option) (*watchbox.Hub, string) {
	t.Helper()
	addr := make(chan string, 1)
	h, err := watchbox.New(append(opts, watchbox.WithListening(func(a net.Addr) { addr <- a.String() }))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx, "127.0.0.1:0", nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, <-addr
}

// program is a program that hosts a hub.
type program struct {
	*testing.T
	*watchbox.Hub
	url    string
	client *http.Client
}

// host serves a hub until the test ends.
func host(t *testing.T, opts ...watchbox.Option) *program {
	t.Helper()
	hub, err := watchbox.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(hub)
	t.Cleanup(func() {
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return &program{t, hub, srv.URL, srv.Client()}
}

// call makes a request, "POST /path", as a session if it has a secret, and returns the answer.
func (p *program) call(call, body, secret string) string {
	p.Helper()
	method, path, _ := strings.Cut(call, " ")
	r, err := http.NewRequestWithContext(p.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	if secret != "" {
		r.Header.Set("Watchbox-Session", secret)
	}
	resp, err := p.client.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	return resp.Status + " " + string(b)
}

// listener is an open stream. leave closes it.
type listener struct {
	*program
	blocks *bufio.Reader
	leave  func()
}

func (p *program) listen(path, secret string) *listener {
	p.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p.Cleanup(cancel)
	r, _ := http.NewRequestWithContext(ctx, "GET", p.url+path, nil)
	r.Header.Set("Watchbox-Session", secret)
	resp, err := p.client.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	l := &listener{p, bufio.NewReader(resp.Body), func() { cancel(); _ = resp.Body.Close() }}
	l.has("event: session")
	return l
}

// has reads blocks until one contains a text.
func (l *listener) has(text string) {
	l.Helper()
	for seen := ""; !strings.Contains(seen, text); {
		line, err := l.blocks.ReadString('\n')
		if err != nil {
			l.Fatalf("the stream ended (%v) without %s", err, text)
		}
		if seen += line; line == "\n" && !strings.Contains(seen, text) {
			seen = ""
		}
	}
}

// next returns the next text from a callback.
func next(t *testing.T, said <-chan string) string {
	t.Helper()
	select {
	case s := <-said:
		return s
	case <-time.After(patience):
		t.Fatal("timed out waiting for a callback")
		return ""
	}
}

const (
	secret = "a-secret-of-the-client"
	uid    = "4347ce1e-ef2b-84d4-8ffd-935ae735b9b0"
)

func TestErrorsNameTheInvalidOption(t *testing.T) {
	for want, o := range map[string]watchbox.Option{
		"profile":                 watchbox.WithProfile("fast"),
		"max-memory":              watchbox.WithMaxMemory(1),
		"max-messages":            watchbox.WithMaxMessages(-1),
		"max-bytes":               watchbox.WithMaxBytes(-1),
		"max-age":                 watchbox.WithMaxAge(-1),
		"max-message-size":        watchbox.WithMaxMessageSize(0),
		"max-groups":              watchbox.WithMaxGroups(0),
		"max-streams":             watchbox.WithMaxStreams(-1),
		"max-filters":             watchbox.WithMaxFilters(0),
		"heartbeat: 99ms":         watchbox.WithHeartbeat(99 * time.Millisecond),
		"heartbeat: 1h0m1s":       watchbox.WithHeartbeat(time.Hour + time.Second),
		"session-timeout":         watchbox.WithSessionTimeout(time.Millisecond),
		"allow-host":              watchbox.WithAllowHost("https://example.org"),
		"allow-origin: \"e.org\"": watchbox.WithAllowOrigin("e.org"),
		"allow-origin: \"http":    watchbox.WithAllowOrigin("http://e.org/path"),
		"a//b":                    watchbox.WithPolicy("a//b", watchbox.Policy{}),
		"\"tape\"":                watchbox.WithPolicy("a", watchbox.Policy{Store: "tape"}),
	} {
		if hub, err := watchbox.New(o); err == nil {
			t.Errorf("%s: New accepts it", want)
			_ = hub.Close()
		} else if !strings.HasPrefix(err.Error(), "watchbox: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not contain %s", err, want)
		}
	}
}

func TestProgramPublishesTextBytesAndJSON(t *testing.T) {
	p := host(t)
	l := p.listen("/v1/groups/foo", secret)
	for _, c := range []struct {
		v    any
		want string
	}{
		{"person joined", `"msg":"person joined"`},
		{[]byte{0xff}, `"encoding":"base64","msg":"/w=="`},
		{[]byte("text"), `"msg":"text"`},
		{map[string]float64{"temp": 21.5}, `"msg":{"temp":21.5}`},
		{nil, `"msg":null`},
	} {
		id, err := p.Publish(t.Context(), "foo", c.v)
		if err != nil {
			t.Fatal(err)
		}
		l.has(`data: {"id":"` + id + `"`)
		if h := p.call("GET /v1/history/foo?last=1", "", ""); !strings.Contains(h, c.want) {
			t.Errorf("%v is %s", c.v, h)
		}
	}
	if id, err := p.Send(t.Context(), uid, "for you"); err != nil {
		t.Error(err)
	} else {
		l.has(id)
	}
	if _, err := p.Send(t.Context(), "5fb22bbe-3ba4-8928-b938-4f1a2661e1dd", "x"); !errors.Is(err, watchbox.ErrNoSession) {
		t.Errorf("sent to an unknown session: %v", err)
	}
	for group, v := range map[string]any{"$sys/stats": "x", "a/+": "x", "": "x", "foo": func() {}, "big": strings.Repeat("x", 1<<20+1)} {
		if id, err := p.Publish(t.Context(), group, v); err == nil || id != "" || !strings.Contains(err.Error(), fmt.Sprintf("%q", group)) {
			t.Errorf("%q: %q, %v", group, id, err)
		}
	}
}

func TestCallbacksOfOneSessionRunInOrder(t *testing.T) {
	p := host(t, watchbox.WithSessionTimeout(200*time.Millisecond))
	said := make(chan string, 100)
	p.OnConnect(func(s watchbox.Session) { said <- "connect " + s.UID })
	p.OnJoin(func(s watchbox.Session, filter string) { said <- "join " + filter })
	p.OnLeave(func(s watchbox.Session, filter string) { said <- "leave " + filter })
	p.OnReconnect(func(s watchbox.Session) { said <- "reconnect" })
	p.OnDisconnect(func(s watchbox.Session, why watchbox.Reason) { said <- "disconnect " + string(why) })
	p.OnMessage(func(m watchbox.Message) { said <- "message " + m.Group + " " + m.Text() + " " + m.UID })

	l := p.listen("/v1/groups/foo", secret)
	p.call("POST /v1/groups/foo", "hello", secret)
	p.call("PUT /v1/sessions/"+uid+"/groups/bar", "", secret)
	p.call("DELETE /v1/sessions/"+uid+"/groups/bar", "", secret)
	if _, err := p.Publish(t.Context(), "foo", "my own"); err != nil { // OnMessage does not get it
		t.Error(err)
	}
	l.leave()
	for _, want := range []string{"connect " + uid, "join foo", "message foo hello " + uid, "join bar", "leave bar", "disconnect closed"} {
		if got := next(t, said); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestReconnectAndKickCallTheirCallbacks(t *testing.T) {
	p := host(t, watchbox.WithSessionTimeout(time.Minute))
	said := make(chan string, 100)
	p.OnReconnect(func(s watchbox.Session) { said <- "reconnect " + s.UID })
	p.OnDisconnect(func(s watchbox.Session, why watchbox.Reason) { said <- "disconnect " + string(why) })
	watcher := p.listen("/v1/groups/$presence/foo", "the-secret-of-another")
	p.listen("/v1/groups/foo", secret).leave()
	watcher.has(`"event":"lost"`)
	p.listen("/v1/groups/foo", secret)
	p.call("DELETE /v1/sessions/"+uid, "", "")
	for _, want := range []string{"reconnect " + uid, "disconnect kicked"} {
		if got := next(t, said); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestReplyReachesTheSender(t *testing.T) {
	p := host(t)
	failed := make(chan string, 1)
	p.OnMessage(func(m watchbox.Message) {
		var in struct{ A, B int }
		if err := m.Decode(&in); err != nil {
			failed <- err.Error()
			return
		}
		if _, err := m.Reply(t.Context(), map[string]int{"sum": in.A + in.B}); err != nil {
			failed <- err.Error()
		}
	})
	l := p.listen("/v1/groups/foo", secret)
	p.call("POST /v1/server", `{"a":2,"b":3}`, secret)
	l.has(`"msg":{"sum":5}`)
	p.call("POST /v1/server", "no JSON", secret)
	if got := next(t, failed); !strings.HasPrefix(got, "watchbox: message") {
		t.Errorf("%s", got)
	}
	p.call("POST /v1/server", `{}`, "")
	if got := next(t, failed); !strings.Contains(got, watchbox.ErrNoSession.Error()) {
		t.Errorf("%s", got)
	}
}

func TestBeforePublishMayChangeOrRefuseAMessage(t *testing.T) {
	p := host(t)
	p.BeforePublish(func(_ context.Context, m *watchbox.Message) error {
		switch m.Text() {
		case "no":
			return errors.New("not that one")
		case "bad group":
			m.Group = "$sys/x"
		case "bad event":
			m.Event = "bye"
		case "move":
			m.Group, m.Event = "else/where", "moved"
			return m.Set(map[string]string{"was": m.Text()})
		}
		return nil
	})
	if got := p.call("POST /v1/groups/foo", "no", ""); !strings.HasPrefix(got, "403 ") || !strings.Contains(got, "not that one") {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{"bad group", "bad event"} {
		if got := p.call("POST /v1/groups/foo", bad, ""); strings.HasPrefix(got, "2") {
			t.Errorf("%s: %s", bad, got)
		}
	}
	if got := p.call("POST /v1/groups/foo", "move", ""); !strings.Contains(got, `"group":"else/where"`) {
		t.Errorf("%s", got)
	}
	if got := p.call("GET /v1/history/%23", "", ""); !strings.Contains(got, `"group":"else/where","event":"moved"`) || !strings.Contains(got, `"msg":{"was":"move"}`) || strings.Contains(got, "foo") {
		t.Errorf("%s", got)
	}
	if _, err := p.Publish(t.Context(), "foo", "no"); err != nil {
		t.Errorf("BeforePublish ran for the program's own message: %v", err)
	}
}

func TestPanicInACallbackIsLoggedAndTheNextCallRuns(t *testing.T) {
	var logged safeBuffer
	p := host(t, watchbox.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
	said := make(chan string, 1)
	p.OnMessage(func(m watchbox.Message) {
		if m.Text() == "panic" {
			panic("a mistake")
		}
		said <- m.Text()
	})
	p.call("POST /v1/groups/foo", "panic", secret)
	p.call("POST /v1/groups/foo", "goes on", secret)
	if got := next(t, said); got != "goes on" || !strings.Contains(logged.String(), "a mistake") {
		t.Errorf("%s; log: %s", got, logged.String())
	}
}

// safeBuffer is a bytes.Buffer for concurrent use.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// run runs a hub on its own address until cancel. ran gets the result of Run.
func run(t *testing.T, root http.Handler, opts ...watchbox.Option) (p *program, cancel func(), ran chan error) {
	t.Helper()
	listening := make(chan net.Addr, 1)
	hub, err := watchbox.New(append(opts, watchbox.WithListening(func(a net.Addr) { listening <- a }))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran = make(chan error, 1)
	go func() { ran <- hub.Run(ctx, "127.0.0.1:0", root) }()
	transport := &http.Transport{}
	t.Cleanup(func() {
		cancel()
		transport.CloseIdleConnections()
		_ = hub.Close()
	})
	return &program{t, hub, "http://" + (<-listening).String(), &http.Client{Transport: transport}}, cancel, ran
}

func TestRunEndsWithItsContextAndAnswersRequestsInProgress(t *testing.T) {
	p, cancel, ran := run(t, nil)
	entered, free := make(chan struct{}), make(chan struct{})
	p.BeforePublish(func(context.Context, *watchbox.Message) error {
		close(entered)
		<-free
		return nil
	})
	l := p.listen("/v1/groups/foo", secret)
	answer := make(chan string, 1)
	go func() { answer <- p.call("POST /v1/groups/foo", "under way", "") }()
	<-entered
	cancel()
	l.has("event: bye\ndata: {\"reason\":\"shutdown\"}")
	close(free)
	if got := next(t, answer); !strings.HasPrefix(got, "201 ") {
		t.Errorf("%s", got)
	}
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := p.Publish(t.Context(), "foo", "late"); err == nil {
		t.Error("the hub still accepts messages")
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

func TestRunServesTheProgramsOwnHandler(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "mine") })
	p, cancel, ran := run(t, mux)
	mux.Handle("/hub/", http.StripPrefix("/hub", p.Hub))
	if got := p.call("GET /", "", ""); got != "200 OK mine" {
		t.Errorf("%s", got)
	}
	p.listen("/hub/v1/groups/foo", secret).has("")
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestRunReturnsAnErrorForABadAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	hub, err := watchbox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hub.Close() }()
	for addr, want := range map[string]string{
		"0.0.0.0:0": "--open-to-anyone", ":0": "--open-to-anyone", "[::]:0": "--open-to-anyone", "192.0.2.1:0": "--open-to-anyone", "example.org:0": "--open-to-anyone",
		ln.Addr().String(): "in use", "nonsense": "nonsense", "127.0.0.1:99999": "99999",
	} {
		if err := hub.Run(t.Context(), addr, nil); err == nil || !strings.HasPrefix(err.Error(), "watchbox: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", addr, err, want)
		}
	}
}
