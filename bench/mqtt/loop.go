//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// loop drives all connections of a load in one thread, with hardly more than one read(2) and one write(2) for what arrives
// together, so that the load costs less than the server.
type loop struct {
	ep    int
	addr  unix.SockaddrInet4
	conns []*conn // by descriptor
	buf   []byte
	on    func(c *conn, head byte, body []byte) // called for each packet
	err   error                                 // of a connection that broke
}

type conn struct {
	l    *loop
	fd   int
	rest []byte // the beginning of a packet
	out  []byte // what the socket has not taken yet

	reply []byte // sent when all packets that have arrived are handled

	i  int    // its number
	id uint16 // of its last packet
}

func newLoop(addr string) (*loop, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &loop{ep: ep, addr: unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, buf: make([]byte, 256<<10)}, nil
}

// close closes all connections without a word.
func (l *loop) close() {
	for _, c := range l.conns {
		if c != nil {
			l.drop(c)
		}
	}
	_ = unix.Close(l.ep)
}

func (l *loop) drop(c *conn) {
	l.conns[c.fd] = nil
	_ = unix.Close(c.fd)
}

// dial connects. It sends nothing.
func (l *loop) dial(i int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	c := &conn{l: l, fd: fd, i: i}
	err = errors.Join(unix.Connect(fd, &l.addr), unix.SetNonblock(fd, true),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	for len(l.conns) <= fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[fd] = c
	return c, nil
}

// send sends bytes, or keeps them until the socket takes them.
func (c *conn) send(b []byte) {
	if len(c.out) == 0 {
		n, err := unix.Write(c.fd, b)
		if err == nil && n == len(b) {
			return
		}
		if err != nil && err != unix.EAGAIN {
			c.l.fail(c, err)
			return
		}
		b = b[max(n, 0):]
		c.watch(unix.EPOLLIN | unix.EPOLLOUT)
	}
	c.out = append(c.out, b...)
}

func (c *conn) watch(events uint32) {
	if err := unix.EpollCtl(c.l.ep, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)}); err != nil {
		c.l.err = err
	}
}

func (l *loop) fail(c *conn, err error) {
	if l.err == nil {
		l.err = fmt.Errorf("connection %d: %w", c.i, err)
	}
}

// run handles what arrives until done says so, at most for a time. It calls idle, if there is one, at least each millisecond.
func (l *loop) run(limit time.Duration, idle func(), done func() bool) error {
	end := time.Now().Add(limit)
	events := make([]unix.EpollEvent, 1024)
	for !done() {
		if l.err != nil {
			return l.err
		}
		if time.Now().After(end) {
			return errTime
		}
		wait := 20
		if idle != nil {
			idle()
			wait = 1
		}
		n, err := unix.EpollWait(l.ep, events, wait)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if c := l.conns[e.Fd]; c != nil {
				l.turn(c, e.Events)
			}
		}
	}
	return l.err
}

// errTime is returned by run when the time is over before it is done.
var errTime = errors.New("the time is over")

func (l *loop) turn(c *conn, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		b := c.out
		c.out = nil
		c.watch(unix.EPOLLIN)
		c.send(b)
	}
	if events&^unix.EPOLLOUT == 0 {
		return
	}
	n, err := unix.Read(c.fd, l.buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err == nil && n == 0:
		err = errors.New("the server closed it")
		fallthrough
	case err != nil:
		l.fail(c, err)
		return
	}
	b := l.buf[:n]
	if len(c.rest) > 0 {
		b = append(c.rest, b...)
	}
	for {
		head, body, rest := split(b)
		if head == 0 {
			c.rest = append([]byte(nil), rest...)
			break
		}
		l.on(c, head, body)
		b = rest
	}
	if len(c.reply) > 0 {
		c.send(c.reply)
		c.reply = c.reply[:0]
	}
}

// open opens n connections with ids that begin with name, at most 200 at a time. Each subscribes to what filter returns for its
// number, unless that is "".
func (l *loop) open(name string, n int, keep bool, filter func(i int) (string, byte)) ([]*conn, error) {
	conns := make([]*conn, 0, n)
	ready, opened := 0, 0
	on := l.on
	defer func() { l.on = on }()
	l.on = func(c *conn, head byte, body []byte) {
		switch {
		case head>>4 == connack && body[1] != 0, head>>4 == suback && body[2] > 2:
			l.fail(c, fmt.Errorf("the server refuses it: %x", body))
		case head>>4 == connack:
			if f, qos := filter(c.i); f != "" {
				c.send(subscribePacket(f, qos))
				return
			}
			ready++
		case head>>4 == suback:
			ready++
		default:
			on(c, head, body)
		}
	}
	err := l.run(2*time.Minute, func() {
		for opened < n && opened-ready < 200 {
			c, err := l.dial(opened)
			if err != nil {
				l.err = err
				return
			}
			c.send(connectPacket(fmt.Sprint(name, opened), keep))
			conns = append(conns, c)
			opened++
		}
	}, func() bool { return ready == n })
	return conns, err
}
