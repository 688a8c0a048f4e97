package sse

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a Socket whose input the poller watches. The poller reports each arrival only once (EPOLLET), so that
// neither a waiting nor a reading connection needs a system call to be watched.
type socket struct {
	hijacked

	// Guarded by the connection's lock.
	early    string // was read before the connection was adopted
	ready    bool   // there may be something to read
	over     bool   // the end of the input has arrived
	drained  bool   // TryRead has told of it
	readable func() // is called when ready becomes true; nil: nobody waits
}

// errHandshake is returned for a connection without a completed handshake.
var errHandshake = errors.New("sse: the TLS handshake of the connection is not complete")

// Adopt takes a connection over from its owner, who must have ended its use and must not use it any more. early holds the bytes
// of it that were read already. The connection is closed if Adopt returns an error.
//
// TCP connections, those of Listener after their handshake, and Unix sockets cost no goroutine. All other connections
// cost one, as all do if p is nil or on other systems than Linux, and their writes block.
func (p *Poller) Adopt(conn net.Conn, early []byte) (Socket, error) {
	layer, place, accepted := secured(conn)
	var file syscall.Conn
	switch known := accepted.(type) {
	case *net.TCPConn:
		file = known
	case *net.UnixConn:
		file = known
	}
	if p == nil || file == nil {
		return newPipedSocket(conn, early), nil
	}
	if layer != nil && !layer.ConnectionState().HandshakeComplete {
		return nil, errors.Join(errHandshake, conn.Close())
	}
	_ = conn.SetDeadline(time.Time{})
	s := &socket{early: string(early), ready: true}
	s.hijacked.poller, s.hijacked.socket = p, s
	defer accepted.Close() // s has a descriptor of its own: the socket stays open
	if layer != nil {
		s.secure = &secure{hijacked: &s.hijacked, layer: layer}
		place.Conn = s.secure
	}
	if err := s.take(file); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *socket) TryRead(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.early) > 0:
		n := copy(p, s.early)
		if s.early = s.early[n:]; len(s.early) == 0 {
			s.early = "" // an idle connection keeps no buffer
		}
		return n, nil
	case s.fd < 0 && s.left:
		return 0, s.cause()
	case s.fd < 0:
		return 0, ErrClosed
	case !s.ready || len(p) == 0:
		return 0, nil
	case s.secure != nil:
		return s.emptied(s.secure.layer.Read(p))
	}
	n, err := s.emptied(s.receive(p))
	if n > 0 && n < len(p) && !s.over {
		s.ready = false // there was no more: a later arrival is reported
	}
	return n, err
}

func (s *socket) Expect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = true
}

// emptied notes whether a read found that nothing is left. An error that comes with bytes comes again without them.
func (s *socket) emptied(n int, err error) (int, error) {
	if errors.Is(err, syscall.EAGAIN) {
		s.ready = false
		return n, nil
	}
	if n > 0 {
		return n, nil
	}
	s.drained = true
	return 0, err
}

func (s *socket) Readable(f func()) {
	s.mu.Lock()
	ready := s.ready || len(s.early) > 0 || s.fd < 0
	if !ready {
		s.readable = f
	}
	s.mu.Unlock()
	if ready {
		f()
	}
}

// arrived is called by the poller when there may be something to read.
func (s *socket) arrived(events uint32) {
	if events&^unix.EPOLLOUT == 0 {
		return
	}
	s.mu.Lock()
	s.ready = true
	s.over = s.over || events&^(unix.EPOLLIN|unix.EPOLLOUT) != 0
	f := s.readable
	s.readable = nil
	s.mu.Unlock()
	if f != nil {
		f()
	}
}
