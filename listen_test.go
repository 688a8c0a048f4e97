package watchbox_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/listen/certtest"
	"github.com/watchbox-go/watchbox/sse"
)

// runAt runs a hub at an address until the test ends. It returns the hub and the address that it listens on.
func runAt(t *testing.T, addr string, opts ...watchbox.Option) (*watchbox.Hub, net.Addr) {
	t.Helper()
	listening := make(chan net.Addr, 1)
	hub, err := watchbox.New(append(opts, watchbox.WithListening(func(a net.Addr) { listening <- a }))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- hub.Run(ctx, addr, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = hub.Close()
	})
	select {
	case a := <-listening:
		return hub, a
	case err := <-ran:
		t.Fatal(err)
		return nil, nil
	}
}

// through returns the place of a hub for a client with the transport.
func through(t *testing.T, url string, tr *http.Transport) *place {
	t.Cleanup(tr.CloseIdleConnections)
	return &place{t, url, &http.Client{Transport: tr}}
}

// speaks returns the set of protocols of a client.
func speaks(set ...func(*http.Protocols, bool)) *http.Protocols {
	p := new(http.Protocols)
	for _, f := range set {
		f(p, true)
	}
	return p
}

// works fails unless a message reaches a stream and the hub answers with the version of HTTP.
func (p *place) works(version string) {
	p.Helper()
	l := p.listen("/v1/groups/foo", "")
	p.wants(http.StatusCreated, "POST /v1/groups/foo", "hello")
	if ev := l.next(); !strings.Contains(string(ev.Data), "hello") {
		p.Errorf("%s", ev.Data)
	}
	resp, err := p.try(p.Context(), "GET /healthz", "")
	if err != nil {
		p.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.Proto != version {
		p.Errorf("the answer is %s, want %s", resp.Proto, version)
	}
	l.cut()
}

func TestTLSServesHTTP1AndHTTP2(t *testing.T) {
	cert, key, pool := certtest.Files(t)
	_, addr := runAt(t, "127.0.0.1:0", watchbox.WithTLS(cert, key))
	url := "https://" + addr.String()
	trust := &tls.Config{RootCAs: pool}
	t.Run("HTTP/1.1", func(t *testing.T) {
		through(t, url, &http.Transport{TLSClientConfig: trust}).works("HTTP/1.1")
	})
	t.Run("HTTP/2", func(t *testing.T) {
		through(t, url, &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}).works("HTTP/2.0")
	})
	t.Run("TLS 1.2", func(t *testing.T) {
		old := &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}
		through(t, url, &http.Transport{TLSClientConfig: old}).works("HTTP/1.1")
	})
	t.Run("TLS 1.1 is refused", func(t *testing.T) {
		older := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		conn, err := tls.Dial("tcp", addr.String(), older)
		if err == nil {
			_ = conn.Close()
			t.Error("TLS 1.1 is accepted")
		} else if !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("it is refused with %v", err)
		}
	})
	t.Run("plain HTTP is refused", func(t *testing.T) {
		if status, answer := at(t, addr.String()).do("GET /healthz", ""); status != http.StatusBadRequest {
			t.Errorf("%d %s", status, answer)
		}
	})
}

func TestNewCertificateIsUsedAndStreamsContinue(t *testing.T) {
	cert, key, pool := certtest.Files(t)
	hub, addr := runAt(t, "127.0.0.1:0", watchbox.WithTLS(cert, key))
	url := "https://" + addr.String()
	for _, version := range []struct {
		name string
		http *http.Protocols
	}{{"HTTP/1.1", speaks((*http.Protocols).SetHTTP1)}, {"HTTP/2", speaks((*http.Protocols).SetHTTP2)}} {
		t.Run(version.name, func(t *testing.T) {
			before := through(t, url, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, Protocols: version.http})
			l := before.listen("/v1/groups/foo", "")
			next := certtest.Replace(t, cert, key, time.Now().Add(time.Hour))
			hub.Reload()
			pool = next.Pool
			after := through(t, url, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, Protocols: version.http})
			after.wants(http.StatusCreated, "POST /v1/groups/foo", "after")
			if ev := l.next(); !strings.Contains(string(ev.Data), "after") {
				t.Errorf("the old stream has %s", ev.Data)
			}
		})
	}
}

