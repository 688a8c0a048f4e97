package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
)

// Options configures a Server.
type Options struct {
	// Authenticate returns the grant of a client; nil: every client may do everything. Its errors are those of
	// access.Authenticator, and *access.Denied.
	Authenticate func(context.Context, *Login) (*access.Grant, error)

	MaxKeepAlive time.Duration // longest keep alive interval of a client
	QueueQoS0    bool          // sessions get messages of QoS 0 that were published while they were away
	Logger       *slog.Logger
}

// Login is what a client says about itself.
type Login struct {
	UserName, ClientID string
	Password           string // the token; "" for none
	Remote             string // its address
}

// ErrClosed is returned by Serve after Close.
var ErrClosed = errors.New("mqtt: the server is closed")

// Server serves MQTT clients on a hub.
type Server struct {
	hub  *hub.Hub
	opts Options

	mu        sync.Mutex // guards what follows
	closed    bool
	listeners map[net.Listener]bool
	conns     map[*conn]bool
	running   sync.WaitGroup // goroutines of connections
}

// New returns a server. Close ends it, before the hub is closed.
func New(h *hub.Hub, o Options) *Server {
	return &Server{hub: h, opts: o, listeners: map[net.Listener]bool{}, conns: map[*conn]bool{}}
}

// Serve accepts clients until the listener is closed or Close is called. It closes the listener.
func (s *Server) Serve(ln net.Listener) error {
	return errors.Join(ErrClosed, ln.Close())
}

// Close disconnects all clients and returns when their connections have ended.
func (s *Server) Close() error {
	s.running.Wait()
	return nil
}
