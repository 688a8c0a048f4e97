package watchbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/listen"
)

// Run serves root, or the hub alone if root is nil, on an address until ctx ends or Close is called. The address is
// a TCP address such as :1234, or a Unix socket such as unix:/run/watchbox.sock. At the end Run ends all streams,
// waits for requests under way, and returns nil unless there was another error. It may be called only once.
//
// With the hub alone, Run refuses an address that other machines can reach, unless callers need grants or
// WithOpenToAnyone allows it.
func (h *Hub) Run(ctx context.Context, addr string, root http.Handler) error {
	if err := h.calls.mistakes(); err != nil {
		return err
	}
	if ctx == nil {
		return errors.New("watchbox: run: the context is nil")
	}
	if root == nil {
		if err := h.checkOpen(addr); err != nil {
			return fmt.Errorf("watchbox: %w", err)
		}
	}
	o := h.config.listen
	o.Logger = h.logger
	o.PingAfter, o.PingTimeout = h.config.hub.Heartbeat, max(h.config.hub.SessionTimeout, time.Second) // as for other streams
	sockets, err := listen.Open(ctx, addr, o)
	if err != nil {
		return fmt.Errorf("watchbox: %w", err)
	}
	if h.ran.Swap(true) {
		return errors.Join(errors.New("watchbox: Run was called before: a hub runs once; to serve it on more addresses, use it as the handler of your own http.Server"), sockets.Close())
	}
	h.sockets.Store(sockets)
	clients, err := h.openMQTT(ctx, sockets)
	if err != nil {
		for _, ln := range clients {
			err = errors.Join(err, ln.Close())
		}
		return errors.Join(fmt.Errorf("watchbox: %w", err), sockets.Close())
	}
	return errors.Join(h.serve(ctx, sockets, root, clients), sockets.Close())
}

// checkOpen returns an error for an address that other machines can reach, unless callers need grants or that is what
// the options ask for.
func (h *Hub) checkOpen(addr string) error {
	if h.config.anyone || h.access != nil || listen.Local(addr) {
		return nil
	}
	return fmt.Errorf("%s is open to others, and everyone who can reach it can read and send everything: "+
		"listen on 127.0.0.1, have callers show tokens (--token-file), or allow it (--open-to-anyone)", addr)
}

// requestsEnd is the time for requests under way when the server ends.
const requestsEnd = 5 * time.Second

func (h *Hub) serve(ctx context.Context, sockets *listen.Sockets, root http.Handler, clients []net.Listener) error {
	srv := h.server(root)
	failed := make(chan error, 1+len(clients))
	go func() { failed <- sockets.Serve(srv) }()
	defer h.serveClients(clients, failed)()
	if f := h.config.listening; f != nil {
		f(sockets.Addr())
	}
	select {
	case err := <-failed:
		return fmt.Errorf("watchbox: %w", err)
	case <-ctx.Done():
	case <-h.closed:
	}
	if err := h.drain(failed); err != nil {
		return err
	}
	done, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestsEnd)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.core.EndStreams("shutdown")
		_ = h.mqtt.Close() // it returns no error
	}()
	err := srv.Shutdown(done)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-ended
	<-failed
	return err
}

// serveClients serves MQTT clients on listeners, and sends the error of each that fails. end closes the listeners.
func (h *Hub) serveClients(listeners []net.Listener, failed chan<- error) (end func()) {
	var running sync.WaitGroup
	for _, ln := range listeners {
		running.Go(func() {
			if err := h.ServeMQTT(ln); err != nil {
				failed <- err
			}
		})
	}
	return func() {
		for _, ln := range listeners {
			_ = ln.Close() // an error: the MQTT server has closed it
		}
		running.Wait()
	}
}

// drain makes the hub not ready and continues to serve for the delay, in which load balancers stop sending requests.
// Close ends the delay.
func (h *Hub) drain(failed <-chan error) error {
	h.core.Drain()
	select {
	case err := <-failed:
		return fmt.Errorf("watchbox: %w", err)
	case <-time.After(h.config.drainDelay):
		return nil
	case <-h.closed:
		return nil
	}
}

func (h *Hub) server(root http.Handler) *http.Server {
	if root == nil {
		guard := h.config.guard
		guard.CheckHost = true
		root = h.handler(guard)
	}
	return &http.Server{
		Handler:           root,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       h.config.idleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(serverLog{h.logger.Handler()}, slog.LevelDebug),
	}
}

// serverLog is the log of an http.Server. A panic of a handler is an error of the program. All other lines are about
// clients, usually connections that are not HTTP.
type serverLog struct{ slog.Handler }

// Enabled implements slog.Handler.
func (l serverLog) Enabled(ctx context.Context, _ slog.Level) bool {
	return l.Handler.Enabled(ctx, slog.LevelError)
}

// Handle implements slog.Handler.
func (l serverLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: panic") {
		r.Level = slog.LevelError
	}
	if !l.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}
