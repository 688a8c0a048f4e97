package api_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// calls contains one call of each operation.
var calls = []string{
	"GET /v1/groups/foo", "HEAD /v1/groups/foo", "POST /v1/groups/foo", "DELETE /v1/groups/foo", "GET /v1/events?group=foo", "HEAD /v1/events?group=foo", "POST /v1/events?group=foo",
	"POST /v1/messages", "GET /v1/history/foo", "GET /v1/history?group=foo&wait=1s", "GET /v1/retained/foo", "GET /v1/groups", "GET /v1/policies/foo", "PUT /v1/policies/foo", "GET /v1/presence/foo", "GET /v1/sessions",
	"GET /v1/sessions/" + unknownUID, "POST /v1/sessions/" + unknownUID, "DELETE /v1/sessions/" + unknownUID, "PUT /v1/sessions/" + unknownUID + "/groups/foo",
	"DELETE /v1/sessions/" + unknownUID + "/groups/foo", "PUT /v1/sessions/" + unknownUID + "/will", "DELETE /v1/sessions/" + unknownUID + "/will",
	"POST /v1/sessions/" + unknownUID + "/heartbeat", "PUT /v1/sessions/" + unknownUID + "/token", "POST /v1/login", "DELETE /v1/login", "POST /v1/revocations", "GET /v1/explain?action=admin", "GET /v1/tokens", "POST /v1/tokens", "DELETE /v1/tokens/x", "POST /v1/server", "GET /openapi.yaml", "GET /healthz", "GET /readyz", "GET /metrics", "GET /",
	"GET /assets/app.js", "GET /watchbox.js",
}

// unknownUID is a uid that no session has.
const unknownUID = "5fb22bbe-3ba4-8928-b938-4f1a2661e1dd"

func TestForeignHostAndOriginAreRefusedOnEveryCall(t *testing.T) {
	s := serve(t)
	for _, call := range calls {
		for _, c := range [][]string{
			{"host-not-allowed", "Host", "example.org"},
			{"origin-not-allowed", "Origin", "https://example.org"},
			{"origin-not-allowed", "Sec-Fetch-Site", "cross-site"},
		} {
			if strings.HasPrefix(call, "HEAD") {
				c[0] = ""
			}
			if c[1] == "Host" && slices.Contains([]string{"GET /healthz", "GET /readyz", "GET /metrics"}, call) {
				s.wants(200, "", call, "", c[1:]...)
				continue
			}
			a := s.wants(403, c[0], call, "", c[1:]...)
			for field := range a.header {
				if strings.HasPrefix(field, "Access-Control-") {
					t.Errorf("%s %v: %s", call, c, field)
				}
			}
		}
	}
	if h := s.history("%23"); len(h.Messages) > 0 {
		t.Errorf("something was appended: %v", h.Messages)
	}
}

func TestAllowedHosts(t *testing.T) {
	s := serve(t, watchbox.WithAllowHost("Hub.Example.org", "other.example:8080"))
	_, port, _ := net.SplitHostPort(s.addr)
	for host, ok := range map[string]bool{
		"localhost": true, "localhost:" + port: true, "LOCALHOST:1": true, "localhost.": true, "localhost.:80": true, "app.localhost": true,
		"127.0.0.1": true, "127.0.0.1:1": true, "[::1]": true, "[::1]:1234": true, "10.0.0.7": true, "[fe80::1]:80": true,
		"hub.example.org": true, "HUB.example.ORG:99": true, "hub.example.org.": true, "other.example": true,
		"example.org": false, "hub.example.org.evil.test": false, "127.0.0.1.evil.test": false, "localhost.evil.test": false, "notlocalhost": false,
		"evil.test:127.0.0.1": false, "127.1": false, "::1.evil.test": false, "[evil.test]": false,
	} {
		want := 200
		if !ok {
			want = 403
		}
		if a := s.do("GET /v1/groups", "", "Host", host); a.status != want && a.status != 400 {
			t.Errorf("Host %s: %d, want %d", host, a.status, want)
		}
	}
	c := s.dial()
	c.write("GET http://evil.test/v1/groups HTTP/1.1\r\nHost: localhost\r\n\r\n") // RFC 9112, 3.2.2: the target wins
	if a := c.response("GET"); a.status != 403 {
		t.Errorf("an absolute target: %d", a.status)
	}
}

// mounted serves the hub as a handler, as an embedding program does.
func mounted(t *testing.T, opts ...watchbox.Option) *server {
	t.Helper()
	return mountedBehind(t, func(hub http.Handler) http.Handler { return hub }, opts...)
}

