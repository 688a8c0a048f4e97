package mqtt

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

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

	connectTimeout, takeoverPause time.Duration // for tests; 0: the usual
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
	hub    *hub.Hub
	opts   Options
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	deadlines deadlines    // of connections without a CONNECT
	unheard   atomic.Int64 // bytes of large CONNECTs that have not arrived completely
	workers   workers

	mu        sync.Mutex // guards what follows
	closed    bool
	listeners map[net.Listener]bool
	conns     map[*conn]bool
	holders   map[string]*conn     // that have a session, by the key of its position
	waiting   map[string]waiter    // for a session, by the same
	took      map[string]time.Time // when a holder took its session over from another connection, by the same
	running   sync.WaitGroup       // goroutines of connections

	shares shares
	system system
}

// New returns a server. It must be closed after the hub's streams have ended, and before the hub is closed.
func New(h *hub.Hub, o Options) *Server {
	s := &Server{hub: h, opts: o, listeners: map[net.Listener]bool{}, conns: map[*conn]bool{}, holders: map[string]*conn{}, waiting: map[string]waiter{}, took: map[string]time.Time{}}
	s.opts.connectTimeout = cmp.Or(o.connectTimeout, connectTimeout)
	s.opts.takeoverPause = cmp.Or(o.takeoverPause, takeoverPause)
	s.deadlines.after = s.opts.connectTimeout
	s.ctx, s.cancel = context.WithCancel(context.Background())
	h.Cursors().OnEnd(sessionPrefix, s.giveUpSession)
	h.Cursors().OnEnd(sharedPrefix, s.shareLost)
	h.OnShareCall(s.answerShare)
	h.Cursors().OnExpire(sessionPrefix, func(key string) { s.forgetReceived(key[len(sessionPrefix):]) })
	h.Cursors().KeepFor(sharedPrefix, sessionPrefix, storedShareKey)
	return s
}

// Serve accepts clients until the listener fails or Close is called. It closes the listener.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close()
	if !s.add(ln) {
		return ErrClosed
	}
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			s.accept(nc)
		case s.ctx.Err() != nil:
			return ErrClosed
		case isTemporary(err):
			time.Sleep(acceptPause)
		default:
			return err
		}
	}
}

// acceptPause is how long Serve waits after it could not accept a connection, such as for lack of file descriptors.
const acceptPause = 50 * time.Millisecond

// isTemporary reports whether Accept may succeed later.
func isTemporary(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) add(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.listeners[ln] = true
	}
	return !s.closed
}

// accept starts to serve a client. It does not wait.
func (s *Server) accept(nc net.Conn) {
	secure, ok := nc.(*tls.Conn)
	if !ok {
		s.serve(nc)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = nc.Close()
		return
	}
	s.running.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.opts.connectTimeout)
		defer cancel()
		if secure.HandshakeContext(ctx) == nil { // otherwise it has closed the connection
			s.serve(nc)
		}
	})
}

// serve starts to serve a client. It returns nil if that is not possible.
func (s *Server) serve(nc net.Conn) *conn {
	remote := nc.RemoteAddr().String()
	socket, err := s.hub.Poller().Adopt(nc, nil)
	if err != nil {
		return nil // Adopt has closed it
	}
	c := newConn(s, socket, remote)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = socket.Close()
		return nil
	}
	s.conns[c] = true
	s.running.Add(1)
	s.mu.Unlock()
	s.deadlines.add(c)
	socket.Readable(c.wake)
	return c
}

// forget forgets a connection that has ended.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.running.Done()
}

// Close disconnects all clients and returns when their connections have ended.
func (s *Server) Close() error {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	for ln := range s.listeners {
		_ = ln.Close() // Serve returns
	}
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	s.deadlines.stop()
	var ended sync.WaitGroup
	for _, c := range conns {
		switch {
		case c.heard.Load() && !c.admitted.Load():
			c.leave(packets.ErrServerShuttingDown) // after the answer to its CONNECT
		case c.Blocking():
			ended.Go(func() { c.end(packets.ErrServerShuttingDown) })
		default:
			c.end(packets.ErrServerShuttingDown)
		}
	}
	ended.Wait()
	s.shares.close()
	s.running.Wait()
	s.workers.close()
	return nil
}

// forgetReceived forgets which messages of QoS 2 a client has sent and not released, because its session has ended.
func (s *Server) forgetReceived(uid string) {
	if err := s.hub.SetClientNote(s.ctx, uid, nil); err != nil && s.ctx.Err() == nil {
		s.opts.Logger.Error("removing a note of an MQTT client failed", "uid", uid, "error", err)
	}
}

// maxPacket returns the size of the largest packet of a client.
func (s *Server) maxPacket() int { return s.hub.Options().MaxMessage + maxPacketExtras }
