package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox"
)

// metrics returns the hub's metrics.
func (s *server) metrics() string {
	s.Helper()
	return withoutHub(s.do("GET /metrics", "").body)
}

// withoutHub removes the label that hubs have which share a log.
func withoutHub(metrics string) string {
	return regexp.MustCompile(`\{hub="[^"]*"\}`).ReplaceAllString(metrics, "")
}

// figure returns one of the hub's metrics.
func (s *server) figure(name string) (n int64) {
	s.Helper()
	m := regexp.MustCompile(`(?m)^watchbox_` + name + ` (\S+)$`).FindStringSubmatch(s.metrics())
	if m == nil {
		s.Fatalf("there is no metric %s", name)
	}
	f, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		s.Fatal(err)
	}
	return int64(f)
}

func TestBatchHasAtMost10000Lines(t *testing.T) {
	s := serve(t)
	s.hub.OnMessage(func(watchbox.Message) {})
	st := s.listen("/v1/groups/foo")
	ndjson := []string{"Content-Type", "application/x-ndjson"}
	line := map[string]string{
		"/v1/groups/foo": "1\n", "/v1/server": "1\n", "/v1/sessions/" + st.uid: "1\n",
		"/v1/messages": `{"group":"foo","msg":1}` + "\n",
	}
	for path, line := range line {
		a := s.wants(413, "too-many-lines", "POST "+path, strings.Repeat(line, 10_001), ndjson...)
		if !strings.Contains(a.problem().Detail, "10000 lines") {
			t.Errorf("%s: the detail does not name the limit: %s", path, a.body)
		}
	}
	if n := len(s.history("foo").Messages); n != 0 {
		t.Errorf("%d messages of refused batches are stored", n)
	}
	if storeName == "nats" { // JetStream's batches have at most 1,000 messages
		s.wants(413, "message-too-large", "POST /v1/groups/foo", strings.Repeat("1\n", 1001), ndjson...)
		s.wants(201, "", "POST /v1/groups/foo", strings.Repeat("1\n", 1000), ndjson...)
		return
	}
	if r := s.post("/v1/groups/foo", strings.Repeat("1\n", 10_000), ndjson...); r.Count != 10_000 {
		t.Errorf("%d of 10000 lines are stored", r.Count)
	}
}

// TestMessageThatAHookMakesTooLargeIsRefused: the limit applies to the message that is stored.
func TestMessageThatAHookMakesTooLargeIsRefused(t *testing.T) {
	s := serve(t, watchbox.WithMaxMessageSize(100))
	s.hub.BeforePublish(func(_ context.Context, m *watchbox.Message) error { return m.Set(m.Text() + m.Text()) })
	s.post("/v1/groups/foo", strings.Repeat("x", 50))
	s.wants(413, "message-too-large", "POST /v1/groups/foo", strings.Repeat("x", 51))
}

// TestStalledBodyIsRefused covers each call that reads a body, and checks that its memory is released.
func TestStalledBodyIsRefused(t *testing.T) {
	s := serve(t, watchbox.WithBodyTimeout(100*time.Millisecond))
	s.hub.OnMessage(func(watchbox.Message) {})
	st := s.listen("/v1/groups/foo", "Watchbox-Session", secretOf("stalls"))
	for _, call := range []string{
		"POST /v1/groups/foo", "POST /v1/server", "POST /v1/messages", "POST /v1/sessions/" + st.uid,
		"PUT /v1/policies/foo", "PUT /v1/sessions/" + st.uid + "/will",
	} {
		for _, sent := range []int{0, 10, 9000} {
			if got := s.stall(call, 10_000, sent); !strings.HasPrefix(got, "HTTP/1.1 408 ") || !strings.Contains(got, `"code":"body-timeout"`) {
				t.Errorf("%s with %d bytes of 10000 gets %.500s", call, sent, got)
			}
		}
	}
	if n := s.figure("request_bytes"); n != 0 {
		t.Errorf("finished requests still hold %d bytes", n)
	}
}

// TestUnexpectedBodyDoesNotKeepTheConnectionOpen announces a body and does not send all of it.
func TestUnexpectedBodyDoesNotKeepTheConnectionOpen(t *testing.T) {
	s := serve(t, watchbox.WithBodyTimeout(100*time.Millisecond))
	for call, status := range map[string]string{
		"GET /healthz": "200", "GET /v1/groups": "200", "GET /metrics": "200", "GET /": "200", "GET /watchbox.js": "200",
		"DELETE /v1/groups/foo": "204", "POST /v1/groups/foo?nonsense": "400", "POST /nowhere": "404", "PATCH /v1/groups/foo": "405",
	} {
		for _, length := range []int{10, 100_000} {
			if got := s.stall(call, length, 3); !strings.HasPrefix(got, "HTTP/1.1 "+status+" ") {
				t.Errorf("%s gets %.100s", call, got)
			}
		}
	}
}

