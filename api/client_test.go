package api_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/api"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/listen/certtest"
	"github.com/watchbox-go/watchbox/internal/sparse"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// tokenCookie is the name of the cookie that holds a token.
var tokenCookie = map[bool]string{true: "__Host-watchbox_token", false: "watchbox_token"}[wire != ""]

// patience is how long a test waits for one answer or one event.
const patience = 2 * time.Minute

func deadline() time.Time { return time.Now().Add(patience) }

// server is a hub that listens on its own port.
type server struct {
	testing.TB
	hub    *watchbox.Hub
	addr   string
	at     string // the path where the hub is mounted
	client *http.Client
	end    func() error // ends Run and returns its error
	tls    *tls.Config  // the clients' configuration, nil for plain HTTP
}

// wire selects the protocol between the tests and their hubs: "" for plain HTTP/1.1, "tls" for HTTP/1.1 over
// TLS, or "h2" for HTTP/2. The API's promises are the same for each.
var wire = os.Getenv("WATCHBOX_TEST_WIRE")

// stores are the options for the tests' hubs by storeName: in memory, on disk, with ids that are skipped, as in a
// log that several hubs share, or in such a log. The API's promises are the same for each.
var stores = map[string]func(testing.TB) []watchbox.Option{
	"": func(testing.TB) []watchbox.Option { return nil },
	"disk": func(t testing.TB) []watchbox.Option {
		return []watchbox.Option{watchbox.WithDataDir(t.TempDir()), watchbox.WithFsync(watchbox.FsyncNever)}
	},
	"sparse": func(testing.TB) []watchbox.Option {
		return []watchbox.Option{watchbox.WithStore(func(o watchbox.StoreOptions) (store.Store, error) {
			return sparse.New(memory.Options{MaxMemory: o.MaxMemory, MaxGroups: o.MaxGroups, Server: o.Server}), nil
		})}
	},
	"nats": func(t testing.TB) []watchbox.Option {
		return []watchbox.Option{watchbox.WithNATS(watchbox.NATS{URL: natsURL, Stream: newStream(t), Replicas: 1})}
	},
}

// natsURL is where the NATS server is that keeps the messages for the store nats, each hub's in a stream of its own.
var natsURL = os.Getenv("WATCHBOX_TEST_NATS")

// natsStreams is how many streams the tests have made, for their names.
var natsStreams atomic.Int64

var storeName = os.Getenv("WATCHBOX_TEST_STORE")

// notWithNATS skips a test that needs a folder of its own for the messages.
func notWithNATS(t testing.TB) {
	t.Helper()
	if storeName == "nats" {
		t.Skip("a hub with NATS has no folder")
	}
}

// newStream returns the name of a new stream, which is deleted after the test.
func newStream(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("API%d-%d", os.Getpid(), natsStreams.Add(1))
	t.Cleanup(func() {
		nc, err := nats.Connect(natsURL)
		if err != nil {
			t.Errorf("deleting the stream: %v", err)
			return
		}
		defer nc.Close()
		for _, s := range []string{name, "KV_" + name + "_hubs"} {
			if _, err := nc.Request("$JS.API.STREAM.DELETE."+s, nil, patience); err != nil {
				t.Errorf("deleting the stream %s: %v", s, err)
			}
		}
	})
	return name
}

// newHub makes a hub with the store under test. Its session timeout is long, so that no session ends because
// the machine is slow.
func newHub(t testing.TB, opts ...watchbox.Option) *watchbox.Hub {
	t.Helper()
	opts = append([]watchbox.Option{watchbox.WithSessionTimeout(time.Hour)}, opts...)
	return newMemoryHub(t, append(stores[storeName](t), opts...)...)
}

// newMemoryHub makes a hub that keeps its messages in memory unless opts say otherwise. Tests in a
// bubble of synctest need it: the committer of a store on disk runs outside of the bubble.
func newMemoryHub(t testing.TB, opts ...watchbox.Option) *watchbox.Hub {
	t.Helper()
	hub, err := watchbox.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	return hub
}

// serve runs a hub until the test ends.
func serve(t testing.TB, opts ...watchbox.Option) *server {
	t.Helper()
	listening := make(chan net.Addr, 1)
	transport := &http.Transport{MaxIdleConnsPerHost: 64, ForceAttemptHTTP2: wire == "h2"}
	conns := closeAll(transport)
	if wire != "" {
		cert, key, pool := certtest.Files(t)
		opts = append(opts, watchbox.WithTLS(cert, key))
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
	}
	hub := newHub(t, append(opts, watchbox.WithListening(func(a net.Addr) { listening <- a }))...)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- hub.Run(ctx, "127.0.0.1:0", nil) }()
	s := &server{TB: t, hub: hub, addr: (<-listening).String(), tls: transport.TLSClientConfig.Clone()}
	s.end = sync.OnceValue(func() error { cancel(); return <-ran })
	s.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		conns() // otherwise an HTTP/2 server waits for a second before it closes them
		if err := s.end(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := hub.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// closeAll makes a transport record its connections, and returns a function that closes them.
func closeAll(tr *http.Transport) func() {
	var mu sync.Mutex
	var all []net.Conn
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, conn)
		}
		return conn, err
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range all {
			_ = conn.Close()
		}
	}
}

