//go:build unix

package proxies_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/sse"
)

const domain = "hub.example.org"

// caller is a client at an address of its own. It connects to the proxy for every name.
type caller struct {
	t     *testing.T
	http  *http.Client
	token string // "" for none
}

// clientAt returns a client with HTTP/2 or HTTP/1.1 that has a token for everything.
func (r *rig) clientAt(t *testing.T, address string, http2 bool) *caller {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", r.addr)
		},
		TLSClientConfig:    &tls.Config{RootCAs: r.pool},
		Protocols:          new(http.Protocols),
		DisableCompression: true,
	}
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetHTTP2(http2)
	t.Cleanup(tr.CloseIdleConnections)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &caller{t, &http.Client{Transport: tr, Jar: jar}, r.hub.token}
}

// do makes a request. Pairs of names and values are its headers. The test fails if there is no answer.
func (c *caller) do(method, path, body string, header ...string) *http.Response {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, "https://"+domain+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	late := time.AfterFunc(patience, cancel)
	res, err := c.http.Do(r)
	if !late.Stop() || err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	c.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// call makes a request and returns the answer, which must have a status.
func (c *caller) call(status int, method, path, body string, header ...string) string {
	c.t.Helper()
	res := c.do(method, path, body, header...)
	answer, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != status {
		c.t.Fatalf("%s %s: %s %s %v", method, path, res.Status, answer, err)
	}
	return string(answer)
}

// stream is an open stream of events.
type stream struct {
	t      *testing.T
	res    *http.Response
	events *sse.Reader
}

// listen opens a stream and reads its session event.
func (c *caller) listen(path string, header ...string) (_ *stream, uid string) {
	c.t.Helper()
	res := c.do("GET", path, "", header...)
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body)
		c.t.Fatalf("GET %s: %s %s", path, res.Status, b)
	}
	s := &stream{c.t, res, nil}
	s.timed(func() { s.events = sse.NewReader(decoded(c.t, res)) })
	var session struct{ UID string }
	if data := s.next("session"); json.Unmarshal([]byte(data), &session) != nil || session.UID == "" {
		c.t.Fatalf("the session event is %s", data)
	}
	return s, session.UID
}

// decoded returns the body of a response, which may be compressed.
func decoded(t *testing.T, res *http.Response) io.Reader {
	t.Helper()
	if res.Header.Get("Content-Encoding") != "gzip" {
		return res.Body
	}
	r, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// next returns the data of the next event, which must have a type.
func (s *stream) next(kind string) string {
	s.t.Helper()
	var ev sse.Event
	var err error
	s.timed(func() { ev, err = s.events.Read() })
	if err != nil || ev.Type != kind {
		s.t.Fatalf("the next event is %q %s, want %q: %v", ev.Type, ev.Data, kind, err)
	}
	return string(ev.Data)
}

// timed runs f, which reads from the stream, and fails the test if it takes too long.
func (s *stream) timed(f func()) {
	s.t.Helper()
	late := time.AfterFunc(patience, s.close)
	f()
	if !late.Stop() {
		s.t.Fatal("timed out")
	}
}

func (s *stream) close() { _ = s.res.Body.Close() }

// eventually repeats a check until it succeeds.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !check(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("timed out: %s", what)
		}
	}
}
