package api_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/watchbox-go/watchbox"
)

// hidden is a wrapped ResponseWriter whose other methods are reached only through Unwrap.
type hidden struct{ http.ResponseWriter }

func (h hidden) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// ways has the ways in which programs mount a hub, and the resulting path.
var ways = map[string]struct {
	at    string
	mount func(hub http.Handler) http.Handler
}{
	"as it is": {"", func(hub http.Handler) http.Handler { return hub }},
	"chi Mount": {"/watchbox", func(hub http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Mount("/watchbox", hub)
		return r
	}},
	"chi Route with parameters of the same names": {"/t/5/v1/hub", func(hub http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Route("/t/{uid}/v1", func(r chi.Router) { r.Mount("/hub", hub) })
		return r
	}},
	"chi Handle and StripPrefix": {"/hub", func(hub http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Handle("/hub", http.StripPrefix("/hub", hub))
		r.Handle("/hub/*", http.StripPrefix("/hub", hub))
		return r
	}},
	"ServeMux": {"/a/b", func(hub http.Handler) http.Handler {
		m := http.NewServeMux()
		m.Handle("/a/b/", http.StripPrefix("/a/b", hub))
		return m
	}},
	"ServeMux with a pattern": {"", func(hub http.Handler) http.Handler {
		m := http.NewServeMux()
		m.Handle("/{rest...}", hub)
		return m
	}},
	"behind middleware": {"/watchbox", func(hub http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Use(middleware.RequestID, middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: log.New(io.Discard, "", 0)}),
			middleware.Recoverer, middleware.Compress(5), middleware.Timeout(time.Minute), middleware.RequestSize(2<<20))
		r.Mount("/watchbox", hub)
		return r
	}},
	"behind a Compress that includes streams": {"", func(hub http.Handler) http.Handler {
		return middleware.Compress(5, "text/event-stream", "application/json")(hub)
	}},
	"behind a wrapped writer": {"", func(hub http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hub.ServeHTTP(hidden{w}, r) })
	}},
}

func TestMiddlewareSeesItsOwnPattern(t *testing.T) {
	hub := newHub(t)
	defer hub.Close()
	mux := http.NewServeMux()
	mux.Handle("/v1/", hub)
	for _, method := range []string{"POST", "GET", "DELETE"} {
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, method, "/v1/groups/foo", nil)
		if method == "GET" {
			cancel() // otherwise the stream stays open
		}
		mux.ServeHTTP(httptest.NewRecorder(), r)
		cancel()
		if r.Pattern != "/v1/" {
			t.Errorf("%s: the pattern is %q", method, r.Pattern)
		}
	}
}

func TestHubWorksUnderAnyMountPoint(t *testing.T) {
	for name, way := range ways {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				hub := newHub(t)
				srv := httptest.NewUnstartedServer(way.mount(hub))
				if srv.EnableHTTP2 = protocol == "HTTP/2.0"; srv.EnableHTTP2 {
					srv.StartTLS()
				} else {
					srv.Start()
				}
				defer srv.Close()
				defer func() { _ = hub.Close() }()
				m := &mountedHub{t, srv.Client(), srv.URL + way.at}
				m.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				m.streams(protocol)
				m.answers()
				m.hasAPage()
			})
		}
	}
}

type mountedHub struct {
	*testing.T
	client *http.Client
	url    string
}

func (m *mountedHub) do(ctx context.Context, call, body string, header ...string) *http.Response {
	m.Helper()
	method, path, _ := strings.Cut(call, " ")
	r, err := http.NewRequestWithContext(ctx, method, m.url+path, strings.NewReader(body))
	if err != nil {
		m.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := m.client.Do(r)
	if err != nil {
		m.Fatal(err)
	}
	return resp
}

// wants fails unless the answer has the status and contains the text in its header or body.
func (m *mountedHub) wants(status int, has, call, body string, header ...string) {
	m.Helper()
	resp := m.do(m.Context(), call, body, header...)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		m.Error(err)
	}
	var head strings.Builder
	_ = resp.Header.Write(&head)
	if resp.StatusCode != status || !strings.Contains(head.String()+string(b), has) {
		m.Errorf("%s: %s, want %d %s:\n%s%.300s", call, resp.Status, status, has, head.String(), b)
	}
}

