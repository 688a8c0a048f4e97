package sse

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testTimeout = 400 * time.Millisecond

// fill writes without waiting until the kernel has n bytes, or does not accept more.
func fill(t *testing.T, c Conn, n int) (written int) {
	t.Helper()
	for written < n {
		k, err := c.TryWrite(make([]byte, n-written))
		if err != nil {
			t.Fatal(err)
		}
		if k == 0 {
			break
		}
		written += k
	}
	return written
}

// info returns the kernel's TCP_INFO of the server's side of a connection, or nil if it is closed.
func info(t *testing.T, c Conn) *unix.TCPInfo {
	t.Helper()
	h := c.(*hijacked)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 {
		return nil
	}
	i, err := unix.GetsockoptTCPInfo(int(h.fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestAClientThatPausesIsKept has a client read nothing for many times the user timeout, with little and
// with much unread data. Its kernel answers the window probes, and afterwards the client gets everything.
func TestAClientThatPausesIsKept(t *testing.T) {
	for name, unread := range map[string]int{"60 kB": 60 << 10, "as much as the kernel takes": 64 << 20} {
		t.Run(name, func(t *testing.T) {
			on(t, func(t *testing.T, w wire) {
				c, p := taken(t, poller(t, testTimeout), w)
				c.Watch(func(err error) { t.Errorf("the connection was closed: %v", err) })
				c.Serve()
				p.header()
				written := fill(t, c, unread)
				settle(t, "the window is not closed", func() bool {
					i := info(t, c)
					return i == nil || i.Notsent_bytes > 0 && (i.Unacked == 0 || i.Retransmits > 0)
				})
				if i := info(t, c); i != nil {
					begin := i.Segs_in
					settle(t, "the kernel does not probe the window", func() bool { i := info(t, c); return i == nil || i.Segs_in >= begin+3 })
				}
				if n, err := io.CopyN(io.Discard, p.r, int64(written)); err != nil {
					t.Errorf("received %d bytes of %d: %v", n, written, err)
				}
				_ = c.Close()
			}, plainHTTP, tls13)
		})
	}
}

// deafen makes the kernel drop all packets for the client. The client acknowledges nothing any more, as if
// its cable was cut.
func (p *peer) deafen() {
	p.t.Helper()
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	raw, err := p.socket().SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestAClientThatAcknowledgesNothingIsGone(t *testing.T) {
	for name, unread := range map[string]int{"that has read everything": 0, "whose window is closed": 64 << 20} {
		t.Run(name, func(t *testing.T) {
			on(t, func(t *testing.T, w wire) {
				c, p := taken(t, poller(t, testTimeout), w)
				gone := make(chan error, 1)
				c.Watch(func(err error) { gone <- err })
				c.Serve()
				p.header()
				fill(t, c, unread)
				p.deafen()
				_, _ = c.TryWrite([]byte("data: is anybody there?\n\n"))
				timeout, ok := errors.AsType[interface {
					error
					Timeout() bool
				}](<-gone)
				if !ok || !timeout.Timeout() {
					t.Errorf("gone: %v, want a timeout", timeout)
				}
				if _, err := c.TryWrite([]byte("x")); err != ErrClosed {
					t.Errorf("TryWrite: %v, want ErrClosed", err)
				}
			}, plainHTTP, tls13)
		})
	}
}

// TestAcknowledgedConnectionsAreNotChecked checks that the poller's list is empty when all data is
// acknowledged, and that a connection is on it at most once. Otherwise checks would cost too much.
func TestAcknowledgedConnectionsAreNotChecked(t *testing.T) {
	leavesNothing(t)
	pl := poller(t, testTimeout)
	c, p := taken(t, pl, plainHTTP)
	c.Watch(func(error) {})
	c.Serve()
	p.header()
	listed := func() int {
		pl.mu.Lock()
		defer pl.mu.Unlock()
		return len(pl.unacked)
	}
	event := bytes.Repeat([]byte("data: a\n\n"), 3)
	for range 3 {
		if _, err := c.TryWrite(event); err != nil {
			t.Fatal(err)
		}
		if n := listed(); n > 1 {
			t.Errorf("one connection is on the list %d times", n)
		}
		p.expect(string(event))
		settle(t, "the connection stays on the list", func() bool { return listed() == 0 })
	}
	_ = c.Close()
}