// mountedBehind is mounted with middleware.
func mountedBehind(t *testing.T, behind func(http.Handler) http.Handler, opts ...watchbox.Option) *server {
	t.Helper()
	hub := newHub(t, opts...)
	srv := httptest.NewServer(behind(hub))
	t.Cleanup(func() {
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return &server{TB: t, hub: hub, addr: srv.Listener.Addr().String(), client: srv.Client()}
}

func TestMountedHubAllowsAnyHostUnlessSomeAreConfigured(t *testing.T) {
	s := mounted(t)
	s.wants(200, "", "GET /v1/groups", "", "Host", "example.org")
	s.wants(200, "", "GET /healthz", "", "Host", "example.org", "Origin", "https://example.org")
	s.wants(403, "origin-not-allowed", "GET /healthz", "", "Host", "example.org", "Origin", "https://evil.test")
	s = mounted(t, watchbox.WithAllowHost("example.org"))
	s.wants(200, "", "GET /v1/groups", "", "Host", "example.org")
	s.wants(403, "host-not-allowed", "GET /v1/groups", "", "Host", "evil.test")
}

func TestInvalidHostsAreRefused(t *testing.T) {
	s := serve(t)
	for _, host := range []string{".", ".:1234", "..", "localhost..", ".localhost", "evil.test,.localhost"} {
		s.wants(403, "host-not-allowed", "GET /v1/groups", "", "Host", host)
	}
	for _, host := range []string{"localhost", "localhost.", "LOCALHOST:1", "app.localhost", "127.0.0.1", "[::1]", "[::1]:80", ":1234"} {
		s.wants(200, "", "GET /v1/groups", "", "Host", host)
	}
}

func TestOnlyPagesOfTheSameOriginAreAllowed(t *testing.T) {
	s := serve(t, watchbox.WithAllowHost("example.org"))
	for _, c := range []struct {
		ok   bool
		head string
	}{
		{true, ""},
		{true, "Origin: http://127.0.0.1:1234, Host: 127.0.0.1:1234"},
		{true, "Origin: http://localhost, Host: localhost"},
		{true, "Origin: http://localhost, Host: localhost:80"},
		{true, "Origin: https://example.org, Host: example.org"}, // behind a proxy that terminates TLS
		{true, "Origin: https://example.org, Host: example.org:443"},
		{true, "Origin: https://EXAMPLE.org, Host: Example.org"},
		{true, "Sec-Fetch-Site: same-origin"},
		{true, "Sec-Fetch-Site: none"},
		{true, "Sec-Fetch-Site: same-origin, Origin: http://localhost:1, Host: localhost:1"},
		{false, "Origin: http://localhost:3000, Host: localhost:1234"},
		{false, "Origin: http://127.0.0.1:1234, Host: localhost:1234"},
		{false, "Origin: https://example.org:8443, Host: example.org"},
		{false, "Origin: http://localhost, Host: localhost:1234"},
		{false, "Origin: null, Host: localhost"},
		{false, "Origin: nonsense, Host: localhost"},
		{false, "Origin: https://evil.test, Host: localhost"},
		{false, "Origin: https://sub.example.org, Host: example.org"},
		{false, "Sec-Fetch-Site: cross-site"},
		{false, "Sec-Fetch-Site: same-site"},
		{false, "Sec-Fetch-Site: cross-site, Origin: http://localhost:1, Host: localhost:1"},
		{false, "Sec-Fetch-Site: cross-site, Sec-Fetch-Mode: no-cors"},
		{false, "Sec-Fetch-Site: cross-site, Sec-Fetch-Mode: navigate"},
		{false, "Sec-Fetch-Site: same-site, Sec-Fetch-Mode: websocket"},
	} {
		var header []string
		for field := range strings.SplitSeq(c.head, ", ") {
			if name, value, ok := strings.Cut(field, ": "); ok {
				header = append(header, name, value)
			}
		}
		for _, call := range []string{"GET /v1/groups", "GET /v1/history/foo", "PUT /v1/policies/foo"} {
			a := s.do(call, "{}", append(header, "Content-Type", "application/json")...)
			if ok := a.status == 200; ok != c.ok || !ok && a.code() != "origin-not-allowed" {
				t.Errorf("%s with %q: %d %s", call, c.head, a.status, a.code())
			}
		}
	}
}

func TestLinkFromAnotherSiteOpensThePage(t *testing.T) {
	s := serve(t)
	link := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	for _, path := range []string{"/", "/openapi.yaml", "/metrics"} {
		s.wants(200, "", "GET "+path, "", link...)
	}
	for _, call := range []string{"GET /v1/groups/foo", "GET /v1/history/foo", "GET /v1/groups", "POST /v1/groups/foo", "DELETE /v1/groups/foo"} {
		s.wants(403, "origin-not-allowed", call, "", link...)
	}
	s.wants(403, "host-not-allowed", "GET /", "", append(link, "Host", "evil.test")...)
}

func TestOnlyConfiguredOriginsAreAllowed(t *testing.T) {
	s := serve(t, watchbox.WithAllowOrigin("https://app.example.org", "http://localhost:3000"))
	origin := []string{"Origin", "https://app.example.org", "Sec-Fetch-Site", "cross-site"}
	a := s.wants(201, "", "POST /v1/groups/foo", "x", origin...)
	if a.header.Get("Access-Control-Allow-Origin") != "https://app.example.org" || a.header.Get("Vary") != "Origin" {
		t.Errorf("%v", a.header)
	}
	st := s.open("/v1/groups/foo?last=1", origin...)
	if st.header.Get("Access-Control-Allow-Origin") != "https://app.example.org" || st.header.Get("Vary") != "Origin" {
		t.Errorf("the stream has %v", st.header)
	}
	if h := s.wants(200, "", "GET /v1/history/foo", "", origin...).header.Values("Vary"); strings.Join(h, ", ") != "Origin, Accept" {
		t.Errorf("history has Vary: %q", h)
	}
	if bad := s.wants(400, "filter-invalid", "GET /v1/history/a//b", "", origin...); bad.header.Get("Access-Control-Allow-Origin") == "" {
		t.Error("a page cannot read the error")
	}
	preflight := append(origin[:2:2], "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type,x-app")
	for _, path := range []string{"/v1/groups/foo", "/v1/sessions/" + unknownUID + "/will", "/nothing"} {
		a := s.wants(204, "", "OPTIONS "+path, "", preflight...)
		for field, want := range map[string]string{
			"Access-Control-Allow-Origin": "https://app.example.org", "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE",
			"Access-Control-Allow-Headers": "authorization,content-type,x-app", "Access-Control-Allow-Credentials": "",
		} {
			if a.header.Get(field) != want {
				t.Errorf("%s: %s is %q, want %q", path, field, a.header.Get(field), want)
			}
		}
	}
	if a := s.wants(204, "", "OPTIONS /v1/groups/foo", "", origin[:2]...); a.header.Get("Allow") == "" {
		t.Error("an OPTIONS that is no preflight has no Allow")
	}
	for _, other := range []string{"https://evil.test", "http://app.example.org", "https://app.example.org:444", "https://app.example.org.evil.test", "null"} {
		for _, call := range []string{"GET /v1/groups", "POST /v1/groups/foo", "OPTIONS /v1/groups/foo"} {
			a := s.wants(403, "origin-not-allowed", call, "", "Origin", other, "Access-Control-Request-Method", "POST")
			if a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Vary") != "Origin" {
				t.Errorf("%s from %s: %v", call, other, a.header)
			}
		}
	}
	if a := s.wants(200, "", "GET /v1/groups", ""); a.header.Get("Vary") != "Origin" || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without an Origin: %v", a.header)
	}
	if a := serve(t).wants(200, "", "GET /v1/groups", ""); a.header.Get("Vary") != "" {
		t.Errorf("without allowed origins: %v", a.header)
	}
}