// TestIdleStreamsOverTLSEndWithBye closes a hub with idle streams.
func TestIdleStreamsOverTLSEndWithBye(t *testing.T) {
	cert, key, pool := certtest.Files(t)
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			hub, addr := runAt(t, "127.0.0.1:0", watchbox.WithTLS(cert, key))
			trust := &tls.Config{RootCAs: pool, MaxVersion: version}
			p := through(t, "https://"+addr.String(), &http.Transport{TLSClientConfig: trust})
			var streams []*subscriber
			for range 20 {
				streams = append(streams, p.listen("/v1/groups/foo", ""))
			}
			p.wants(http.StatusCreated, "POST /v1/groups/foo", "hello")
			for _, l := range streams {
				l.gets(`"hello"`)
			}
			if err := hub.Close(); err != nil {
				t.Error(err)
			}
			for _, l := range streams {
				if ev := l.next(); ev.Type != "bye" {
					t.Errorf("the last event is %s", ev.Type)
				}
				l.ended()
			}
		})
	}
}

// TestStreamsThatAreNotRead publishes more than the sockets hold to a client that does not read. It loses nothing, or is
// disconnected if the policy says so.
func TestStreamsThatAreNotRead(t *testing.T) {
	const messages = 100
	cert, key, pool := certtest.Files(t)
	for name, version := range map[string]uint16{"plain": 0, "TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		for _, policy := range []string{"catch-up", "disconnect"} {
			t.Run(name+" "+policy, func(t *testing.T) {
				opts, trust := []watchbox.Option{watchbox.WithSessionTimeout(100 * time.Millisecond)}, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MaxVersion: version}
				if version != 0 {
					opts = append(opts, watchbox.WithTLS(cert, key))
				}
				hub, addr := runAt(t, "127.0.0.1:0", opts...)
				events := newEvents(t)
				events.register(hub)
				p := at(t, addr.String())
				if version != 0 {
					p = through(t, "https://"+addr.String(), &http.Transport{TLSClientConfig: trust})
				}
				p.wants(http.StatusOK, "PUT /v1/policies/foo", `{"slow":"`+policy+`"}`, "Content-Type", "application/json")
				conn, err := net.Dial("tcp", addr.String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if version != 0 {
					conn = tls.Client(conn, trust)
				}
				if _, err := fmt.Fprintf(conn, "GET /v1/groups/foo HTTP/1.1\r\nHost: %s\r\n\r\n", addr); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				stream := sse.NewReader(resp.Body)
				hello, err := stream.Read()
				if err != nil {
					t.Fatal(err)
				}
				for i := range messages {
					p.wants(http.StatusCreated, "POST /v1/groups/foo", fmt.Sprint(i, strings.Repeat(" ", 100<<10)))
				}
				if policy == "disconnect" {
					var session struct{ UID string }
					if err := json.Unmarshal(hello.Data, &session); err != nil {
						t.Fatal(err)
					}
					events.want(session.UID, "connect, join foo, disconnect slow")
					return
				}
				for i := range messages {
					ev, err := stream.Read()
					if err != nil || !strings.Contains(string(ev.Data), fmt.Sprintf(`"msg":"%d `, i)) {
						t.Fatalf("message %d is %.100s, %v", i, ev.Data, err)
					}
				}
			})
		}
	}
}

// TestUnreadHTTP2StreamDelaysNoOther has two streams on one connection, and reads only one of them.
func TestUnreadHTTP2StreamDelaysNoOther(t *testing.T) {
	cert, key, pool := certtest.Files(t)
	_, addr := runAt(t, "127.0.0.1:0", watchbox.WithTLS(cert, key))
	dials := 0
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, Protocols: speaks((*http.Protocols).SetHTTP2),
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 1 << 20},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	p := through(t, "https://"+addr.String(), tr)
	unread, err := p.try(t.Context(), "GET /v1/groups/unread", "")
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Body.Close()
	l := p.listen("/v1/groups/read", "")
	for range 20 {
		p.wants(http.StatusCreated, "POST /v1/groups/unread", strings.Repeat("x", 100<<10))
		p.wants(http.StatusCreated, "POST /v1/groups/read", "hello")
		l.gets(`"hello"`)
	}
	if dials != 1 {
		t.Errorf("the streams use %d connections, want 1", dials)
	}
}

