package sse

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// opener is a server that opens a Conn for each request and hands it out. Its handler returns when
// Serve does.
type opener struct {
	*httptest.Server
	conns    chan Conn
	gone     chan error // the errors that gone was called with, and those of Open
	returned chan struct{}
	wrap     func(http.ResponseWriter) http.ResponseWriter
}

const hello = "retry: 1\n\n"

// openAll starts an opener.
func openAll(t *testing.T, p *Poller) *opener {
	t.Helper()
	o := unstartedOpener(p)
	o.Start()
	t.Cleanup(o.Close)
	return o
}

func unstartedOpener(p *Poller) *opener {
	o := &opener{conns: make(chan Conn, 100), gone: make(chan error, 100), returned: make(chan struct{}, 100)}
	o.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.wrap != nil {
			w = o.wrap(w)
		}
		w.Header().Set("X-Other", "stays")
		c, err := Open(w, r, p, []byte(hello))
		if err != nil {
			o.gone <- err
			if o.wrap != nil {
				w.WriteHeader(http.StatusNotImplemented)
			}
			return
		}
		o.conns <- c
		c.Watch(func(err error) { o.gone <- err })
		c.Serve()
		o.returned <- struct{}{}
	}))
	return o
}

// poller returns a Poller for the test, or nil on systems without one.
func poller(t testing.TB, userTimeout time.Duration) *Poller {
	t.Helper()
	p, err := NewPoller(userTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 { // it may be closed again
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

// peer is the other side of a connection, byte by byte.
type peer struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func dial(t *testing.T, addr net.Addr, request string) *peer {
	t.Helper()
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &peer{Conn: conn, t: t, r: bufio.NewReader(conn)}
	p.send(request)
	return p
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p, s); err != nil {
		p.t.Fatal(err)
	}
}

// header reads the response's status line and header, and its body's first bytes.
func (p *peer) header() (lines []string) {
	p.t.Helper()
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("%q, then %v", lines, err)
		}
		if line == "\r\n" {
			p.expect(hello)
			return lines
		}
		lines = append(lines, line)
	}
}

func (p *peer) expect(want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(p.r, got); err != nil || string(got) != want {
		p.t.Fatalf("received %q, %v, want %q", got[:n], err, want)
	}
}

// ended fails the test unless the connection ends without more bytes.
func (p *peer) ended() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.r); err != nil || len(rest) > 0 {
		p.t.Errorf("at the end there is %q, %v", rest, err)
	}
}

func write(t *testing.T, c Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
}

// settle calls ok until it returns true. It fails the test with the text what if that takes too long.
func settle(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// stuck starts to write until Write fails, and sends to began after each write. The other side does not
// read. The returned channel receives the error of Write.
func stuck(c Conn, began chan<- struct{}) <-chan error {
	ended := make(chan error, 1)
	chunk := make([]byte, 1<<20)
	go func() {
		for {
			if _, err := c.Write(chunk); err != nil {
				ended <- err
				return
			}
			select {
			case began <- struct{}{}:
			default:
			}
		}
	}()
	return ended
}

// TestAConnOnAResponseWriter covers each kind of ResponseWriter.
func TestAConnOnAResponseWriter(t *testing.T) {
	secure := func(http2 bool) func(o *opener) {
		return func(o *opener) { o.EnableHTTP2 = http2; o.StartTLS() }
	}
	timeout := serverTimeout()
	for name, start := range map[string]func(o *opener){
		"no poller": func(o *opener) { o.Start() },
		"TLS":       secure(false),
		"HTTP2":     secure(true),
		"server timeout": func(o *opener) {
			o.Config.ReadTimeout, o.Config.WriteTimeout = timeout, timeout
			o.StartTLS()
		},
		"Unwrap": func(o *opener) {
			o.wrap = func(w http.ResponseWriter) http.ResponseWriter { return &wrapper{w} }
			o.Start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			p := poller(t, 0)
			if name == "no poller" {
				p = nil
			}
			o := unstartedOpener(p)
			start(o)
			t.Cleanup(o.Close)

			resp, c := o.get(t)
			if resp.Header.Get("Content-Type") != ContentType+"; charset=utf-8" || resp.Header.Get("X-Other") != "stays" {
				t.Errorf("the header is %v", resp.Header)
			}
			body := &peer{t: t, r: bufio.NewReader(resp.Body)}
			body.expect(hello)
			if n, err := c.TryWrite([]byte("a")); !c.Blocking() || n != 0 || err != nil {
				t.Errorf("Blocking is %v, TryWrite: %d, %v", c.Blocking(), n, err)
			}
			if name == "server timeout" {
				<-time.After(timeout + time.Second)
			}
			write(t, c, "data: a\n\n")
			body.expect("data: a\n\n")

			if err := c.Close(); err != nil {
				t.Error(err)
			}
			body.ended()
			<-o.returned
			if err := c.Close(); err != nil {
				t.Errorf("a second Close: %v", err)
			}
			if n, err := c.Write([]byte("late")); n != 0 || err != ErrClosed {
				t.Errorf("a late Write: %d, %v, want ErrClosed", n, err)
			}

			resp, c = o.get(t) // a stream that the client closes
			write(t, c, "data: b\n\n")
			_ = resp.Body.Close()
			if err := <-o.gone; err != io.EOF {
				t.Errorf("gone: %v, want io.EOF", err)
			}
			<-o.returned
			if _, err := c.Write([]byte("late")); err != ErrClosed {
				t.Errorf("a late Write: %v, want ErrClosed", err)
			}
			_ = c.Close()

			resp, c = o.get(t) // a client that does not read
			defer resp.Body.Close()
			began := make(chan struct{}, 1)
			ended := stuck(c, began)
			_ = c.Close()
			if err := <-ended; err == nil {
				t.Error("a Write to a Conn that was closed succeeds")
			}
			<-o.returned
		})
	}
}