// stall sends a request with an incomplete body, and returns what the server sends before it closes
// the connection.
func (s *server) stall(call string, length, sent int) string {
	s.Helper()
	method, target, _ := strings.Cut(call, " ")
	media := "application/json"
	if target == "/v1/messages" {
		media = "application/x-ndjson"
	}
	c := s.dial()
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nWatchbox-Session: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		method, target, s.addr, secretOf("stalls"), media, length, strings.Repeat("x", sent))
	got, err := io.ReadAll(c.in)
	if err != nil && len(got) == 0 {
		s.Errorf("%s: %v", call, err)
	}
	return string(got)
}

func secretOf(name string) string { return "the-secret-of-a-session-that-" + name }

// TestStalledBodyBehindWrappedWriterIsRefused uses a ResponseWriter that supports no deadlines.
func TestStalledBodyBehindWrappedWriterIsRefused(t *testing.T) {
	hub := newMemoryHub(t, watchbox.WithBodyTimeout(100*time.Millisecond))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hub.ServeHTTP(hidden{w}, r) }))
	defer srv.Close()
	defer func() { _ = hub.Close() }()
	in, out := io.Pipe()
	defer func() { _ = out.Close() }()
	go func() { _, _ = out.Write([]byte("half")) }()
	r, err := http.NewRequest("POST", srv.URL+"/v1/groups/foo", in)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != 408 {
		t.Errorf("the answer is %s", resp.Status)
	}
}

// pausing is a body with a pause before each piece, and the connection that it comes from.
type pausing struct {
	*httptest.ResponseRecorder
	pause    time.Duration
	pieces   int
	piece    string
	rest     string // unread part of the current piece
	deadline time.Time
}

// SetReadDeadline is called by http.ResponseController.
func (p *pausing) SetReadDeadline(t time.Time) error {
	p.deadline = t
	return nil
}

func (p *pausing) Read(b []byte) (n int, err error) {
	if p.rest == "" {
		if err = p.next(); err != nil {
			return 0, err
		}
	}
	n = copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// next waits for the next piece.
func (p *pausing) next() error {
	wait := p.pause
	if !p.deadline.IsZero() {
		wait = min(wait, time.Until(p.deadline))
	}
	time.Sleep(wait)
	switch {
	case wait < p.pause:
		return os.ErrDeadlineExceeded
	case p.pieces == 0:
		return io.EOF
	}
	p.pieces--
	p.rest = p.piece
	return nil
}

func (p *pausing) Close() error { return nil }

// TestSlowBodyIsAcceptedIfItMakesProgress uses the default timeout. A body of more than 8 KiB counts
// against the request memory and has to send 64 KiB in that time.
func TestSlowBodyIsAcceptedIfItMakesProgress(t *testing.T) {
	hub := newMemoryHub(t)
	defer func() { _ = hub.Close() }()
	for _, c := range []struct {
		pause         time.Duration
		pieces, bytes int
		status        int
	}{
		{29 * time.Second, 100, 6, 201},
		{31 * time.Second, 100, 6, 408},
		{29 * time.Second, 8, 64 << 10, 201},
		{14 * time.Second, 20, 32 << 10, 201},
		{29 * time.Second, 20, 32 << 10, 408},
		{time.Second, 20_000, 6, 408},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &pausing{ResponseRecorder: httptest.NewRecorder(), pause: c.pause, pieces: c.pieces, piece: strings.Repeat("x", c.bytes)}
			r := httptest.NewRequest("POST", "/v1/groups/foo", p)
			r.ContentLength = int64(c.pieces * c.bytes)
			hub.ServeHTTP(p, r)
			if p.Code != c.status {
				t.Errorf("%d pieces of %d bytes, %v apart: %d %s, want %d", c.pieces, c.bytes, c.pause, p.Code, p.Body, c.status)
			}
			if c.status == 201 && !p.deadline.IsZero() {
				t.Error("the read deadline is still set after the body was read")
			}
		})
	}
}