// TestPreflightAllowsEveryHeader covers headers of tracing libraries and proxies.
func TestPreflightAllowsEveryHeader(t *testing.T) {
	s := serve(t, watchbox.WithAllowOrigin("https://app.example.org"))
	for _, header := range []string{
		"authorization", "content-type", "last-event-id", "watchbox-session", "idempotency-key", "cache-control", "traceparent", "x-api-key",
		"content-type,watchbox-meta-room,watchbox-meta-trace-id",
	} {
		a := s.wants(204, "", "OPTIONS /v1/groups/foo", "", "Origin", "https://app.example.org",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", header)
		if got := a.header.Get("Access-Control-Allow-Headers"); got != header {
			t.Errorf("requested %s, allowed %q", header, got)
		}
		if vary := a.header.Values("Vary"); strings.Join(vary, ", ") != "Origin, Access-Control-Request-Headers" {
			t.Errorf("Vary is %q", vary)
		}
	}
}

func TestCredentialsAreAllowedForConfiguredOrigins(t *testing.T) {
	s := serve(t, watchbox.WithAllowOrigin("https://*.example.org"), watchbox.WithAllowCredentials())
	for _, call := range []string{"GET /v1/groups", "POST /v1/groups/foo", "OPTIONS /v1/groups/foo"} {
		a := s.do(call, "", "Origin", "https://app.example.org", "Access-Control-Request-Method", "POST")
		if a.header.Get("Access-Control-Allow-Credentials") != "true" || a.header.Get("Access-Control-Allow-Origin") != "https://app.example.org" {
			t.Errorf("%s: %v", call, a.header)
		}
		if a := s.wants(403, "origin-not-allowed", call, "", "Origin", "https://evil.test"); a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s for another origin: %v", call, a.header)
		}
	}
	if a := s.wants(200, "", "GET /v1/groups", ""); a.header.Get("Access-Control-Allow-Credentials") != "" || a.header.Get("Vary") != "Origin" {
		t.Errorf("without an Origin: %v", a.header)
	}
	for want, opts := range map[string][]watchbox.Option{
		"name the origins":   {watchbox.WithAllowCredentials()},
		"matches every site": {watchbox.WithAllowCredentials(), watchbox.WithAllowOrigin("https://example.org", "*")},
		"every site":         {watchbox.WithAllowOrigin("https://*"), watchbox.WithAllowCredentials()},
	} {
		if h, err := watchbox.New(opts...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
			_ = h.Close()
		}
	}
}

