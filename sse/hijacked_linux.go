package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sendBuffer bounds the bytes that the kernel holds for a client that does not read. (It takes twice
	// as much memory for its own records.) A larger buffer would only hide that the client is slow.
	sendBuffer = 64 << 10

	// maxEarly is how many bytes a client may send on a stream's connection. They are dropped.
	maxEarly = 4 << 10
)

// hijacked is a Conn on a socket that was hijacked from net/http. It has its own descriptor instead of
// the net.Conn, which would take as much memory again.
type hijacked struct {
	poller *Poller
	gone   func(error) // nil until Watch
	socket *socket     // that this is the writing side of; nil: the input of the connection is dropped
	slot   int32       // in the poller

	mu      sync.Mutex // guards what follows; held while the descriptor is used, since its number may be reused after Close
	fd      int32      // -1: closed
	early   int32      // bytes that the client has sent
	errno   int32      // the error of a write: the kernel reports it only once
	secure  *secure    // nil without TLS, and after Close
	checked bool       // it is on the poller's list of connections with unacknowledged data
	silent  int8       // checks in a row that found the peer silent
	left    bool       // the other side is gone, because of errno
	lingers bool       // it is what linger has left
}

// hijack hijacks the connection and sends the header and the first bytes of the body.
func (p *Poller) hijack(h http.Hijacker, header http.Header, first []byte) (Conn, error) {
	conn, buffered, err := h.Hijack()
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{}) // a server's timeouts must not end streams
	if _, err := conn.Write(head(header, first)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	early := buffered.Reader.Buffered() // sent with the request: dropped
	layer, place, accepted := secured(conn)
	var socket syscall.Conn
	switch known := accepted.(type) {
	case *net.TCPConn:
		socket = known
	case *net.UnixConn:
		socket = known
	default: // a wrapper: it may change what is written, even if it gives access to the socket
		return newPiped(conn, early), nil
	}
	defer accepted.Close() // c has a descriptor of its own: the socket stays open
	c := &hijacked{poller: p, early: int32(early)}
	if layer != nil {
		c.secure = &secure{hijacked: c, layer: layer}
		place.Conn = c.secure
	}
	if err := c.take(socket); err != nil {
		return nil, err
	}
	if layer != nil { // it may have read more than the request
		c.handle(unix.EPOLLIN, make([]byte, bytes.MinRead))
	}
	return c, nil
}

// take duplicates the descriptor and adds the connection to the poller.
func (c *hijacked) take(sc syscall.Conn) error {
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	if e := raw.Control(func(other uintptr) { fd, err = unix.FcntlInt(other, unix.F_DUPFD_CLOEXEC, 0) }); e != nil || err != nil {
		return errors.Join(e, err)
	}
	c.fd = int32(fd)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	if err := c.poller.add(c, fd); err != nil {
		_ = unix.Close(fd)
		return err
	}
	return nil
}

// head returns the response's status line and header, and the first bytes of its body, which ends with the
// connection.
func head(header http.Header, first []byte) []byte {
	b := bytes.NewBuffer(make([]byte, 0, 512+len(first)))
	b.WriteString("HTTP/1.1 200 OK\r\n")
	header.Set("Connection", "close")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	_ = header.Write(b) // a Buffer takes everything
	b.WriteString("\r\n")
	b.Write(first)
	return b.Bytes()
}

func (c *hijacked) Blocking() bool { return false }

func (c *hijacked) TryWrite(p []byte) (int, error) {
	n, _, err := c.tryWrite(p)
	return n, err
}

// tryWrite also reports whether the kernel has all bytes of p.
func (c *hijacked) tryWrite(p []byte) (n int, all bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return 0, false, ErrClosed
	}
	if c.secure != nil {
		n, err = c.secure.encrypt(p)
		return n, n == len(p) && len(c.secure.unsent) == 0, err
	}
	n, err = c.send(p)
	return n, n == len(p), err
}