// serverTimeout returns a timeout that a request does not reach: at least 2 s, and 20 times what a
// request over TLS takes on this machine now.
func serverTimeout() time.Duration {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	begin := time.Now()
	if resp, err := srv.Client().Get(srv.URL); err == nil {
		_ = resp.Body.Close()
	}
	return max(2*time.Second, 20*time.Since(begin))
}

// get asks for a stream.
func (o *opener) get(t *testing.T) (*http.Response, Conn) {
	t.Helper()
	client := *o.Client()
	transport := client.Transport.(*http.Transport).Clone()
	transport.DisableCompression = true
	t.Cleanup(transport.CloseIdleConnections)
	client.Transport = transport
	resp, err := client.Get(o.URL)
	if err != nil {
		t.Fatal(err)
	}
	if http2 := o.EnableHTTP2; http2 != (resp.ProtoMajor == 2) {
		t.Fatalf("the response is %s", resp.Proto)
	}
	return resp, <-o.conns
}

// wrapper is a ResponseWriter that middleware has wrapped.
type wrapper struct{ w http.ResponseWriter }

func (w *wrapper) Header() http.Header         { return w.w.Header() }
func (w *wrapper) Write(p []byte) (int, error) { return w.w.Write(p) }
func (w *wrapper) WriteHeader(code int)        { w.w.WriteHeader(code) }
func (w *wrapper) Unwrap() http.ResponseWriter { return w.w }

// plain has only the methods of a ResponseWriter.
type plain struct{ http.ResponseWriter }

// unhijackable is a Hijacker whose Hijack fails.
type unhijackable struct{ wrapper }

func (*unhijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

func TestOpenRefusesAWriterThatCannotFlush(t *testing.T) {
	for name, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"nothing but a ResponseWriter": func(w http.ResponseWriter) http.ResponseWriter { return plain{w} },
		"in another":                   func(w http.ResponseWriter) http.ResponseWriter { return &wrapper{plain{w}} },
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			o := unstartedOpener(poller(t, 0))
			o.wrap = wrap
			o.Start()
			t.Cleanup(o.Close)
			resp, err := http.Get(o.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if err := <-o.gone; !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Open: %v, want http.ErrNotSupported", err)
			}
			if resp.StatusCode != http.StatusNotImplemented || len(body) > 0 {
				t.Errorf("the handler's error response is %d with %q", resp.StatusCode, body)
			}
		})
	}
}

// compressing is a ResponseWriter of compressing middleware, whose connection can be hijacked.
type compressing struct{ http.ResponseWriter }

func (c compressing) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return c.ResponseWriter.(http.Hijacker).Hijack()
}