func TestBrokenCertificateIsRefusedAtStartAndLoggedOnReload(t *testing.T) {
	cert, key, pool := certtest.Files(t)
	broken := filepath.Join(t.TempDir(), "broken.pem")
	if err := os.WriteFile(broken, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, files := range map[string][2]string{
		"broken.pem":           {cert, broken},
		"tls-cert: open none:": {"none", key},
		"tls-key: open none:":  {cert, "none"},
	} {
		hub, err := watchbox.New(watchbox.WithTLS(files[0], files[1]))
		if err != nil {
			t.Fatal(err)
		}
		err = hub.Run(t.Context(), "127.0.0.1:0", nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v does not say %s", err, want)
		}
		_ = hub.Close()
	}
	var log safeBuffer
	hub, addr := runAt(t, "127.0.0.1:0", watchbox.WithTLS(cert, key), watchbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err := os.WriteFile(key, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	hub.Reload()
	hub.Reload()
	through(t, "https://"+addr.String(), &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}).works("HTTP/1.1")
	if n := strings.Count(log.String(), "cannot be used"); n != 1 {
		t.Errorf("%d lines of the log:\n%s", n, log.String())
	}
}

func TestInvalidListenOptionsAreRefused(t *testing.T) {
	for want, o := range map[string][]watchbox.Option{
		"tls-key":                  {watchbox.WithTLS("cert.pem", "")},
		"tls-cert":                 {watchbox.WithTLS("", "key.pem")},
		"h2c":                      {watchbox.WithTLS("cert.pem", "key.pem"), watchbox.WithH2C()},
		"acme-domain: name":        {watchbox.WithACME(watchbox.ACME{Dir: "x"})},
		"\"hub\"":                  {watchbox.WithACME(watchbox.ACME{Dir: "x", Domains: []string{"hub"}})},
		"*.example.org":            {watchbox.WithACME(watchbox.ACME{Dir: "x", Domains: []string{"*.example.org"}})},
		"192.0.2.1":                {watchbox.WithACME(watchbox.ACME{Dir: "x", Domains: []string{"192.0.2.1"}})},
		"hub.example.org.":         {watchbox.WithACME(watchbox.ACME{Dir: "x", Domains: []string{"hub.example.org."}})},
		"acme-url":                 {watchbox.WithACME(watchbox.ACME{Dir: "x", Domains: []string{"hub.example.org"}, URL: "acme.example.org"})},
		"acme-dir":                 {watchbox.WithACME(watchbox.ACME{Domains: []string{"hub.example.org"}})},
		"acme-domain and tls-cert": {watchbox.WithTLS("cert.pem", "key.pem"), watchbox.WithACME(watchbox.ACME{Dir: "x", Domains: []string{"hub.example.org"}})},
		"http-redirect":            {watchbox.WithHTTPRedirect(":80")},
		"http-redirect: ":          {watchbox.WithHTTPRedirect("")},
		"listen-mode":              {watchbox.WithListenMode(fs.ModeSetuid | 0o600)},
	} {
		hub, err := watchbox.New(o...)
		if err == nil {
			t.Errorf("%s: New accepts it", want)
			_ = hub.Close()
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestH2CServesHTTP2WithoutTLS(t *testing.T) {
	_, addr := runAt(t, "127.0.0.1:0", watchbox.WithH2C())
	url := "http://" + addr.String()
	t.Run("HTTP/2", func(t *testing.T) {
		through(t, url, &http.Transport{Protocols: speaks((*http.Protocols).SetUnencryptedHTTP2)}).works("HTTP/2.0")
	})
	t.Run("HTTP/1.1", func(t *testing.T) { at(t, addr.String()).works("HTTP/1.1") })
}

func TestHTTP2WithoutTLSIsRefusedByDefault(t *testing.T) {
	_, addr := runAt(t, "127.0.0.1:0")
	p := through(t, "http://"+addr.String(), &http.Transport{Protocols: speaks((*http.Protocols).SetUnencryptedHTTP2)})
	if resp, err := p.try(t.Context(), "GET /healthz", ""); err == nil {
		_ = resp.Body.Close()
		t.Errorf("the answer is %s", resp.Status)
	}
}

// TestManyHTTP2StreamsShareAConnection has more streams than net/http's default limit, as behind a proxy.
func TestManyHTTP2StreamsShareAConnection(t *testing.T) {
	const n = 600 // net/http's default is 250
	_, addr := runAt(t, "127.0.0.1:0", watchbox.WithH2C())
	p := through(t, "http://"+addr.String(), &http.Transport{Protocols: speaks((*http.Protocols).SetUnencryptedHTTP2)})
	conns := map[string]bool{}
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { conns[c.Conn.LocalAddr().String()] = true }}
	p.client.Transport = traced{p.client.Transport, trace}
	var all []*subscriber
	for range n {
		all = append(all, p.listen("/v1/groups/foo", ""))
	}
	p.wants(http.StatusCreated, "POST /v1/groups/foo", "for all")
	for _, l := range all {
		if ev := l.next(); !strings.Contains(string(ev.Data), "for all") {
			t.Fatalf("%s", ev.Data)
		}
	}
	if len(conns) != 1 {
		t.Errorf("%d connections", len(conns))
	}
}

// traced adds a trace to each request.
type traced struct {
	http.RoundTripper
	trace *httptrace.ClientTrace
}

func (t traced) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.RoundTripper.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), t.trace)))
}