func (m *mountedHub) streams(protocol string) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), patience)
	defer cancel()
	for _, target := range []string{"/v1/groups/a%2Fb/c", "/v1/events?group=a/b/c"} {
		resp := m.do(ctx, "GET "+target, "")
		if resp.StatusCode != 200 || resp.Proto != protocol {
			m.Fatalf("%s %s", resp.Proto, resp.Status)
		}
		st := &stream{socket: &socket{TB: m.T, in: bufio.NewReader(resp.Body)}}
		if first := st.block(); !strings.HasPrefix(first, "retry: 1000\nevent: session\n") {
			m.Errorf("the stream begins with %q", first)
		}
		m.wants(201, `"group":"a/b/c"`, "POST /v1/groups/a/b%2Fc", "x")
		if _, _, data := parseBlock(st.block()); !strings.Contains(data, `"msg":"x"`) {
			m.Errorf("%q", data)
		}
		_ = resp.Body.Close()
	}
}

func (m *mountedHub) answers() {
	m.Helper()
	m.wants(200, `"group":"a/b/c"`, "GET /v1/history/a/%23", "")
	m.wants(200, `"groups":[{`, "GET /v1/groups", "")
	m.wants(204, "Allow: GET, HEAD, POST, DELETE, OPTIONS", "OPTIONS /v1/groups/a/b", "")
	m.wants(405, "Allow: GET, HEAD, POST, DELETE, OPTIONS", "PATCH /v1/groups/a%2Fb", "")
	m.wants(405, "method-not-allowed", "PUT /v1/groups", "")
	m.wants(404, "not-found", "GET /v1/nothing", "")
	m.wants(404, "session-unknown", "GET /v1/sessions/"+unknownUID, "")
	m.wants(413, "message-too-large", "POST /v1/groups/a", strings.Repeat("x", 1<<20+1))
	m.wants(403, "origin-not-allowed", "POST /v1/groups/a", "x", "Origin", "https://evil.test")
	m.wants(403, "origin-not-allowed", "GET /v1/groups/a", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate")
	m.wants(200, "text/html", "GET /", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate")
}

func (m *mountedHub) hasAPage() {
	m.Helper()
	m.wants(200, "<!doctype html>", "GET /", "")
	m.wants(200, "text/javascript", "GET /assets/app.js", "")
	m.wants(200, "openapi: 3", "GET /openapi.yaml", "")
	for _, query := range []string{"", "?x=y"} {
		resp := m.do(m.Context(), "GET "+query, "")
		_ = resp.Body.Close()
		if resp.Request.URL.Path == "" {
			return // mounted at the root
		}
		to, err := resp.Location()
		if err != nil || to.String() != m.url+"/"+query || resp.StatusCode < 300 {
			m.Errorf("GET %s%s: %s to %v (%v)", m.url, query, resp.Status, to, err)
		}
	}
}

func TestPageRedirectsToTheTrailingSlash(t *testing.T) {
	hub := newHub(t)
	defer func() { _ = hub.Close() }()
	handler := chi.NewRouter()
	handler.Mount("/a/watch:box", hub)
	srv := httptest.NewServer(handler)
	defer srv.Close()
	client := srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s := &server{TB: t, addr: srv.Listener.Addr().String(), at: "/a/watch:box", client: client}
	for query, want := range map[string]string{"": "./watch:box/", "?x=y%20z": "./watch:box/?x=y%20z"} {
		if a := s.wants(308, "", "GET "+query, ""); a.header.Get("Location") != want {
			t.Errorf("%q: Location is %q, want %q", query, a.header.Get("Location"), want)
		}
	}
	s.wants(200, "", "GET /", "")
}

func TestMaxBytesHandlerOfTheProgramIsReported(t *testing.T) {
	hub := newHub(t)
	defer func() { _ = hub.Close() }()
	srv := httptest.NewServer(middleware.RequestSize(100)(hub))
	defer srv.Close()
	m := &mountedHub{t, srv.Client(), srv.URL}
	m.wants(413, "message-too-large", "POST /v1/groups/foo", strings.Repeat("x", 101))
	m.wants(201, "", "POST /v1/groups/foo", strings.Repeat("x", 100))
}

// noFlush is a ResponseWriter with only the required methods.
type noFlush struct{ http.ResponseWriter }

func TestWriterThatCannotFlushIsReported(t *testing.T) {
	for name, test := range map[string]struct {
		wrap func(hub http.Handler) http.Handler
		says string
	}{
		"TimeoutHandler": {func(hub http.Handler) http.Handler { return http.TimeoutHandler(hub, time.Minute, "late") }, "*http.timeoutWriter"},
		"a wrapper": {func(hub http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hub.ServeHTTP(noFlush{w}, r) })
		}, "api_test.noFlush"},
		"a wrapper in a wrapper": {func(hub http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hub.ServeHTTP(hidden{noFlush{w}}, r) })
		}, "api_test.noFlush"},
	} {
		t.Run(name, func(t *testing.T) {
			s := mountedBehind(t, test.wrap, watchbox.WithMaxStreams(1))
			for range 3 { // a refused stream does not count against MaxStreams
				a := s.wants(500, "cannot-stream", "GET /v1/groups/foo", "")
				if !strings.Contains(a.body, test.says+" has neither a Flush nor an Unwrap method") {
					t.Errorf("the answer does not name the writer that cannot flush: %s", a.body)
				}
			}
			s.post("/v1/groups/foo", "x")
		})
	}
}

