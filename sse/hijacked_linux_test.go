package sse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAHijackedConnectionAnswers(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
		run := func(t *testing.T, w wire) {
			o := openOver(t, w, poller(t, 0))
			p := o.dial(t, w, "GET / "+version+"\r\nHost: a\r\n\r\n")
			lines := p.header()
			date, err := http.ParseTime(strings.TrimSpace(strings.TrimPrefix(lines[4], "Date: ")))
			if err != nil || time.Since(date).Abs() > 10*time.Minute {
				t.Errorf("%q: %v", lines[4], err)
			}
			want := []string{
				"HTTP/1.1 200 OK\r\n", "Cache-Control: no-cache, no-transform\r\n", "Connection: close\r\n",
				"Content-Type: text/event-stream; charset=utf-8\r\n", lines[4], "X-Accel-Buffering: no\r\n", "X-Other: stays\r\n",
			}
			if !slices.Equal(lines, want) {
				t.Errorf("the header is %q, want %q", lines, want)
			}
			c := <-o.conns
			<-o.returned // the handler's goroutine is not needed
			if n, err := c.TryWrite([]byte("data: a\n\n")); c.Blocking() || n != 9 || err != nil {
				t.Errorf("Blocking is %v, TryWrite: %d, %v", c.Blocking(), n, err)
			}
			write(t, c, "data: b\n\n")
			_ = c.Close()
			p.expect("data: a\n\ndata: b\n\n")
			p.ended()
			for range 2 {
				if err := c.Close(); err != nil {
					t.Errorf("Close again: %v", err)
				}
				if _, err := c.TryWrite([]byte("x")); err != ErrClosed {
					t.Errorf("TryWrite after Close: %v", err)
				}
				if _, err := c.Write([]byte("x")); err != ErrClosed {
					t.Errorf("Write after Close: %v", err)
				}
			}
		}
		t.Run(version, func(t *testing.T) { each(t, run) })
	}
}

func TestServerTimeoutsDoNotEndAStream(t *testing.T) {
	leavesNothing(t)
	o := unstartedOpener(poller(t, 0))
	timeout := serverTimeout()
	o.Config.ReadTimeout, o.Config.WriteTimeout, o.Config.IdleTimeout = timeout, timeout, timeout
	o.Start()
	t.Cleanup(o.Close)
	p := dial(t, o.Listener.Addr(), request)
	p.header()
	c := <-o.conns
	<-time.After(timeout + time.Second)
	write(t, c, "data: a\n\n")
	p.expect("data: a\n\n")
	_ = c.Close()
}

func TestInputOnAStreamIsDropped(t *testing.T) {
	leavesNothing(t)
	o := openAll(t, poller(t, 0))
	second := "GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
	p := dial(t, o.Listener.Addr(), request+second) // pipelined
	p.header()
	c := <-o.conns
	sent := len(second)
	p.send(second)
	sent += len(second)
	received := func() int32 {
		h := c.(*hijacked)
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.early
	}
	settle(t, "the poller does not read it", func() bool { return received() == int32(sent) })
	p.send(strings.Repeat("x", maxEarly-sent))
	settle(t, "the poller does not read it", func() bool { return received() == maxEarly })
	write(t, c, "data: a\n\n")
	p.expect("data: a\n\n") // and no second response
	if len(o.conns) > 0 {
		t.Error("a second request was served")
	}
	p.send("x") // one byte more than maxEarly
	if err := <-o.gone; err != io.EOF {
		t.Errorf("gone: %v", err)
	}
	p.ended()
}

func TestARequestBodyIsDropped(t *testing.T) {
	leavesNothing(t)
	o := openAll(t, poller(t, 0))
	p := dial(t, o.Listener.Addr(), "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nGET / HTT")
	p.header()
	c := <-o.conns
	write(t, c, "data: a\n\n")
	p.expect("data: a\n\n")
	_ = c.Close()
}

func TestAClosedConnectionIsNoticed(t *testing.T) {
	for how, test := range map[string]struct {
		leave func(*peer)
		why   error
	}{
		"close":               {func(p *peer) { _ = p.Close() }, io.EOF},
		"close of the socket": {func(p *peer) { _ = p.socket().Close() }, io.EOF},
		"reset":               {func(p *peer) { _ = p.socket().SetLinger(0); _ = p.socket().Close() }, syscall.ECONNRESET},
		"shutdown of sending": {func(p *peer) { _ = p.socket().CloseWrite() }, io.EOF},
		"end of sending":      {func(p *peer) { _ = p.Conn.(interface{ CloseWrite() error }).CloseWrite() }, io.EOF},
		"bytes, and close":    {func(p *peer) { _, _ = p.Write([]byte("x")); _ = p.Close() }, io.EOF},
	} {
		t.Run(how+"/while it is served", func(t *testing.T) {
			each(t, func(t *testing.T, w wire) {
				o := openOver(t, w, poller(t, 0))
				p := o.dial(t, w, request)
				p.header()
				c := <-o.conns
				<-o.returned
				test.leave(p)
				if err := <-o.gone; err != test.why {
					t.Errorf("gone: %v, want %v", err, test.why)
				}
				if _, err := c.TryWrite([]byte("x")); err != ErrClosed {
					t.Errorf("TryWrite: %v, want ErrClosed", err)
				}
			})
		})
		t.Run(how+"/before Serve", func(t *testing.T) {
			each(t, func(t *testing.T, w wire) {
				c, p := taken(t, poller(t, 0), w)
				p.header() // unread data would turn the close into a reset
				test.leave(p)
				settle(t, "the end is not noticed", func() bool {
					_, err := c.TryWrite(nil)
					return err != nil
				})
				gone := make(chan error, 2)
				c.Watch(func(err error) { gone <- err })
				c.Serve()
				if err := <-gone; err != test.why {
					t.Errorf("gone: %v, want %v", err, test.why)
				}
				_ = c.Close()
				if len(gone) > 0 {
					t.Errorf("gone was called again: %v", <-gone)
				}
			})
		})
	}
}