func TestHostAndOriginPatterns(t *testing.T) {
	s := serve(t, watchbox.WithAllowHost("*.Example.org", "hub.test"),
		watchbox.WithAllowOrigin("https://*.app.test", "http://localhost:*", "https://plain.test:443", "https://*.port.test:8443"))
	for host, ok := range map[string]bool{
		"a.example.org": true, "b.a.example.org:80": true, "A.EXAMPLE.ORG.": true, "hub.test": true,
		"..example.org": false, "evil.test:80:.example.org": false,
		"example.org": false, ".example.org": false, "aexample.org": false, "a.example.org.evil.test": false, "a.hub.test": false, "*.example.org": true,
	} {
		if a := s.do("GET /v1/groups", "", "Host", host); (a.status == 200) != ok && a.status != 400 {
			t.Errorf("Host %s: %d", host, a.status)
		}
	}
	for origin, ok := range map[string]bool{
		"https://a.app.test": true, "https://b.a.app.test": true, "http://localhost": true, "http://localhost:3000": true, "https://plain.test": true,
		"https://x.port.test:8443": true,
		"https://app.test":         false, "http://a.app.test": false, "https://a.app.test:8443": false, "https://aapp.test": false, "https://a.app.test.evil.test": false,
		"https://evil.test/.app.test": false, "https://evil.test#.app.test": false, "https://evil.test?.app.test": false, "https://u@a.app.test": false,
		"https://..app.test": false, "https://localhost:3000": false, "http://localhost.evil.test:3000": false, "https://plain.test:8443": false, "https://x.port.test": false, "null": false,
	} {
		a := s.do("GET /v1/groups", "", "Origin", origin, "Host", "hub.test")
		if (a.status == 200) != ok || ok && a.header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("Origin %s: %d %v", origin, a.status, a.header)
		}
	}
	everyone := serve(t, watchbox.WithAllowOrigin("*"))
	everyone.wants(200, "", "GET /v1/groups", "", "Origin", "https://any.test")
	everyone.wants(200, "", "GET /v1/groups", "", "Origin", "null")
	for _, bad := range []string{"", "*", "a b", "http://a", "*.", "a.*.org", "*a.org", "a/b", "a:b", "::1", "é.org"} {
		if h, err := watchbox.New(watchbox.WithAllowHost(bad)); err == nil || !strings.Contains(err.Error(), "allow-host") {
			t.Errorf("the host %q is accepted: %v", bad, err)
			_ = h.Close()
		}
	}
	for _, bad := range []string{"", "example.org", "https://", "https://a.org/", "https://a.*.org", "https://*a.org", "https://a:b", "*://a.org", "null", "https://é.org", "https://a@b.org"} {
		if h, err := watchbox.New(watchbox.WithAllowOrigin(bad)); err == nil || !strings.Contains(err.Error(), "allow-origin") {
			t.Errorf("the origin %q is accepted: %v", bad, err)
			_ = h.Close()
		}
	}
}

func TestConfiguredParametersAreIgnored(t *testing.T) {
	s := serve(t, watchbox.WithIgnoreParam("access_token", "utm_*", "since*", "ttl"))
	s.post("/v1/groups/foo?access_token=a%20b&utm_source=c&utm_=d&event=e", "x")
	if h := s.history("foo?last=1&access%5Ftoken=x&since_day=1"); h.bodies() != `"x"` {
		t.Errorf("the history is %s", h.bodies())
	}
	s.wants(400, "parameter-unknown", "GET /v1/history/foo?utm=x", "")
	s.wants(400, "parameter-unknown", "GET /v1/history/foo?access_tokens=x", "")
	s.wants(400, "parameter-invalid", "POST /v1/groups/foo?ttl=never", "x")          // the hub's own parameters are never ignored
	s.wants(400, "parameter-invalid", "GET /v1/history/foo?since=never&utm_a=1", "") // a pattern does not ignore them either
	for _, bad := range []string{"", "a*b", "**"} {
		if h, err := watchbox.New(watchbox.WithIgnoreParam(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
			_ = h.Close()
		}
	}
}