// panicking is a wrapper whose Flush always panics, like that of echo's Response in a TimeoutHandler.
type panicking struct {
	http.ResponseWriter
	why string
}

func (p panicking) Flush() { panic(p.why) }

// panickingInside is panicking with an inner writer.
type panickingInside struct{ panicking }

func (p panickingInside) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// TestPanicOfAWriterEndsOnlyItsRequest: streams are written on the hub's own goroutines, where a panic would
// end the process.
func TestPanicOfAWriterEndsOnlyItsRequest(t *testing.T) {
	for name, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"without deadlines": func(w http.ResponseWriter) http.ResponseWriter { return panicking{w, "cannot flush"} },
		"with deadlines":    func(w http.ResponseWriter) http.ResponseWriter { return panickingInside{panicking{w, "cannot flush"}} },
	} {
		t.Run(name, func(t *testing.T) { panicsOnlyItsRequest(t, wrap) })
	}
}

func panicsOnlyItsRequest(t *testing.T, wrap func(http.ResponseWriter) http.ResponseWriter) {
	panics := make(chan any, 1)
	s := mountedBehind(t, func(hub http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if p := recover(); p != nil {
					panics <- p
					panic(http.ErrAbortHandler)
				}
			}()
			if r.Method == http.MethodGet {
				w = wrap(w)
			}
			hub.ServeHTTP(w, r)
		})
	}, watchbox.WithMaxStreams(1))
	for range 3 { // a stream that panics does not count against MaxStreams
		c := s.dial()
		c.write("GET /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\n\r\n")
		select {
		case p := <-panics:
			if p != "cannot flush" {
				t.Errorf("the program recovers %v", p)
			}
		case <-time.After(patience):
			t.Fatal("the program gets no panic")
		}
	}
	s.post("/v1/groups/foo", "x")
}