// taken returns a hijacked connection that is not served yet, and its client, whose receive window is small.
func taken(t testing.TB, p *Poller, w wire) (Conn, *peer) {
	t.Helper()
	conns := make(chan Conn)
	addr := w.serve(t, func(rw http.ResponseWriter, r *http.Request) {
		c, err := Open(rw, r, p, []byte(hello))
		if err != nil {
			t.Error(err)
		}
		conns <- c
	})
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) })
	}}
	conn, err := dialer.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	conn = w.client(conn)
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	c := <-conns
	t.Cleanup(func() { _ = c.Close() })
	tt, _ := t.(*testing.T)
	return c, &peer{Conn: conn, t: tt, r: bufio.NewReader(conn)}
}

func TestGoneIsNotCalledAfterClose(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		c, p := taken(t, poller(t, 0), w)
		_ = c.Close()
		_ = p.Close()
		c.Watch(func(err error) { t.Errorf("gone: %v", err) })
		c.Serve()
	})
}

func TestTryWriteWritesAsMuchAsTheSocketAccepts(t *testing.T) { each(t, tryWriteUntilFull) }

func tryWriteUntilFull(t *testing.T, w wire) {
	c, p := taken(t, poller(t, 0), w)
	var sent, chunk = 0, bytes.Repeat([]byte("0123456789abcdef"), 1<<8)
	for {
		n, err := c.TryWrite(chunk[sent%16:])
		if err != nil {
			t.Fatal(err)
		}
		if sent += n; n == 0 {
			break
		}
	}
	if sent < sendBuffer/2 || sent > 8*sendBuffer {
		t.Errorf("the kernel holds %d bytes for a listener that does not read", sent)
	}

	ended := make(chan error, 1) // Write waits for it
	rest := bytes.Repeat(chunk, 100)[sent%16:]
	go func() {
		n, err := c.Write(rest)
		if n != len(rest) && err == nil {
			err = fmt.Errorf("%d bytes of %d without an error", n, len(rest))
		}
		ended <- errors.Join(err, c.Close())
	}()
	got, err := io.ReadAll(p)
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	_, body, _ := bytes.Cut(got, []byte("\r\n\r\n"+hello))
	want := bytes.Repeat([]byte("0123456789abcdef"), (sent+len(rest))/16+1)[:sent+len(rest)]
	if !bytes.Equal(body, want) {
		t.Errorf("received %d bytes, want %d, or the bytes differ", len(body), len(want))
	}
}

func TestCloseEndsAWaitingWrite(t *testing.T) {
	for how, end := range map[string]func(Conn, *peer){
		"Close":                      func(c Conn, _ *peer) { _ = c.Close() },
		"the other side closes":      func(_ Conn, p *peer) { _ = p.Close() },
		"the poller's, then its own": func(c Conn, _ *peer) { _ = c.(*hijacked).poller.Close(); _ = c.Close() },
	} {
		t.Run(how, func(t *testing.T) {
			each(t, func(t *testing.T, w wire) {
				c, p := taken(t, poller(t, 0), w)
				c.Watch(func(error) {})
				c.Serve()
				ended := stuck(c, nil)
				settle(t, "Write does not wait", func() bool { return waits(c) })
				end(c, p)
				if err := <-ended; err == nil {
					t.Error("Write succeeds")
				}
			})
		})
	}
}

// waits reports whether a Write to the connection waits.
func waits(c Conn) bool {
	h := c.(*hijacked)
	h.poller.mu.Lock()
	defer h.poller.mu.Unlock()
	return h.poller.slots[h.slot].writable != nil
}

func TestAnEventForAnEarlierConnectionOfASlotIsDropped(t *testing.T) {
	leavesNothing(t)
	p := poller(t, 0)
	first, _ := taken(t, p, plainHTTP)
	slot := first.(*hijacked).slot
	stale := unix.EpollEvent{Fd: slot, Pad: p.slots[slot].turn}
	if p.conn(stale) != first {
		t.Error("an event does not reach its connection")
	}
	_ = first.Close()
	if p.conn(stale) != nil {
		t.Error("an event reaches a connection that was closed")
	}
	second, _ := taken(t, p, plainHTTP)
	if second.(*hijacked).slot != slot {
		t.Fatal("the slot is not used again")
	}
	if p.conn(stale) != nil {
		t.Error("an event reaches the next connection of the slot")
	}
	_ = first.Close() // must not close the second connection
	if _, err := second.TryWrite([]byte("x")); err != nil {
		t.Error(err)
	}
}