// serveLog runs a hub on a log until the test ends. Close may fail: some logs fail on purpose.
func serveLog(t testing.TB, log store.Store) *server {
	t.Helper()
	o := hub.Defaults()
	h, err := hub.New(log, o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.New(h, api.Options{Logger: o.Logger}))
	t.Cleanup(func() {
		_ = h.Close()
		srv.Close()
	})
	return &server{TB: t, addr: srv.Listener.Addr().String(), client: srv.Client()}
}

// in returns the server for a subtest.
func (s *server) in(t testing.TB) *server {
	sub := *s
	sub.TB = t
	return &sub
}

// answer is a response.
type answer struct {
	status int
	header http.Header
	body   string
}

// code returns the code of a problem, or "".
func (a answer) code() string {
	if a.status < 400 {
		return ""
	}
	return a.problem().Code
}

type problem struct{ Code, Detail, Parameter string }

func (a answer) problem() (p problem) {
	_ = json.Unmarshal([]byte(a.body), &p)
	return p
}

// decode decodes the answer's JSON.
func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// url returns the URL that the hub is mounted at.
func (s *server) url() string {
	if s.tls != nil {
		return "https://" + s.addr + s.at
	}
	return "http://" + s.addr + s.at
}

// request returns a request for a call such as "GET /path", with a body and the names and values of
// header fields.
func (s *server) request(call, body string, header ...string) *http.Request {
	s.Helper()
	method, target, _ := strings.Cut(call, " ")
	r, err := http.NewRequest(method, s.url()+target, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// do sends a request and checks the request and its answer against the contract.
func (s *server) do(call, body string, header ...string) answer {
	s.Helper()
	return s.send(s.request(call, body, header...), body)
}

func (s *server) send(r *http.Request, body string) answer {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := s.client.Do(r.WithContext(ctx))
	if err != nil {
		s.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	theContract.check(s, s.unmounted(r), []byte(body), resp.StatusCode, resp.Header, got)
	return answer{resp.StatusCode, resp.Header, string(got)}
}

// unmounted returns the request with the path that the contract uses.
func (s *server) unmounted(r *http.Request) *http.Request {
	if s.at == "" {
		return r
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = cmp.Or(strings.TrimPrefix(r.URL.Path, s.at), "/"), ""
	return r
}

// wants is do, and fails unless the answer has the status and, for a problem, the code.
func (s *server) wants(status int, code, call, body string, header ...string) answer {
	s.Helper()
	a := s.do(call, body, header...)
	if a.status != status || a.code() != code {
		s.Errorf("%s: %d %s, want %d %s: %.300s", call, a.status, a.code(), status, code, a.body)
	}
	return a
}

// receipt is the answer to a POST.
type receipt struct {
	ID, Group, Time, First string
	Count                  int
}

// post publishes a message and fails the test on an error.
func (s *server) post(target, body string, header ...string) (r receipt) {
	s.Helper()
	s.wants(201, "", "POST "+target, body, header...).decode(s, &r)
	return r
}

// socket is a raw connection, for requests that an HTTP client would not send.
type socket struct {
	testing.TB
	net.Conn
	in *bufio.Reader
}

func (s *server) dial() *socket {
	s.Helper()
	conn, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		s.Fatal(err)
	}
	if s.tls != nil {
		conn = tls.Client(conn, s.tls)
	}
	_ = conn.SetDeadline(deadline())
	s.Cleanup(func() { _ = conn.Close() })
	return &socket{s.TB, conn, bufio.NewReader(conn)}
}

func (c *socket) write(format string, args ...any) {
	c.Helper()
	if _, err := fmt.Fprintf(c, format, args...); err != nil {
		c.Fatal(err)
	}
}

// response reads one answer and its body.
func (c *socket) response(method string) answer {
	c.Helper()
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// ended fails unless the connection ends without further bytes.
func (c *socket) ended() {
	c.Helper()
	rest, err := io.ReadAll(c.in)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() || len(rest) > 0 {
		c.Errorf("the connection is still open: %q, %v", rest, err)
	}
}

// stream is an SSE response that is read from a socket.
type stream struct {
	*socket
	header http.Header
	raw    bool

	// Members of the session event.
	id, uid, secret, heartbeat string
}

// listen opens a stream and reads its session event.
func (s *server) listen(target string, header ...string) *stream {
	s.Helper()
	return s.begin(s.open(target, header...))
}

// begin reads the session event of a stream.
func (s *server) begin(st *stream) *stream {
	s.Helper()
	name, id, data := parseBlock(strings.TrimPrefix(st.block(), "retry: 1000\n"))
	var hello struct{ UID, Secret, Heartbeat string }
	if err := json.Unmarshal([]byte(data), &hello); err != nil || name != "session" {
		s.Fatalf("the stream begins with %q: %s", name, data)
	}
	st.id, st.uid, st.secret, st.heartbeat = id, hello.UID, hello.Secret, hello.Heartbeat
	return st
}

// overfill publishes more to a group than the sockets on both sides hold: a stream whose client reads nothing
// stays behind. That it is behind after less may be for a moment only.
func (s *server) overfill(group string) {
	s.Helper()
	message := strings.Repeat("x", 1<<20)
	for range 16 {
		s.post("/v1/groups/"+group, message)
	}
}

// open opens a stream and reads only its header.
func (s *server) open(target string, header ...string) *stream {
	s.Helper()
	return s.openBy("GET "+target, "", header...)
}

// openBy is open, for any call that opens a stream.
func (s *server) openBy(call, body string, header ...string) *stream {
	s.Helper()
	_, target, _ := strings.Cut(call, " ")
	r := s.request(call, body, header...)
	if s.tls != nil && wire == "h2" {
		return s.openHTTP2(r, body)
	}
	st := &stream{socket: s.dial(), raw: strings.Contains(target, "format=raw")}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		s.Fatal(err)
	}
	st.write("%s", b.Bytes())
	resp, err := http.ReadResponse(st.in, r)
	if err != nil {
		s.Fatal(err)
	}
	if resp.StatusCode != 200 {
		body, _ := io.ReadAll(resp.Body)
		s.Fatalf("%s: %s: %s", call, resp.Status, body)
	}
	theContract.check(s, r, []byte(body), resp.StatusCode, resp.Header, []byte("a stream"))
	st.header, st.in = resp.Header, bufio.NewReader(resp.Body)
	return st
}

// openHTTP2 is like open, for a stream that shares its connection with other requests.
func (s *server) openHTTP2(r *http.Request, body string) *stream {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn := &sharedConn{late: time.AfterFunc(patience, cancel), cut: cancel}
	s.Cleanup(func() { _ = conn.Close() })
	resp, err := s.client.Do(r.WithContext(ctx))
	if err != nil {
		s.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		body, _ := io.ReadAll(resp.Body)
		s.Fatalf("%s %s: %s %s: %s", r.Method, r.URL, resp.Proto, resp.Status, body)
	}
	theContract.check(s, r, []byte(body), resp.StatusCode, resp.Header, []byte("a stream"))
	in := bufio.NewReader(resp.Body)
	return &stream{socket: &socket{s.TB, conn, in}, raw: strings.Contains(r.URL.RawQuery, "format=raw"), header: resp.Header}
}

// sharedConn stands in for the connection of an HTTP/2 stream. It can only be closed and have a deadline.
type sharedConn struct {
	net.Conn
	late *time.Timer
	cut  func()
}

func (c *sharedConn) Close() error { c.late.Stop(); c.cut(); return nil }

// CloseWrite does nothing: a GET has no body.
func (c *sharedConn) CloseWrite() error { return nil }

func (c *sharedConn) SetDeadline(t time.Time) error { c.late.Reset(time.Until(t)); return nil }

// block returns the next block, and skips heartbeats, which may come at any time.
func (st *stream) block() string {
	st.Helper()
	for {
		if b := st.next(); !strings.HasPrefix(b, ":") {
			return b
		}
	}
}

// next reads up to an empty line and checks an event against the contract.
func (st *stream) next() string {
	st.Helper()
	if st.Conn != nil {
		_ = st.SetDeadline(deadline())
	}
	var b strings.Builder
	for {
		line, err := st.in.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			st.Fatalf("the stream ended: %v, after %q", err, b.String())
		}
		if line == "\n" {
			break
		}
	}
	name, _, data := parseBlock(b.String())
	own := name == "session" || name == "gap" || name == "bye"
	if data != "" && (own || !st.raw) {
		theContract.checkEvent(st, name, data)
	}
	return b.String()
}

// gets fails unless the next blocks are the wanted ones.
func (st *stream) gets(want ...string) {
	st.Helper()
	for _, w := range want {
		var got strings.Builder
		for n := strings.Count(w, "\n\n"); n > 0; n-- {
			if strings.HasPrefix(w, ":") {
				got.WriteString(st.next())
			} else {
				got.WriteString(st.block())
			}
		}
		if got.String() != w {
			st.Fatalf("the stream has\n%q, want\n%q", got.String(), w)
		}
	}
}

// parseBlock returns the fields of a block.
func parseBlock(block string) (name, id, data string) {
	var lines []string
	for line := range strings.Lines(block) {
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			name = value
		case "id":
			id = value
		case "data":
			lines = append(lines, value)
		}
	}
	return name, id, strings.Join(lines, "\n")
}

// frame returns a message in the wire format.
func frame(r receipt, members, msg string) string {
	return fmt.Sprintf("id: %s\ndata: {\"id\":\"%s\",\"group\":\"%s\",%s\"time\":\"%s\",\"msg\":%s}\n\n",
		r.ID, r.ID, r.Group, members, r.Time, msg)
}

// nextMillisecond waits until the clock is past the times of all messages published before.
func nextMillisecond(t testing.TB) {
	t.Helper()
	begin := time.Now().UnixMilli()
	eventually(t, "the clock advances", func() bool { return time.Now().UnixMilli() > begin })
}

// eventually polls until ok returns true, or fails the test.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not in time: %s", what)
		}
	}
}
