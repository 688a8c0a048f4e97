package interop_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/freeport"
)

// server is a hub on a socket that can be closed and opened again, like a server that restarts with
// the same log.
type server struct {
	t    *testing.T
	addr string
	hub  *watchbox.Hub

	front   *http.Server
	ended   chan error
	mu      sync.Mutex // guards sockets
	sockets []int      // duplicated descriptors of all connections since it was opened
}

// serve opens a hub that ends with the test.
func serve(t *testing.T, opts ...watchbox.Option) *server {
	t.Helper()
	hub, err := watchbox.New(append([]watchbox.Option{watchbox.WithRetry(20 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, addr: freeport.Addr(t), hub: hub}
	s.open()
	t.Cleanup(func() {
		s.close()
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// open listens, at the same address each time.
func (s *server) open() {
	s.t.Helper()
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.front, s.ended = &http.Server{Handler: s.hub, ReadHeaderTimeout: time.Minute}, make(chan error, 1)
	go func() { s.ended <- s.front.Serve(&listener{ln, s}) }()
}

// close closes the listener and cuts all connections, also those that the hub has taken over. It
// returns how many there were.
func (s *server) close() int {
	s.t.Helper()
	_ = s.front.Close()
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	many := len(s.sockets)
	for _, fd := range s.sockets {
		_ = syscall.Shutdown(fd, syscall.SHUT_RDWR) // the client may have left before
		if err := syscall.Close(fd); err != nil {
			s.t.Error(err)
		}
	}
	s.sockets = nil
	return many
}

func (s *server) publish(group string, v any) {
	s.t.Helper()
	if _, err := s.hub.Publish(context.Background(), group, v); err != nil {
		s.t.Fatal(err)
	}
}

// retain publishes a message that clients without a position get first.
func (s *server) retain(group string, v any) {
	s.t.Helper()
	if _, _, err := s.hub.PublishBatch(context.Background(), []watchbox.Draft{{Group: group, Msg: v, Retain: true}}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) url(path string) string { return "http://" + s.addr + path }

// listener keeps a duplicate descriptor of each connection, because the hub takes over the socket and closes the
// net.Conn.
type listener struct {
	net.Listener
	s *server
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		l.s.mu.Lock()
		defer l.s.mu.Unlock()
		err = raw.Control(func(fd uintptr) {
			if own, err := syscall.Dup(int(fd)); err == nil {
				l.s.sockets = append(l.s.sockets, own)
			}
		})
	}
	return c, err
}
