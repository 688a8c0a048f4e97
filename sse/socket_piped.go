package sse

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// pipedSocket is a Socket on a connection that no poller watches. A goroutine reads it.
type pipedSocket struct {
	*response
	conn net.Conn
	next chan struct{} // holds one: everything was taken

	mu       sync.Mutex // guards what follows
	unread   []byte
	err      error  // the end of the input
	readable func() // is called when there is something to read; nil: nobody waits
	lingers  bool   // Close was called, and what arrives is discarded
}

// pipedBuffer is how many bytes a pipedSocket reads at once.
const pipedBuffer = 4 << 10

func newPipedSocket(conn net.Conn, early []byte) *pipedSocket {
	_ = conn.SetDeadline(time.Time{})
	s := &pipedSocket{
		conn: conn, next: make(chan struct{}, 1), unread: early,
		response: &response{
			w: conn, flush: func() error { return nil }, deadline: conn.SetWriteDeadline,
			peer: context.Background(), closed: make(chan struct{}),
		},
	}
	if len(early) == 0 {
		s.next <- struct{}{}
	}
	go s.read()
	return s
}

// read reads the connection until it ends. It reads on when everything was taken.
func (s *pipedSocket) read() {
	b := make([]byte, pipedBuffer)
	for {
		select {
		case <-s.next:
		case <-s.closed:
			_, _ = io.CopyN(io.Discard, s.conn, maxLinger)
			_ = s.conn.Close()
			return
		}
		n, err := s.conn.Read(b)
		if n == 0 && err == nil {
			s.next <- struct{}{}
			continue
		}
		if s.put(b[:n], err); err != nil {
			select {
			case <-s.closed: // and Close has left the rest to this goroutine
				_ = s.conn.Close()
			default:
			}
			return
		}
	}
}

// put passes on what was read.
func (s *pipedSocket) put(b []byte, err error) {
	s.mu.Lock()
	s.unread, s.err = b, err
	f := s.readable
	s.readable = nil
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

func (s *pipedSocket) TryRead(p []byte) (int, error) {
	select {
	case <-s.closed:
		return 0, ErrClosed
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unread) == 0 {
		return 0, s.err
	}
	n := copy(p, s.unread)
	if s.unread = s.unread[n:]; len(s.unread) == 0 && s.err == nil {
		s.next <- struct{}{}
	}
	return n, nil
}

// Expect does nothing: the goroutine reads what arrives at once.
func (s *pipedSocket) Expect() {}

func (s *pipedSocket) Readable(f func()) {
	s.mu.Lock()
	ready := len(s.unread) > 0 || s.err != nil
	if !ready {
		s.readable = f
	}
	s.mu.Unlock()
	if ready {
		f()
	}
}

// Watch does nothing: TryRead tells each end.
func (s *pipedSocket) Watch(func(error)) {}

func (s *pipedSocket) Serve() {}

// Close also ends the goroutine that reads: after it has discarded what still arrives, if the sending half can be closed
// alone.
func (s *pipedSocket) Close() error {
	_ = s.response.Close()
	half, ok := s.conn.(interface{ CloseWrite() error })
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil, !ok:
		return s.conn.Close()
	case s.lingers:
		return nil
	}
	s.lingers = true
	time.AfterFunc(lingerTimeout, func() { _ = s.conn.Close() })
	go func() { // TLS may wait for the other side
		if half.CloseWrite() != nil {
			_ = s.conn.Close()
		}
	}()
	return nil
}