func (c compressing) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func TestOpenDoesNotHijackAResponseWithAContentEncoding(t *testing.T) {
	leavesNothing(t)
	o := unstartedOpener(poller(t, 0))
	o.wrap = func(w http.ResponseWriter) http.ResponseWriter {
		w.Header().Set("Content-Encoding", "identity")
		return compressing{w}
	}
	o.Start()
	t.Cleanup(o.Close)
	resp, c := o.get(t)
	(&peer{t: t, r: bufio.NewReader(resp.Body)}).expect(hello)
	_ = resp.Body.Close()
	<-o.gone
	if !c.Blocking() {
		t.Error("the connection was hijacked")
	}
}

// noDeadline is a ResponseWriter that flushes and hides the connection's deadline.
type noDeadline struct {
	http.ResponseWriter
	http.Flusher
}

// TestCloseInterruptsAWriteWithoutADeadline has a writer that cannot be interrupted and a client that
// does not read: Write returns at Close, and the handler when the client has left.
func TestCloseInterruptsAWriteWithoutADeadline(t *testing.T) {
	for name, start := range map[string]func(*opener){
		"HTTP/1.1": func(o *opener) { o.Start() },
		"TLS":      func(o *opener) { o.StartTLS() },
		"HTTP/2":   func(o *opener) { o.EnableHTTP2 = true; o.StartTLS() },
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			o := unstartedOpener(nil)
			o.wrap = func(w http.ResponseWriter) http.ResponseWriter { return noDeadline{w, w.(http.Flusher)} }
			start(o)
			t.Cleanup(o.Close)
			closeDuringAWrite(t, o)
		})
	}
}

func closeDuringAWrite(t *testing.T, o *opener) {
	t.Helper()
	resp, c := o.get(t)
	ended := make(chan error)
	go func() {
		_, err := c.Write(make([]byte, 64<<20)) // more than the sockets hold
		ended <- err
	}()
	settle(t, "the write does not begin", func() bool {
		free := c.(*response).mu.TryLock()
		if free {
			c.(*response).mu.Unlock()
		}
		return !free
	})
	_ = c.Close()
	if err := <-ended; err != ErrClosed {
		t.Errorf("Write: %v, want ErrClosed", err)
	}
	if n, err := c.Write([]byte("late")); n != 0 || err != ErrClosed {
		t.Errorf("Write after Close: %d, %v, want ErrClosed", n, err)
	}
	select {
	case <-o.returned:
		t.Error("the handler returned during its write")
	default:
	}
	_ = resp.Body.Close()
	<-o.returned
}

func TestOpenWritesThroughAWriterThatCannotBeHijacked(t *testing.T) {
	leavesNothing(t)
	o := unstartedOpener(poller(t, 0))
	o.wrap = func(w http.ResponseWriter) http.ResponseWriter { return &unhijackable{wrapper{w}} }
	o.Start()
	t.Cleanup(o.Close)
	resp, c := o.get(t)
	(&peer{t: t, r: bufio.NewReader(resp.Body)}).expect(hello)
	_ = resp.Body.Close()
	<-o.gone
	if !c.Blocking() {
		t.Error("Blocking returns false")
	}
}

// TestStreamsThatEitherSideClosesLeaveNothing opens many streams over HTTP/2. The server and the client close
// them in turn, while the server writes.
func TestStreamsThatEitherSideClosesLeaveNothing(t *testing.T) {
	leavesNothing(t)
	o := unstartedOpener(nil)
	o.EnableHTTP2 = true
	o.TLS = &tls.Config{}
	o.StartTLS()
	t.Cleanup(o.Close)
	for i := range 100 {
		resp, c := o.get(t)
		began := make(chan struct{}, 1)
		ended := stuck(c, began)
		if i%2 == 0 {
			_ = c.Close()
		} else {
			_ = resp.Body.Close()
			<-o.gone
		}
		<-ended
		<-o.returned
		_ = resp.Body.Close()
	}
	if names := strings.Join(descriptors(t), " "); strings.Contains(names, "eventpoll eventpoll") {
		t.Log(names)
	}
}

// descriptors returns the open file descriptors of the process.
func descriptors(t *testing.T) (names []string) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc/self/fd")
	}
	for _, e := range list {
		name, _ := os.Readlink("/proc/self/fd/" + e.Name())
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
