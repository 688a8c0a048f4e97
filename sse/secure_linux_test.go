package sse

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tapped is a client's socket. It records what the server sends, and can collect or cut what the client sends.
type tapped struct {
	net.Conn
	mu       sync.Mutex
	received []byte
	collects bool
	sent     []byte // collected
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = append(c.received, p[:n]...)
	return n, err
}

func (c *tapped) Write(p []byte) (int, error) {
	if c.collects {
		c.sent = append(c.sent, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// lastRecord returns the type and the length of the last record that the client has received.
func (c *tapped) lastRecord(t *testing.T) (kind byte, length int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := c.received; len(p) > 0; p = p[recordHeader+length:] {
		kind, length = p[0], int(p[3])<<8|int(p[4])
		if len(p) < recordHeader+length {
			t.Fatalf("the last record has %d of %d bytes", len(p)-recordHeader, length)
		}
	}
	return kind, length
}

// parked returns a stream whose handler has returned, its client, and the channel of the error of gone.
func parked(t *testing.T, w wire) (*hijacked, *peer, *tapped, <-chan error) {
	t.Helper()
	o := openOver(t, w, poller(t, 0))
	socket, err := net.Dial("tcp", o.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	tap := &tapped{Conn: socket}
	p := &peer{Conn: w.client(tap), t: t}
	p.r = bufio.NewReader(p.Conn)
	p.send(request)
	p.header()
	c := <-o.conns
	<-o.returned
	t.Cleanup(func() { _ = c.Close() })
	return c.(*hijacked), p, tap, o.gone
}

func (c *hijacked) receivedBytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.early)
}

func (c *hijacked) unsentBytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secure == nil {
		return 0
	}
	return len(c.secure.unsent)
}

func secureOnly(t *testing.T, test func(*testing.T, wire)) { on(t, test, tls12, tls13) }

// TestAcceptedBytesArriveWithoutAnotherWrite fills the socket. The poller sends the rest of the last record.
func TestAcceptedBytesArriveWithoutAnotherWrite(t *testing.T) {
	secureOnly(t, func(t *testing.T, w wire) {
		c, p := taken(t, poller(t, 0), w)
		p.header()
		h, chunk := c.(*hijacked), bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
		sent := 0
		for h.unsentBytes() == 0 {
			n, err := c.TryWrite(chunk[sent%16:])
			if err != nil {
				t.Fatal(err)
			}
			sent += n
		}
		if n := h.unsentBytes(); n > maxRecord+100 {
			t.Errorf("%d bytes of a record of %d are kept", n, maxRecord)
		}
		if n, err := c.TryWrite(chunk); n != 0 || err != nil {
			t.Errorf("TryWrite accepts %d bytes while the socket is full, %v", n, err)
		}
		got := make([]byte, sent)
		if n, err := io.ReadFull(p.r, got); err != nil {
			t.Fatalf("received %d bytes of %d: %v", n, sent, err)
		}
		if !bytes.Equal(got, bytes.Repeat(chunk, sent/len(chunk)+1)[:sent]) {
			t.Error("the bytes differ")
		}
		if n := h.unsentBytes(); n > 0 {
			t.Errorf("%d bytes are still kept", n)
		}
	})
}

func TestCloseNotifyFollowsTheLastBytes(t *testing.T) {
	secureOnly(t, func(t *testing.T, w wire) {
		c, p, tap, _ := parked(t, w)
		write(t, c, "event: bye\n\n")
		_ = c.Close()
		p.expect("event: bye\n\n")
		p.ended()
		kind, length := tap.lastRecord(t)
		if w == tls12 && kind != 21 || w == tls13 && length != 2+1+16 { // TLS 1.3 encrypts the type, too
			t.Errorf("the last record is of type %d and has %d bytes", kind, length)
		}
	})
}

// TestWriteReturnsWhenTheKernelHasEverything: a Close after it loses nothing.
func TestWriteReturnsWhenTheKernelHasEverything(t *testing.T) {
	secureOnly(t, func(t *testing.T, w wire) {
		c, p := taken(t, poller(t, 0), w)
		p.header()
		h, chunk, writes := c.(*hijacked), make([]byte, 30<<10), 100
		done := make(chan error, 1)
		go func() {
			var err error
			for range writes {
				if _, e := c.Write(chunk); e != nil {
					err = e
				}
				if n := h.unsentBytes(); n > 0 {
					err = fmt.Errorf("%d bytes are kept when Write returns", n)
				}
			}
			done <- errors.Join(err, c.Close())
		}()
		got, err := io.ReadAll(p.r)
		if err := errors.Join(err, <-done); err != nil {
			t.Fatal(err)
		}
		if len(got) != writes*len(chunk) {
			t.Errorf("received %d bytes of %d", len(got), writes*len(chunk))
		}
	})
}

// TestAnswersWaitBehindUnsentBytes ends the TLS connection while the socket is full. An answer to a key update
// takes the same way.
func TestAnswersWaitBehindUnsentBytes(t *testing.T) {
	secureOnly(t, func(t *testing.T, w wire) {
		c, p := taken(t, poller(t, 0), w)
		p.header()
		sent := fill(t, c, 64<<20)
		h := c.(*hijacked)
		h.mu.Lock() // the poller cannot send meanwhile, though the socket accepts more
		kept := len(h.secure.unsent)
		read, err := io.CopyN(io.Discard, p.r, int64(sent)/2)
		writable := []unix.PollFd{{Fd: h.fd, Events: unix.POLLOUT}}
		_, e := unix.Poll(writable, -1)
		err = errors.Join(err, e, h.secure.layer.CloseWrite())
		all := len(h.secure.unsent)
		h.mu.Unlock()
		if err != nil || kept == 0 || all <= kept {
			t.Fatalf("%d bytes were kept, then %d: %v", kept, all, err)
		}
		sent -= int(read)
		got, err := io.ReadAll(p.r)
		if err != nil || len(got) != sent {
			t.Errorf("received %d bytes of %d: %v", len(got), sent, err)
		}
	})
}

func TestCloseNotifyIsAnswered(t *testing.T) {
	secureOnly(t, func(t *testing.T, w wire) {
		_, p, tap, gone := parked(t, w)
		_ = p.Conn.(*tls.Conn).CloseWrite()
		if err := <-gone; err != io.EOF {
			t.Errorf("gone: %v", err)
		}
		p.ended()
		if kind, length := tap.lastRecord(t); w == tls12 && kind != 21 || w == tls13 && length != 2+1+16 {
			t.Errorf("the last record is of type %d and has %d bytes", kind, length)
		}
	})
}

// TestTheEndBehindARequestIsNoticed has the request, data and the end of sending arrive at once: the tls.Conn has read
// them before the connection is hijacked.
func TestTheEndBehindARequestIsNoticed(t *testing.T) {
	secureOnly(t, func(t *testing.T, w wire) {
		o := openOver(t, w, poller(t, 0))
		socket, err := net.Dial("tcp", o.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		tap := &tapped{Conn: socket}
		conn := w.client(tap).(*tls.Conn)
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		tap.collects = true
		for _, s := range []string{request, "x", "y"} {
			if _, err := io.WriteString(conn, s); err != nil {
				t.Fatal(err)
			}
		}
		_ = conn.CloseWrite()
		_ = socket.SetWriteDeadline(time.Time{}) // CloseWrite has set one
		if _, err := socket.Write(tap.sent); err != nil {
			t.Fatal(err)
		}
		if err := <-o.gone; err != io.EOF {
			t.Errorf("gone: %v", err)
		}
		<-o.returned
	})
}

func TestInputOnATLSStream(t *testing.T) {
	for name, test := range map[string]struct {
		send string // to the socket
		ends bool
	}{
		"garbage":                           {strings.Repeat("garbage", 10), true},
		"HTTP without TLS":                  {request, true},
		"a record that cannot be decrypted": {"\x17\x03\x03\x00\x20" + strings.Repeat("x", 0x20), true},
		"a record that is too long":         {"\x17\x03\x03\xff\xff", true},
		"a long record":                     {"\x17\x03\x03\x40\x00" + strings.Repeat("x", maxEarly), true},
		"a handshake":                       {"\x16\x03\x03\x00\x04\x01\x00\x00\x00", true},
		"a part of a header":                {"\x17\x03", false},
		"a part of a record":                {"\x17\x03\x03\x00\x20xxx", false},
	} {
		t.Run(name, func(t *testing.T) {
			secureOnly(t, func(t *testing.T, w wire) {
				c, p, tap, gone := parked(t, w)
				_, _ = io.WriteString(tap.Conn, test.send)
				if test.ends {
					if err := <-gone; err != io.EOF {
						t.Errorf("gone: %v", err)
					}
					return
				}
				settle(t, "the poller does not read it", func() bool { return c.receivedBytes() == len(test.send) })
				write(t, c, "data: a\n\n")
				p.expect("data: a\n\n")
				_ = p.Close() // within a record: the hub may still send an alert, which resets the connection
				if err := <-gone; err != io.EOF && err != syscall.ECONNRESET {
					t.Errorf("gone: %v", err)
				}
			})
		})
	}
}

// TestDataOfATLSClientIsDropped sends records byte by byte, until there are too many bytes.
func TestDataOfATLSClientIsDropped(t *testing.T) {
	secureOnly(t, func(t *testing.T, w wire) {
		c, p, tap, gone := parked(t, w)
		tap.collects = true
		p.send("x")
		p.send("more")
		for i := range tap.sent {
			if _, err := tap.Conn.Write(tap.sent[i : i+1]); err != nil {
				t.Fatal(err)
			}
			settle(t, "the poller does not read it", func() bool { return c.receivedBytes() == i+1 })
		}
		write(t, c, "data: a\n\n")
		p.expect("data: a\n\n")
		tap.collects = false
		p.send(strings.Repeat("x", maxEarly))
		if err := <-gone; err != io.EOF {
			t.Errorf("gone: %v", err)
		}
	})
}

// TestAClientUpdatesItsKeys has openssl update its keys, and ask for an update of the server's, between messages.
func TestAClientUpdatesItsKeys(t *testing.T) {
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	leavesNothing(t)
	o := openOver(t, tls13, poller(t, 0))
	cmd := exec.Command(program, "s_client", "-quiet", "-no_ign_eof", "-tls1_3", "-connect", o.Listener.Addr().String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	send := func(s string) {
		t.Helper()
		if _, err := io.WriteString(in, s); err != nil {
			t.Fatal(err)
		}
	}
	send(request)
	p := &peer{t: t, r: bufio.NewReader(out)}
	p.header()
	c := (<-o.conns).(*hijacked)
	for i, command := range []string{"K\n", "k\n", "K\n", "data\n", "k\n", "data\n"} {
		received := c.receivedBytes()
		send(command)
		settle(t, "the poller does not read it", func() bool { return c.receivedBytes() > received })
		event := "data: " + strings.Repeat(string(rune('a'+i)), 10<<10) + "\n\n"
		write(t, c, event)
		p.expect(event)
	}
	send("Q\n")
	if err := <-o.gone; err != io.EOF {
		t.Errorf("gone: %v", err)
	}
}

func TestIdleTLSStreamsTakeNoGoroutine(t *testing.T) {
	leavesNothing(t)
	const streams = 300
	o := openOver(t, tls13, poller(t, 0))
	before := runtime.NumGoroutine()
	conns := make([]Conn, 0, streams)
	peers := make([]*peer, 0, streams)
	for range streams {
		p := o.dial(t, tls13, request)
		p.header()
		peers, conns = append(peers, p), append(conns, <-o.conns)
		<-o.returned
	}
	const poller = 1 // it starts with the first connection
	settle(t, "idle streams take goroutines", func() bool { return runtime.NumGoroutine() <= before+poller })
	for i, c := range conns {
		write(t, c, "data: a\n\n")
		peers[i].expect("data: a\n\n")
		_ = c.Close()
	}
}