// unset is a ResponseWriter whose status is 404 until it is set, as in a NoRoute handler of gin.
type unset struct {
	http.ResponseWriter
	set bool
}

func (u *unset) Unwrap() http.ResponseWriter { return u.ResponseWriter }

func (u *unset) WriteHeader(status int) {
	u.set = true
	u.ResponseWriter.WriteHeader(status)
}

func (u *unset) Write(b []byte) (int, error) {
	if !u.set {
		u.WriteHeader(http.StatusNotFound)
	}
	return u.ResponseWriter.Write(b)
}

func TestStatusDoesNotDependOnTheWritersDefault(t *testing.T) {
	s := mountedBehind(t, func(hub http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			u := &unset{ResponseWriter: w}
			hub.ServeHTTP(u, r)
			if !u.set {
				w.WriteHeader(http.StatusNotFound)
			}
		})
	})
	for _, path := range []string{
		"/", "/assets/app.js", "/watchbox.js", "/openapi.yaml", "/healthz", "/readyz", "/metrics", "/v1/groups", "/v1/sessions",
		"/v1/history/foo", "/v1/retained/foo", "/v1/policies/foo", "/v1/presence/foo",
	} {
		s.wants(200, "", "GET "+path, "", "Accept", "*/*")
		s.wants(200, "", "HEAD "+path, "")
	}
	s.wants(200, "", "GET /v1/history/foo", "", "Accept", "application/x-ndjson")
	s.wants(200, "", "HEAD /v1/groups/foo", "")
	s.wants(200, "", "HEAD /v1/events?group=foo", "")
}

// noDeadline is a wrapper that flushes and hides everything else.
type noDeadline struct {
	http.ResponseWriter
	http.Flusher
}

// TestCloseDoesNotWaitForAStuckHandler: the client does not read, and a wrapper hides the connection's
// deadlines, so that the handler's write cannot be interrupted.
func TestCloseDoesNotWaitForAStuckHandler(t *testing.T) {
	var lines syncBuffer
	returned := make(chan struct{})
	s := mountedBehind(t, func(hub http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				defer close(returned)
				w = noDeadline{w, w.(http.Flusher)}
			}
			hub.ServeHTTP(w, r)
		})
	}, watchbox.WithLogger(slog.New(slog.NewTextHandler(&lines, nil))))
	st := s.open("/v1/groups/foo")
	st.next()
	s.overfill("foo")
	if err := s.hub.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(lines.String(), "handlers=1") {
		t.Errorf("the log does not mention the stuck handler: %s", lines.String())
	}
	select {
	case <-returned:
		t.Error("the handler returned: it was not stuck")
	default:
	}
	_ = st.Close()
	<-returned
}

// syncBuffer is a bytes.Buffer that goroutines may share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestCanceledRequestIsAnsweredWithGivenUp(t *testing.T) {
	giveUp := make(chan struct{})
	s := mountedBehind(t, func(hub http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Patience") == "none" {
				ctx, cancel := context.WithCancel(r.Context())
				go func() { <-giveUp; cancel() }()
				r = r.WithContext(ctx)
			}
			hub.ServeHTTP(w, r)
		})
	})
	entered, free := make(chan struct{}), make(chan struct{})
	s.hub.BeforePublish(func(context.Context, *watchbox.Message) error {
		close(entered)
		<-free
		return nil
	})
	first := make(chan answer)
	go func() { first <- s.do("POST /v1/groups/foo", "x", "Idempotency-Key", "k") }()
	<-entered
	close(giveUp)
	a := s.wants(503, "given-up", "POST /v1/groups/foo", "x", "Idempotency-Key", "k", "Patience", "none") // it waits for the first request
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(free)
	if a := <-first; a.status != 201 {
		t.Errorf("%d %s", a.status, a.body)
	}
	again := s.wants(201, "", "POST /v1/groups/foo", "x", "Idempotency-Key", "k")
	if again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%v", again)
	}
}
