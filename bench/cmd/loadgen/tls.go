package main

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a non-blocking socket as a net.Conn. Reads return EAGAIN once patient is false, after which a
// tls.Conn can read again. Writes wait.
type socket struct {
	net.Conn // nil: a tls.Conn calls no other methods than those below
	fd       int
	patient  bool
}

// handshake makes a TLS connection on a non-blocking socket. It waits for the other side.
func handshake(fd int) (*tls.Conn, error) {
	s := &socket{fd: fd, patient: true}
	conn := tls.Client(s, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) // a server on the loopback interface
	err := conn.Handshake()
	s.patient = false
	return conn, err
}

func (s *socket) Read(p []byte) (int, error) {
	for {
		switch n, e := rawRead(s.fd, p); {
		case e == unix.EAGAIN && s.patient:
			if err := s.wait(unix.POLLIN); err != nil {
				return 0, err
			}
		case e == unix.EINTR:
		case e != 0:
			return 0, e
		case n == 0:
			return 0, net.ErrClosed
		default:
			return n, nil
		}
	}
}

func (s *socket) Write(p []byte) (written int, err error) {
	for written < len(p) {
		n, err := unix.Write(s.fd, p[written:])
		switch {
		case err == unix.EAGAIN:
			if err := s.wait(unix.POLLOUT); err != nil {
				return written, err
			}
		case err == unix.EINTR:
		case err != nil:
			return written, err
		default:
			written += n
		}
	}
	return written, nil
}

func (s *socket) wait(events int16) error {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: events}}, 10_000)
	if n == 0 && err == nil {
		return syscall.ETIMEDOUT
	}
	if err == unix.EINTR {
		return nil
	}
	return err
}

func (s *socket) SetWriteDeadline(time.Time) error { return nil }
func (s *socket) Close() error                     { return nil }

// tlsRead is rawRead for a TLS connection. Any end of the connection is ECONNRESET.
func tlsRead(c *tls.Conn, p []byte) (int, syscall.Errno) {
	n, err := c.Read(p)
	switch {
	case err == nil:
		return n, 0
	case errors.Is(err, unix.EAGAIN):
		return 0, unix.EAGAIN
	default:
		return 0, unix.ECONNRESET
	}
}
