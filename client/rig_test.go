package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/freeport"
	"github.com/watchbox-go/watchbox/internal/leak"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/client"
)

func TestMain(m *testing.M) { leak.Main(m) }

// testTimeout is how long a test waits for anything.
const testTimeout = 2 * time.Minute

// rig is a hub behind a network that a test can cut.
type rig struct {
	*testing.T
	*proxy
	hub *watchbox.Hub
	srv *httptest.Server
}

func newRig(t *testing.T, opts ...watchbox.Option) *rig {
	t.Helper()
	r := &rig{T: t}
	r.start(opts...)
	r.proxy = newProxy(t, r.srv.Listener.Addr().String())
	t.Cleanup(r.stop)
	return r
}

func (r *rig) start(opts ...watchbox.Option) {
	r.Helper()
	var err error
	if r.hub, err = watchbox.New(append([]watchbox.Option{watchbox.WithRetry(5 * time.Millisecond)}, opts...)...); err != nil {
		r.Fatal(err)
	}
	r.srv = httptest.NewServer(r.hub)
}

func (r *rig) stop() {
	if err := r.hub.Close(); err != nil {
		r.Error(err)
	}
	r.srv.Close()
}

// client returns a client that is closed at the end of the test.
func (r *rig) client(opts ...client.Option) *client.Client {
	r.Helper()
	c, err := client.New("http://"+r.addr, append([]client.Option{client.WithMaxDelay(50 * time.Millisecond)}, opts...)...)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = c.Close() }) // the hub may be closed already
	return c
}

// join joins a filter and returns the messages that arrive.
func (r *rig) join(c *client.Client, filter string) (*client.Subscription, *recorder) {
	r.Helper()
	h := newRecorder(r.T)
	sub, err := c.Join(r.timeout(), filter, func(m client.Message) { h.note("%s", m.Text()) })
	if err != nil {
		r.Fatal(err)
	}
	return sub, h
}

func (r *rig) publish(group string, values ...any) {
	r.Helper()
	for _, v := range values {
		if _, err := r.hub.Publish(r.timeout(), group, v); err != nil {
			r.Fatal(err)
		}
	}
}

// timeout returns a context that ends after patience.
func (r *rig) timeout() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	r.Cleanup(cancel)
	return ctx
}

// recorder collects the values that callbacks get.
type recorder struct {
	t       *testing.T
	mu      sync.Mutex
	changed chan struct{}
	list    []string
}

func newRecorder(t *testing.T) *recorder { return &recorder{t: t, changed: make(chan struct{})} }

func (h *recorder) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, fmt.Sprintf(format, args...))
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *recorder) all() ([]string, chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list), h.changed
}

// until waits until ok accepts the list.
func (h *recorder) until(what string, ok func([]string) bool) []string {
	h.t.Helper()
	timeout := time.After(testTimeout)
	for {
		list, changed := h.all()
		if ok(list) {
			return list
		}
		select {
		case <-changed:
		case <-timeout:
			h.t.Fatalf("got %q, want %s", list, what)
		}
	}
}

// want waits until the list is equal to want.
func (h *recorder) want(want ...string) {
	h.t.Helper()
	h.until(strings.Join(want, ", "), func(list []string) bool { return slices.Equal(list, want) })
}

// proxy is a network between clients and a server: a port that forwards connections.
type proxy struct {
	addr string

	mu    sync.Mutex // guards the fields below
	to    string
	life  time.Duration // of a connection; 0: no limit
	ln    net.Listener
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	w := &proxy{to: to, addr: freeport.Addr(t), conns: map[net.Conn]bool{}}
	w.up(t)
	t.Cleanup(w.down)
	return w
}

// up accepts connections, on the same port each time.
func (w *proxy) up(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.ln = ln
	w.mu.Unlock()
	w.wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			to, open := w.to, w.ln == ln
			w.conns[near] = true
			w.mu.Unlock()
			if !open {
				_ = near.Close() // accepted while the port was being closed
				return
			}
			w.wg.Go(func() { w.pass(near, to) })
		}
	})
}

func (w *proxy) pass(near net.Conn, to string) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	w.mu.Lock()
	w.conns[far] = true
	known, life := w.conns[near], w.life
	w.mu.Unlock()
	if !known {
		return // cut in the meantime
	}
	if life > 0 {
		end := time.AfterFunc(life, func() { _, _ = near.Close(), far.Close() })
		defer end.Stop()
	}
	over := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		w.wg.Go(func() { _, _ = io.Copy(pair[0], pair[1]); over <- struct{}{} })
	}
	<-over
	w.mu.Lock()
	delete(w.conns, near)
	delete(w.conns, far)
	w.mu.Unlock()
}

// cut closes all connections.
func (w *proxy) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

// down refuses connections and closes the existing ones.
func (w *proxy) down() {
	w.mu.Lock()
	if w.ln != nil {
		_ = w.ln.Close()
	}
	w.ln = nil
	w.mu.Unlock()
	w.cut()
	w.wg.Wait()
}

// limit sets how long new connections last.
func (w *proxy) limit(life time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.life = life
}

// leadsTo changes the target of new connections.
func (w *proxy) leadsTo(to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = to
}