func TestAClosedPollerRefusesConnections(t *testing.T) {
	leavesNothing(t)
	p := poller(t, 0)
	_ = p.Close()
	o := openAll(t, p)
	dial(t, o.Listener.Addr(), request)
	if err := <-o.gone; !errors.Is(err, syscall.EBADF) {
		t.Errorf("Open: %v", err)
	}
}

// TestRandomConnectionsReportTheirOwnEndOnce opens many connections, writes to them, and has either side
// close them at random. gone is called for the end of each connection, and for no other's.
func TestRandomConnectionsReportTheirOwnEndOnce(t *testing.T) {
	on(t, randomConnections, plainHTTP, tls13)
}

func randomConnections(t *testing.T, w wire) {
	before := descriptors(t)
	p, err := NewPoller(0)
	if err != nil {
		t.Fatal(err)
	}
	const workers = 20
	each := 100
	if w != plainHTTP {
		each = 20 // handshakes take long
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	conns := make([]chan Conn, workers*each)
	gone := make([]atomic.Int32, workers*each)
	for i := range conns {
		conns[i] = make(chan Conn, 1)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var i int
		_, _ = fmt.Sscan(r.URL.Path[1:], &i)
		c, err := Open(w, r, p, []byte(hello))
		if err != nil {
			close(conns[i])
			return // the client has already left
		}
		conns[i] <- c
		c.Watch(func(error) { gone[i].Add(1) })
		c.Serve()
	})}
	go func() { _ = srv.Serve(w.listener(ln)) }()

	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(worker)))
			var open []func()
			for n := range each {
				i := worker*each + n
				open = append(open, openOne(t, w, ln.Addr(), i, conns[i], &gone[i], r.IntN(6)))
				if r.IntN(3) > 0 {
					k := r.IntN(len(open))
					open[k]()
					open = slices.Delete(open, k, k+1)
				}
			}
			for _, leave := range open {
				leave()
			}
		})
	}
	all.Wait()
	_ = srv.Close()
	p.mu.Lock()
	if used := len(p.slots) - len(p.free); used != 0 {
		t.Errorf("%d of %d slots are not free at the end", used, len(p.slots))
	}
	p.mu.Unlock()
	_ = p.Close()
	var after []string
	settle(t, "descriptors leak", func() bool { after = descriptors(t); return len(after) <= len(before) })
}

// openOne opens connection i. way selects how the returned function ends it.
func openOne(t *testing.T, w wire, addr net.Addr, i int, conns <-chan Conn, gone *atomic.Int32, way int) (leave func()) {
	socket, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Error(err)
		return func() {}
	}
	conn := w.client(socket)
	_, _ = fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
	wantGone := func(c Conn) {
		settle(t, "gone is not called", func() bool { return gone.Load() > 0 })
		if n := gone.Load(); n != 1 {
			t.Errorf("connection %d: gone was called %d times, want 1", i, n)
		}
		if _, err := c.TryWrite([]byte("x")); err != ErrClosed {
			t.Errorf("connection %d: TryWrite: %v", i, err)
		}
	}
	if way == 0 { // at once
		_ = conn.Close()
		return func() {
			if c, ok := <-conns; ok {
				wantGone(c)
			}
		}
	}
	c := <-conns
	return func() {
		if n := gone.Load(); n != 0 {
			t.Errorf("connection %d: gone was called before its end", i)
		}
		if _, err := c.TryWrite([]byte("data: a\n\n")); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
		switch way {
		case 1:
			_ = conn.Close()
			wantGone(c)
		case 2:
			_ = socket.(*net.TCPConn).SetLinger(0)
			_ = socket.Close()
			wantGone(c)
		case 3: // both sides at once
			go func() { _ = conn.Close() }()
			_ = c.Close()
		case 4:
			_ = c.Close()
			_, _ = io.Copy(io.Discard, conn)
		case 5:
			_, _ = conn.Write(make([]byte, 2*maxEarly))
			wantGone(c)
		}
		_ = conn.Close()
	}
}

func BenchmarkTryWrite(b *testing.B) {
	for _, bench := range []struct {
		wire
		size int
	}{{plainHTTP, 100}, {plainHTTP, 4 << 10}, {plainHTTP, 64 << 10}, {tls13, 100}, {tls13, 4 << 10}, {tls13, 64 << 10}} {
		size := bench.size
		b.Run(fmt.Sprintf("%v/%dB", bench.wire, size), func(b *testing.B) {
			c, p := taken(b, poller(b, 0), bench.wire)
			read := make(chan struct{})
			go func() {
				_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{p.socket()}, make([]byte, 256<<10))
				close(read)
			}()
			event := make([]byte, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				for n := 0; n < size; {
					m, err := c.TryWrite(event[n:])
					if err != nil {
						b.Fatal(err)
					}
					n += m
				}
			}
			_ = c.Close()
			<-read
		})
	}
}