// send writes to the socket as much as it accepts without waiting.
func (c *hijacked) send(p []byte) (int, error) {
	for {
		switch n, err := syscall.Write(int(c.fd), p); err {
		case nil:
			c.poller.watchAcks(c)
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			if e, ok := err.(syscall.Errno); ok && e != syscall.EPIPE {
				c.errno = int32(e)
			}
			return 0, fmt.Errorf("sse: write: %w", err)
		}
	}
}

func (c *hijacked) Write(p []byte) (int, error) {
	written := 0
	for {
		n, all, err := c.tryWrite(p[written:])
		if written += n; err != nil || all {
			return written, err
		}
		if err := c.poller.wait(c); err != nil {
			return written, err
		}
	}
}

func (c *hijacked) Serve() {}

func (c *hijacked) Watch(gone func(error)) {
	c.mu.Lock()
	left, why := c.left, c.cause()
	c.gone = gone
	c.mu.Unlock()
	if left {
		gone(why)
	}
}

// handle is called by the poller when the connection is readable or closed.
//
// The end of the input counts as closed. HTTP would let a client close its sending half and go on
// reading, but a client that has left looks the same until something is written to it. net/http (which
// ends the request's context) and nginx (499) do the same. "printf … | nc" does not close its sending
// half by default (nc -N does; ncat does unless --no-shutdown is given).
func (c *hijacked) handle(events uint32, junk []byte) {
	if c.socket != nil {
		c.socket.arrived(events)
		return
	}
	if c.lingers {
		if !c.drop(junk) {
			_ = c.Close()
		}
		return
	}
	if events&(unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLRDHUP) == 0 && (events&unix.EPOLLIN == 0 || c.drop(junk)) {
		return
	}
	c.ended(0)
}

// ended closes the connection after the other side has left, and calls gone with the reason: errno or, if it is 0,
// the error of the socket.
func (c *hijacked) ended(errno syscall.Errno) {
	c.mu.Lock()
	first := !c.left
	if first {
		c.left = true
		c.fail(errno)
	}
	gone, why := c.gone, c.cause()
	c.mu.Unlock()
	if !first {
		return
	}
	_ = c.Close()
	if gone != nil {
		gone(why)
	}
	if c.socket != nil {
		c.socket.arrived(unix.EPOLLHUP)
	}
}

// fail sets errno.
func (c *hijacked) fail(errno syscall.Errno) {
	if errno != 0 {
		c.errno = int32(errno)
	} else if c.fd >= 0 {
		if e, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && e != 0 {
			c.errno = int32(e)
		}
	}
}

// cause returns the error that errno stands for.
func (c *hijacked) cause() error {
	switch errno := syscall.Errno(c.errno); errno {
	case 0, syscall.EPIPE: // EPIPE: it was reset after the other side had closed it
		return io.EOF
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH: // the reason why nothing was acknowledged
		return syscall.ETIMEDOUT
	default:
		return errno
	}
}

// drop reads and discards what the client sent. It returns false at the end of the input, or if the
// client has sent more than maxEarly bytes.
func (c *hijacked) drop(junk []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return true // closed meanwhile
	}
	if c.secure != nil {
		return c.secure.drop(junk)
	}
	_, err := c.receive(junk)
	return err == nil || err == syscall.EAGAIN
}

// receive reads from the socket what the client sent. Its error is EAGAIN if there is nothing, and another at the
// end of the input, or if the client has sent more than maxEarly bytes that are dropped.
func (c *hijacked) receive(p []byte) (int, error) {
	n, err := syscall.Read(int(c.fd), p)
	for err == syscall.EINTR {
		n, err = syscall.Read(int(c.fd), p)
	}
	if err != nil {
		return 0, err
	}
	if c.socket == nil {
		c.early += int32(n)
	}
	if n == 0 || c.early > maxEarly {
		return 0, io.EOF
	}
	return n, nil
}

func (c *hijacked) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	if c.secure != nil {
		c.secure.end()
		c.secure = nil
	}
	fd := int(c.fd)
	c.fd = -1
	c.poller.remove(c)
	if c.socket != nil && !c.left && !c.socket.drained && c.poller.linger(fd) {
		return nil
	}
	if d := c.poller.userTimeout; d > 0 { // how long the kernel keeps what the client has not read
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	}
	return unix.Close(fd)
}
