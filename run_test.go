package watchbox_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// TestDrainingHubServesRequestsButIsNotReady: load balancers can stop sending requests before the end.
func TestDrainingHubServesRequestsButIsNotReady(t *testing.T) {
	p, cancel, ran := run(t, nil, watchbox.WithDrainDelay(time.Hour))
	l := p.listen("/v1/groups/foo", secret)
	cancel()
	for deadline := time.Now().Add(patience); ; {
		got := p.call("GET /readyz", "", "")
		if strings.HasPrefix(got, "503 ") && strings.Contains(got, "shutting-down") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the hub is still ready: %s", got)
		}
	}
	for range 2 {
		if got := p.call("POST /v1/groups/foo", "still here", ""); !strings.HasPrefix(got, "201 ") {
			t.Errorf("a message: %s", got)
		}
		l.has("still here")
	}
	p.listen("/v1/groups/foo", "the-secret-of-another").has("")
	if got := p.call("GET /healthz", "", ""); !strings.HasPrefix(got, "200 ") {
		t.Errorf("/healthz answers %s", got)
	}
	select {
	case err := <-ran:
		t.Errorf("Run has returned: %v", err)
	default:
	}
	if err := p.Close(); err != nil { // ends the delay
		t.Error(err)
	}
	l.has("event: bye")
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestStreamsEndAfterTheDrainDelay(t *testing.T) {
	p, cancel, ran := run(t, nil, watchbox.WithDrainDelay(10*time.Millisecond))
	l := p.listen("/v1/groups/foo", secret)
	cancel()
	l.has("event: bye\ndata: {\"reason\":\"shutdown\"}")
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestConnectionWithoutARequestIsClosedAfterTheIdleTimeout(t *testing.T) {
	p, _, _ := run(t, nil, watchbox.WithIdleTimeout(time.Second))
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 200 || resp.Close {
		t.Fatalf("%+v, %v", resp, err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("the connection ends with %v", err)
	}
}

// TestLogContainsNoSecrets sends secrets in each place that a client may put them, to requests that
// succeed and fail, and reads the log at level debug.
func TestLogContainsNoSecrets(t *testing.T) {
	var log safeBuffer
	p, cancel, ran := run(t, nil, watchbox.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
		watchbox.WithIgnoreParam("access_token"), watchbox.WithLogStreams())
	const hidden = "hidden-0123456789"
	at(t, strings.TrimPrefix(p.url, "http://")).listen("/v1/groups/foo?session="+hidden, "").cut()
	for _, call := range []string{
		"GET /v1/groups?access_token=" + hidden, "GET /v1/groups?token=" + hidden, "GET /v1/groups?" + hidden + "=1", "GET /v1/groups?" + hidden,
		"GET /v1/groups/a//b?session=" + hidden, "GET /v1/groups/a//b?sessio%6E=" + hidden, "GET /v1/groups/foo?since=" + hidden,
		"GET /" + hidden, "GET /v1/sessions/" + hidden, "POST /v1/groups/" + hidden + "/%23", "FOO /v1/" + hidden, "GET /v1/groups/foo?format=" + hidden,
	} {
		method, path, _ := strings.Cut(call, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, p.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Authorization", "Cookie", "Watchbox-Session", "Idempotency-Key", "X-Api-Key", "Last-Event-Id", "User-Agent", "Referer", "Accept"} {
			r.Header.Set(name, hidden)
		}
		resp, err := p.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn, "%s nonsense\r\n\r\n", hidden)
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Contains(text, hidden) || !strings.Contains(text, `level=DEBUG msg="GET /v1/groups/* => HTTP 400`) {
		t.Errorf("the log is\n%s", text)
	}
}

// TestDebugLinesOfRefusedRequestsHaveAddressAndCode covers requests that are refused before routing, and missing
// files.
func TestDebugLinesOfRefusedRequestsHaveAddressAndCode(t *testing.T) {
	var log safeBuffer
	p, cancel, ran := run(t, nil, watchbox.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	codes := []string{"host-not-allowed", "origin-not-allowed", "not-found", "not-found", "not-found", "method-not-allowed"}
	for i, c := range []struct{ call, host, origin string }{
		{"GET /v1/groups", "evil.test", ""}, {"GET /v1/groups", "", "https://evil.test"}, {"GET /assets/none", "", ""}, {"GET /assets/", "", ""},
		{"GET /nothing", "", ""}, {"PUT /v1/groups", "", ""},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, p.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		resp, err := p.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if !strings.Contains(string(b), `"code":"`+codes[i]+`"`) {
			t.Errorf("%v gets %s", c, b)
		}
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != len(codes) {
		t.Fatalf("the log is\n%s", log.String())
	}
	for i, line := range lines {
		if strings.Count(line, " remote=127.0.0.1:") != 1 || strings.Count(line, " code="+codes[i]) != 1 {
			t.Errorf("no remote address, or no code %s: %s", codes[i], line)
		}
	}
}

func TestRunEndsWhenTheHubIsClosedAsItStartsToListen(t *testing.T) {
	var hub *watchbox.Hub
	hub, err := watchbox.New(watchbox.WithDrainDelay(time.Hour), watchbox.WithListening(func(net.Addr) {
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := hub.Run(ctx, "127.0.0.1:0", nil); err != nil || ctx.Err() != nil {
		t.Errorf("Run: %v; %v", err, ctx.Err())
	}
}

func TestRunEndsWhenTheHubIsClosed(t *testing.T) {
	p, _, ran := run(t, nil)
	l := p.listen("/v1/groups/foo", secret)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	l.has("event: bye\ndata: {\"reason\":\"shutdown\"}")
	select {
	case err := <-ran:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Run does not return")
	}
}

func TestInvalidRequestsAreNotLoggedAsErrors(t *testing.T) {
	var log safeBuffer
	p, cancel, ran := run(t, nil, watchbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	p.call("GET /healthz", "", "")
	p.call("POST /v1/groups/foo", "x", "")
	p.listen("/v1/groups/foo", secret).leave()
	p.call("GET /v1/groups/a//b", "", "")
	p.call("GET /nothing", "", "")
	p.call("POST /v1/groups/foo?ttl=x", "x", "")
	p.call("POST /v1/groups/foo", strings.Repeat("x", 2<<20), "")
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if log.String() != "" {
		t.Errorf("the log is\n%s", log.String())
	}
}

// TestLastingFailureIsLoggedOnce makes every POST fail, because there are too many groups.
func TestLastingFailureIsLoggedOnce(t *testing.T) {
	var log safeBuffer
	p, _, _ := run(t, nil, watchbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), watchbox.WithMaxGroups(1))
	p.call("POST /v1/groups/foo", "x", "")
	for range 20 {
		if got := p.call("POST /v1/groups/bar", "x", ""); !strings.HasPrefix(got, "507 ") {
			t.Fatal(got)
		}
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "route=/v1/groups/*") ||
		!strings.Contains(text, "remote=127.0.0.1:") || !strings.Contains(text, "code=too-many-groups") || !strings.Contains(text, "reason=") {
		t.Errorf("the log is\n%s", text)
	}
}

// TestPanicOfTheProgramsHandlerIsLogged: other log lines of the HTTP server have level debug.
func TestPanicOfTheProgramsHandlerIsLogged(t *testing.T) {
	var log safeBuffer
	p, _, _ := run(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a mistake of mine") }),
		watchbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	r, err := http.NewRequestWithContext(t.Context(), "GET", p.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := p.client.Do(r); err == nil {
		_ = resp.Body.Close()
		t.Errorf("the answer is %s", resp.Status)
	}
	for deadline := time.Now().Add(patience); !strings.Contains(log.String(), "a mistake of mine"); {
		if time.Now().After(deadline) {
			t.Fatalf("the log is\n%s", log.String())
		}
	}
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the log is\n%s", log.String())
	}
}
