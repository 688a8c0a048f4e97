package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// methods has the methods of each path in the form of the Allow header.
var methods = map[string]string{
	"/v1/groups/foo": "GET, HEAD, POST, DELETE, OPTIONS", "/v1/events": "GET, HEAD, POST, OPTIONS", "/v1/history/a/b": "GET, HEAD, OPTIONS", "/v1/history": "GET, HEAD, OPTIONS",
	"/v1/messages": "POST, OPTIONS", "/v1/retained/a/b": "GET, HEAD, OPTIONS",
	"/v1/groups": "GET, HEAD, OPTIONS", "/v1/policies/foo": "GET, HEAD, PUT, OPTIONS", "/v1/presence/foo": "GET, HEAD, OPTIONS",
	"/v1/sessions": "GET, HEAD, OPTIONS", "/v1/sessions/x": "GET, HEAD, POST, DELETE, OPTIONS", "/v1/sessions/x/groups/a/b": "PUT, DELETE, OPTIONS",
	"/v1/sessions/x/will": "PUT, DELETE, OPTIONS", "/v1/sessions/x/heartbeat": "POST, OPTIONS", "/v1/sessions/x/token": "PUT, OPTIONS",
	"/v1/login": "POST, DELETE, OPTIONS", "/v1/revocations": "POST, OPTIONS", "/v1/explain": "GET, HEAD, OPTIONS", "/v1/tokens": "GET, HEAD, POST, OPTIONS", "/v1/tokens/x": "DELETE, OPTIONS", "/v1/server": "POST, OPTIONS",
	"/openapi.yaml": "GET, HEAD, OPTIONS", "/healthz": "GET, HEAD, OPTIONS", "/readyz": "GET, HEAD, OPTIONS", "/metrics": "GET, HEAD, OPTIONS",
	"/": "GET, HEAD, OPTIONS", "/assets/app.js": "GET, HEAD, OPTIONS", "/watchbox.js": "GET, HEAD, OPTIONS",
}

func TestMethodsOfEachPath(t *testing.T) {
	s := serve(t)
	for path, allow := range methods {
		if a := s.wants(204, "", "OPTIONS "+path, ""); a.header.Get("Allow") != allow || a.body != "" {
			t.Errorf("OPTIONS %s: %q %q, want %q", path, a.header.Get("Allow"), a.body, allow)
		}
		for _, m := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "FOO"} {
			if slices.Contains(strings.Split(allow, ", "), m) {
				continue
			}
			code := "method-not-allowed"
			if m == "HEAD" {
				code = ""
			}
			if a := s.wants(405, code, m+" "+path, ""); a.header.Get("Allow") != allow {
				t.Errorf("%s %s: Allow is %q, want %q", m, path, a.header.Get("Allow"), allow)
			}
		}
	}
}

func TestUnknownPathsAreNotFound(t *testing.T) {
	s := serve(t)
	for _, path := range []string{"/v1", "/v1/", "/v2/groups/foo", "/v1//groups/foo", "/v1/group/foo", "/v1%2Fgroups/foo", "/healthz/", "/x", "/assets", "/assets/", "/assets/none", "/assets/app.js/", "/v1/sessions/x/y", "/assets/../index.html", "/index.html"} {
		for _, m := range []string{"GET", "POST", "OPTIONS", "FOO"} {
			if m == "FOO" && path == "/v1/" || m != "GET" && strings.HasPrefix(path, "/assets/") {
				continue
			}
			s.wants(404, "not-found", m+" "+path, "")
		}
	}
}

func TestHEADIsGETWithoutABody(t *testing.T) {
	s := serve(t)
	s.post("/v1/groups/foo", "x")
	st := s.listen("/v1/groups/foo")
	for _, path := range []string{
		"/v1/history/foo", "/v1/groups", "/v1/policies/foo", "/v1/presence/foo", "/v1/sessions", "/v1/sessions/" + st.uid,
		"/openapi.yaml", "/healthz", "/readyz", "/metrics", "/", "/assets/app.js", "/watchbox.js", "/v1/history/a//b", "/v1/sessions/x", "/nothing",
	} {
		get, head := s.do("GET "+path, ""), s.do("HEAD "+path, "")
		if head.status != get.status || head.body != "" || head.header.Get("Content-Type") != get.header.Get("Content-Type") || get.body == "" {
			t.Errorf("HEAD %s: %d %q, GET: %d %q", path, head.status, head.header, get.status, get.header)
		}
	}
}

func TestTruncatedBodyAppendsNothing(t *testing.T) {
	s := serve(t)
	for name, request := range map[string]string{
		"content-length": "POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf",
		"chunked":        "POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"in a chunk":     "POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf",
		"no chunks":      "POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf",
	} {
		c := s.dial()
		c.write("%s", request)
		_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		if a := c.response("POST"); a.status != 400 || a.code() != "body-invalid" || !strings.Contains(a.problem().Detail, "ended early") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		c.ended()
	}
	if h := s.history("%23"); len(h.Messages) > 0 {
		t.Errorf("something was appended: %v", h.Messages)
	}
}