// TestWaitForMemoryDoesNotCountAgainstTheBodyTimeout: a body that waits for memory for longer than the body timeout
// is read afterwards.
func TestWaitForMemoryDoesNotCountAgainstTheBodyTimeout(t *testing.T) {
	hub := newMemoryHub(t, watchbox.WithMaxRequestMemory(1<<20), watchbox.WithBodyTimeout(2*time.Second))
	defer func() { _ = hub.Close() }()
	const size = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		post := func(pieces int) (*pausing, *http.Request) {
			p := &pausing{ResponseRecorder: httptest.NewRecorder(), pause: time.Second, pieces: pieces, piece: strings.Repeat("x", size/pieces)}
			r := httptest.NewRequest("POST", "/v1/groups/foo", p)
			r.ContentLength = size
			return p, r
		}
		first, r := post(8) // takes 8 s
		go hub.ServeHTTP(first, r)
		time.Sleep(1500 * time.Millisecond) // in the bubble's time: the first piece has arrived
		second, r := post(128)
		second.pause = time.Millisecond
		hub.ServeHTTP(second, r) // it gets the memory after the first
		synctest.Wait()
		if first.Code != 201 || second.Code != 201 {
			t.Errorf("the first body is answered with %d %s, the waiting one with %d %s", first.Code, first.Body, second.Code, second.Body)
		}
	})
}

// TestSmallBodyOfUnknownLengthDoesNotWaitForLargeOnes: it takes only 64 KiB of
// memory.
func TestSmallBodyOfUnknownLengthDoesNotWaitForLargeOnes(t *testing.T) {
	s := serve(t, watchbox.WithMaxRequestMemory(8<<20))
	begin := func(length, text string) *socket {
		c := s.dial()
		fmt.Fprintf(c, "POST /v1/groups/foo HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-ndjson\r\n%s\r\n\r\n%s", s.addr, length, text)
		return c
	}
	line := `"` + strings.Repeat("x", 20_000) + `"` + "\n"
	large := begin("Content-Length: 10000000", line)
	eventually(t, "a large body takes all memory for large bodies", func() bool { return s.figure("request_bytes") == 3<<20 })
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(line), line)
	stalled := begin("Transfer-Encoding: chunked", chunk)
	eventually(t, "a small body takes 64 KiB", func() bool { return s.figure("request_bytes") == 3<<20+64<<10 })
	c := begin("Transfer-Encoding: chunked", chunk+"0\r\n\r\n")
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != 201 {
		t.Errorf("the answer is %s", resp.Status)
	}
	_, _ = large.Close(), stalled.Close()
}

// TestMemoryOfLargeBodiesIsBounded: large bodies wait for each other, small ones do not, and in the
// end all memory is released.
func TestMemoryOfLargeBodiesIsBounded(t *testing.T) {
	const memory = 8 << 20 // 3 MiB of it for large bodies
	s := serve(t, watchbox.WithMaxRequestMemory(memory))
	const large = 1 << 20
	text := strings.Repeat("x", large)
	var clients []*socket
	for range 8 {
		c := s.dial()
		fmt.Fprintf(c, "POST /v1/groups/foo HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", s.addr, large, text[:large/2])
		clients = append(clients, c)
	}
	eventually(t, "large bodies take all memory for large bodies", func() bool { return s.figure("request_bytes") == 3*large })
	for _, n := range []int{10, 10_000, 60_000} {
		s.post("/v1/groups/small", text[:n])
	}
	for _, c := range clients {
		if _, err := io.WriteString(c, text[large/2:]); err != nil {
			t.Fatal(err)
		}
		if n := s.figure("request_bytes"); n > memory {
			t.Errorf("requests hold %d bytes", n)
		}
	}
	for _, c := range clients {
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 201 {
			t.Errorf("a large message is answered with %s", resp.Status)
		}
		_ = resp.Body.Close()
	}
	eventually(t, "all memory is released", func() bool { return s.figure("request_bytes") == 0 })
}