// toSocket returns a transport that connects to a Unix socket.
func toSocket(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
}

func TestServeOnAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.sock")
	t.Run("serves", func(t *testing.T) {
		_, addr := runAt(t, "unix:"+path, watchbox.WithListenMode(0o600))
		if addr.String() != path {
			t.Errorf("the address is %s", addr)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		through(t, "http://localhost", toSocket(path)).works("HTTP/1.1")
	})
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket still exists after the end: %v", err)
	}
	t.Run("replaces a stale socket", func(t *testing.T) {
		left, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		left.(*net.UnixListener).SetUnlinkOnClose(false)
		_ = left.Close()
		runAt(t, "unix:"+path)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
			t.Errorf("%v, %v", info, err)
		}
		through(t, "http://localhost", toSocket(path)).works("HTTP/1.1")
	})
	t.Run("leaves the socket of the next server", func(t *testing.T) {
		t.Run("old", func(t *testing.T) {
			runAt(t, "unix:"+path)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			next, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			next.(*net.UnixListener).SetUnlinkOnClose(false)
			_ = next.Close()
		})
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	})
	t.Run("behind a trusted proxy", func(t *testing.T) {
		runAt(t, "unix:"+path, watchbox.WithTrustedProxy("127.0.0.1"))
		p := through(t, "http://localhost", toSocket(path))
		p.listen("/v1/groups/foo", "", "X-Forwarded-For", "203.0.113.7")
		if got := p.wants(http.StatusOK, "GET /v1/sessions", ""); !strings.Contains(got, "203.0.113.7") {
			t.Errorf("%s", got)
		}
	})
	t.Run("with TLS", func(t *testing.T) {
		cert, key, pool := certtest.Files(t)
		runAt(t, "unix:"+path, watchbox.WithTLS(cert, key))
		tr := toSocket(path)
		tr.TLSClientConfig = &tls.Config{RootCAs: pool}
		through(t, "https://localhost", tr).works("HTTP/1.1")
	})
}

func TestInvalidUnixSocketsAreRefused(t *testing.T) {
	dir := t.TempDir()
	file, used := filepath.Join(dir, "file"), filepath.Join(dir, "used")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	runAt(t, "unix:"+used)
	for addr, want := range map[string]string{
		"unix:":                             "name a path",
		"unix:" + file:                      "not a socket",
		"unix:" + used:                      "another process listens",
		"unix:" + dir + "/none/hub":         "no such file",
		"unix:/" + strings.Repeat("x", 200): "at most",
	} {
		hub, err := watchbox.New()
		if err != nil {
			t.Fatal(err)
		}
		if err := hub.Run(t.Context(), addr, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v does not say %q", addr, err, want)
		}
		_ = hub.Close()
	}
	if text, err := os.ReadFile(file); err != nil || !bytes.Equal(text, []byte("precious")) {
		t.Errorf("the file has %q, %v", text, err)
	}
	through(t, "http://localhost", toSocket(used)).works("HTTP/1.1")
}

func TestRedirectsToHTTPS(t *testing.T) {
	cert, key, _ := certtest.Files(t)
	second := freeLoopback(t)
	_, addr := runAt(t, "127.0.0.1:0", watchbox.WithTLS(cert, key), watchbox.WithHTTPRedirect(second))
	_, port, _ := net.SplitHostPort(addr.String())
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(c.CloseIdleConnections)
	for _, call := range []struct{ method, host, path, want string }{
		{"GET", "hub.example.org", "/v1/groups/a%2Fb?since=all&x=%20", "https://hub.example.org:" + port + "/v1/groups/a%2Fb?since=all&x=%20"},
		{"POST", "hub.example.org:80", "/v1/groups/foo", "https://hub.example.org:" + port + "/v1/groups/foo"},
		{"GET", "[::1]:80", "/", "https://[::1]:" + port + "/"},
		{"GET", "127.0.0.1", "//other.example.org/", "https://127.0.0.1:" + port + "//other.example.org/"},
		{"GET", "hub.example.org", "/.well-known/acme-challenge/x", "https://hub.example.org:" + port + "/.well-known/acme-challenge/x"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), call.method, "http://"+second+call.path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = call.host
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusPermanentRedirect || got != call.want {
			t.Errorf("%s %s %s: %s to %q, want %q", call.method, call.host, call.path, resp.Status, got, call.want)
		}
	}
}

// freeLoopback returns an address on which nothing listens, in a part of the loopback network that other programs are
// unlikely to use.
func freeLoopback(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.78.0.1:0")
	if err != nil {
		t.Skipf("this system has no such loopback address: %v", err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}