func TestLargeBodyIsRefused(t *testing.T) {
	s := serve(t, watchbox.WithMaxMessageSize(1000))
	t.Run("before the client sends it", func(t *testing.T) {
		c := s.in(t).dial()
		c.write("POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
		if a := c.response("POST"); a.status != 413 || a.code() != "message-too-large" {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("chunked", func(t *testing.T) {
		c := s.in(t).dial()
		c.write("POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n%s\r\n0\r\n\r\n", strings.Repeat("x", 1001))
		if a := c.response("POST"); a.status != 413 || a.code() != "message-too-large" {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("a small body gets 100 Continue", func(t *testing.T) {
		c := s.in(t).dial()
		c.write("POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		if line, _ := c.in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
			t.Errorf("%q", line)
		}
		_, _ = c.in.ReadString('\n')
		c.write("body")
		if a := c.response("POST"); a.status != 201 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

func TestConnectionIsReused(t *testing.T) {
	s := serve(t)
	c := s.dial()
	const n = 50
	var all strings.Builder
	for i := range n {
		body := fmt.Sprint(i)
		fmt.Fprintf(&all, "POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	c.write("%s", all.String())
	for range n {
		if a := c.response("POST"); a.status != 201 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for i, m := range s.history("foo").Messages {
		if string(m.Msg) != fmt.Sprintf(`"%d"`, i) {
			t.Errorf("message %d is %s", i, m.Msg)
		}
	}
}

func TestHTTP10(t *testing.T) {
	s := serve(t)
	c := s.dial()
	c.write("POST /v1/groups/foo HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
	if a := c.response("POST"); a.status != 201 {
		t.Errorf("%d %s", a.status, a.body)
	}
	c.ended()
	c = s.dial()
	c.write("GET /v1/groups/foo?since=all HTTP/1.0\r\n\r\n")
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	st := &stream{socket: &socket{t, c.Conn, bufio.NewReader(resp.Body)}}
	_ = st.block()
	if _, _, data := parseBlock(st.block()); !strings.Contains(data, `"msg":"x"`) {
		t.Errorf("the stream has %s", data)
	}
}

func TestGarbageOnAConnectionIsRefused(t *testing.T) {
	s := serve(t)
	for _, garbage := range []string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00\x00\x00\n\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", strings.Repeat("x", 100_000) + "\n\n",
		"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
		"POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
		"GET /v1/groups/a\nb HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET http://evil.test/v1/groups HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		c := s.dial()
		_, _ = io.WriteString(c, garbage)
		_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		resp, err := http.ReadResponse(c.in, nil)
		if err == nil {
			if resp.StatusCode < 400 {
				t.Errorf("%.60q is answered with %s", garbage, resp.Status)
			}
			_ = resp.Body.Close()
		}
	}
	if h := s.history("%23"); len(h.Messages) > 0 {
		t.Errorf("something was appended: %v", h.Messages)
	}
}

func TestRequestPipelinedAfterASubscriptionIsDropped(t *testing.T) {
	s := serve(t)
	const post = "POST /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nevil"
	c := s.dial()
	c.write("GET /v1/groups/foo HTTP/1.1\r\nHost: localhost\r\n\r\n" + post)
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	st := &stream{socket: &socket{t, c.Conn, bufio.NewReader(resp.Body)}}
	_ = st.block()
	c.write("%s", post)
	st.gets(frame(s.post("/v1/groups/foo", "good"), "", `"good"`))
	if got := s.history("foo").bodies(); got != `"good"` {
		t.Errorf("the log has %s", got)
	}
	if wire == "h2" {
		return // net/http owns the connection and does not read the additional requests
	}
	_, _ = io.WriteString(c, strings.Repeat(post, 100)) // too many pipelined bytes close the connection
	if _, err := io.ReadAll(st.in); err != nil && !isReset(err) {
		t.Errorf("the connection is still open: %v", err)
	}
}

func isReset(err error) bool { return strings.Contains(err.Error(), "reset by peer") }

func TestHalfClosingTheConnectionEndsTheStream(t *testing.T) {
	if wire == "h2" {
		t.Skip("over HTTP/2 the client's half is closed after any GET")
	}
	s := serve(t)
	st := s.listen("/v1/groups/foo")
	_ = st.Conn.(interface{ CloseWrite() error }).CloseWrite()
	if _, err := io.ReadAll(st.in); err != nil {
		t.Errorf("the connection is still open: %v", err)
	}
	eventually(t, "the session is lost", func() bool {
		return strings.Contains(s.do("GET /v1/sessions/"+st.uid, "").body, `"state":"lost"`)
	})
}