// TestRequestWithoutMemoryIsRefusedAfter10Seconds also checks that the next request is accepted.
func TestRequestWithoutMemoryIsRefusedAfter10Seconds(t *testing.T) {
	hub := newMemoryHub(t, watchbox.WithMaxRequestMemory(1<<20))
	defer func() { _ = hub.Close() }()
	text := bytes.Repeat([]byte("x"), 1<<20)
	synctest.Test(t, func(t *testing.T) {
		in, out := io.Pipe()
		first := httptest.NewRecorder()
		var ended bool
		go func() {
			r := httptest.NewRequest("POST", "/v1/groups/foo", in)
			r.ContentLength = int64(len(text))
			hub.ServeHTTP(first, r)
			ended = true
		}()
		_, _ = out.Write(text[:20_000])
		synctest.Wait()
		begin := time.Now()
		r, w := httptest.NewRequest("POST", "/v1/groups/foo", bytes.NewReader(text)), httptest.NewRecorder()
		hub.ServeHTTP(w, r)
		theContract.check(t, r, text, w.Code, w.Header(), w.Body.Bytes())
		if after := time.Since(begin); w.Code != 503 || !strings.Contains(w.Body.String(), "server-busy") || after != 10*time.Second || w.Header().Get("Retry-After") == "" {
			t.Errorf("after %v the answer is %d %s", after, w.Code, w.Body)
		}
		_, _ = out.Write(text[20_000:])
		_ = out.Close()
		synctest.Wait()
		if !ended || first.Code != 201 {
			t.Errorf("the first request is answered with %d %s", first.Code, first.Body)
		}
		w = httptest.NewRecorder()
		if hub.ServeHTTP(w, httptest.NewRequest("POST", "/v1/groups/foo", bytes.NewReader(text))); w.Code != 201 {
			t.Errorf("the next request is answered with %d %s", w.Code, w.Body)
		}
	})
}

func TestMemoryOfWillsIsBounded(t *testing.T) {
	s := serve(t)
	json := []string{"Content-Type", "application/json"}
	will := func(size int) string { return `{"group":"foo","msg":"` + strings.Repeat("x", size) + `"}` }
	var path string
	var last *stream
	const size = 65_000
	n := 0
	for ; ; n++ {
		st := s.listen("/v1/groups/foo")
		path = "/v1/sessions/" + st.uid + "/will"
		a := s.do("PUT "+path, will(size), append(st.proof(), json...)...)
		if a.status != 204 {
			if a.status != 507 || a.code() != "too-many-wills" {
				t.Fatalf("will %d: %d %s", n, a.status, a.body)
			}
			s.wants(413, "message-too-large", "PUT "+path, will(65_535), append(st.proof(), json...)...)
			break
		}
		if held := s.figure("will_bytes"); held > 16<<20 || held < int64(n)*size {
			t.Fatalf("%d wills take %d bytes", n+1, held)
		}
		last = st
	}
	if n < 250 {
		t.Errorf("there is room for %d wills", n)
	}
	s.wants(204, "", "PUT /v1/sessions/"+last.uid+"/will", will(10), append(last.proof(), json...)...) // a smaller will frees memory
	s.wants(204, "", "DELETE /v1/sessions/"+last.uid, "", last.proof()...)
	another := s.listen("/v1/groups/foo")
	s.wants(204, "", "PUT /v1/sessions/"+another.uid+"/will", will(size), append(another.proof(), json...)...)
	before := s.figure("will_bytes")
	s.wants(204, "", "DELETE /v1/sessions/"+another.uid, "") // a kick sends the will
	if held := s.figure("will_bytes"); held > before-size {
		t.Errorf("a will that was sent still counts: %d of %d bytes", held, before)
	}
}

func TestLongUserAgentIsTruncated(t *testing.T) {
	s := serve(t)
	st := s.listen("/v1/groups/foo", "User-Agent", strings.Repeat("ä", 20_000))
	var got struct {
		UserAgent string `json:"user_agent"`
	}
	s.wants(200, "", "GET /v1/sessions/"+st.uid, "").decode(t, &got)
	if got.UserAgent != strings.Repeat("ä", 128) {
		t.Errorf("%d bytes of it are kept", len(got.UserAgent))
	}
}

func TestNumberOfLostSessionsIsBounded(t *testing.T) {
	s := serve(t, watchbox.WithMaxStreams(1), watchbox.WithSessionTimeout(time.Hour))
	var lost []*stream
	for range 100 {
		st := s.listen("/v1/groups/foo")
		_ = st.Close()
		eventually(t, "the stream closes", func() bool { return s.figure("streams") == 0 })
		lost = append(lost, st)
	}
	for _, call := range []string{"GET /v1/groups/foo", "GET /v1/events?group=foo", "POST /v1/events?group=foo"} {
		s.wants(503, "too-many-sessions", call, "")
	}
	s.listen("/v1/groups/foo", lost[0].proof()...) // a lost session may return
}

func TestNumberOfFiltersOfASessionIsBounded(t *testing.T) {
	s := serve(t)
	proof := []string{"Watchbox-Session", secretOf("has-many-filters")}
	for i := range 16 {
		query := "/v1/events?"
		for k := range 64 {
			query += fmt.Sprintf("group=%d/%d&", i, k)
		}
		s.listen(strings.TrimSuffix(query, "&"), proof...)
	}
	for _, path := range []string{"/v1/groups/foo", "/v1/events?group=foo"} {
		s.wants(400, "too-many-filters", "GET "+path, "", proof...)
	}
	s.listen("/v1/groups/0/0", proof...) // a filter that the session has
}

// TestPendingFilterChangesOfAStalledStreamAreBounded: further changes are refused until the client reads.
func TestPendingFilterChangesOfAStalledStreamAreBounded(t *testing.T) {
	if wire == "h2" {
		t.Skip("the stream is read over HTTP/1.1")
	}
	s := serve(t, watchbox.WithMaxMemory(256<<20))
	c := s.dial()
	secret := secretOf("does-not-read")
	fmt.Fprintf(c, "GET /v1/groups/foo HTTP/1.1\r\nHost: %s\r\nWatchbox-Session: %s\r\n\r\n", s.addr, secret)
	if _, err := http.ReadResponse(c.in, nil); err != nil {
		t.Fatal(err)
	}
	proof := []string{"Watchbox-Session", secret}
	var list struct {
		Sessions []struct{ UID string }
	}
	s.wants(200, "", "GET /v1/sessions", "").decode(t, &list)
	path := "/v1/sessions/" + list.Sessions[0].UID + "/groups/bar"
	s.overfill("foo")
	made := 0
	for ; made < 1000; made += 2 {
		if a := s.do("PUT "+path, "", proof...); a.status != 204 {
			break
		}
		s.wants(204, "", "DELETE "+path, "", proof...)
	}
	if made != 256 {
		t.Errorf("%d changes are pending, want 256", made)
	}
	s.wants(429, "too-many-changes", "PUT "+path, "", proof...)
	s.wants(429, "too-many-changes", "DELETE "+strings.Replace(path, "bar", "foo", 1), "", proof...)
	go func() { _, _ = io.Copy(io.Discard, c.in) }()
	eventually(t, "the stream catches up", func() bool { return s.do("PUT "+path, "", proof...).status == 204 })
}

// TestDurationsHaveBounds: a duration added to the current time never overflows.
func TestDurationsHaveBounds(t *testing.T) {
	s := serve(t)
	s.hub.OnMessage(func(watchbox.Message) {})
	st := s.listen("/v1/groups/foo")
	json := []string{"Content-Type", "application/json", "Watchbox-Session", st.secret}
	for _, d := range []string{"-1s", "-2562047h", "2562047h", "9223372036854775807ns", "9223372036854775808ns", "99999999999999h", "15251w", "1e9h", "NaN", "∞"} {
		for _, c := range [][]string{
			{"400", "parameter-invalid", "POST /v1/groups/foo?ttl=" + d, "x"},
			{"400", "parameter-invalid", "POST /v1/sessions/" + st.uid + "?ttl=" + d, "x"},
			{"400", "parameter-invalid", "GET /v1/groups/foo?heartbeat=" + d, ""},
			{"400", "body-invalid", "PUT /v1/sessions/" + st.uid + "/will", `{"group":"foo","msg":1,"delay":"` + d + `"}`},
			{"400", "body-invalid", "PUT /v1/sessions/" + st.uid + "/will", `{"group":"foo","msg":1,"ttl":"` + d + `"}`},
			{"422", "policy-invalid", "PUT /v1/policies/foo", `{"max_age":"` + d + `"}`},
			{"422", "policy-invalid", "PUT /v1/policies/foo", `{"coalesce":"` + d + `"}`},
		} {
			status, _ := strconv.Atoi(c[0])
			s.wants(status, c[1], c[2], c[3], json...)
		}
		s.wants(400, "body-invalid", "POST /v1/messages", `{"group":"foo","msg":1,"ttl":"`+d+`"}`, "Content-Type", "application/x-ndjson")
	}
	for _, call := range []string{"POST /v1/groups/foo?ttl=520w", "POST /v1/groups/foo?ttl=1ms"} {
		s.wants(201, "", call, "x")
	}
	s.wants(204, "", "PUT /v1/sessions/"+st.uid+"/will", `{"group":"foo","msg":1,"delay":"24h","ttl":"520w"}`, json...)
	s.wants(400, "body-invalid", "PUT /v1/sessions/"+st.uid+"/will", `{"group":"foo","msg":1,"delay":"25h"}`, json...)
	for _, since := range []string{"2562047h", "15250w", "0001-01-02T00:00:00Z", "9999-12-31T23:59:59Z"} {
		a := s.wants(200, "", "GET /v1/history/foo?since="+since, "")
		if got, want := strings.Count(a.body, `"msg"`) > 0, since[0] != '9'; got != want {
			t.Errorf("since %s: %s", since, a.body)
		}
	}
}
