package browser_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is a network between a page and the hub that a test can cut.
type proxy struct {
	addr string
	to   string

	mu       sync.Mutex // guards what follows
	conns    map[net.Conn]*connection
	closed   bool
	refusing bool      // new connections are refused
	passed   chan bool // closed when the awaited text has passed to the page
	awaited  string

	lifetime time.Duration // of a connection; 0: no limit
	expired  atomic.Int32  // connections whose lifetime was over
}

// connection is a connection through the proxy. Data sent over a dead one is lost.
type connection struct {
	p    *proxy
	dead atomic.Bool
}

// newProxy starts a proxy that ends with the test.
func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newProxyAt(t, ln, to)
}

// newProxyAt is newProxy with a given listener.
func newProxyAt(t *testing.T, ln net.Listener, to string) *proxy {
	return newCuttingProxy(t, ln, to, 0)
}

// newCuttingProxy starts a proxy that cuts each connection after a time.
func newCuttingProxy(t *testing.T, ln net.Listener, to string, lifetime time.Duration) *proxy {
	p := &proxy{addr: ln.Addr().String(), to: to, conns: map[net.Conn]*connection{}, lifetime: lifetime}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() { p.forward(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.cut()
		work.Wait()
	})
	return p
}

func (p *proxy) url() string { return "http://" + p.addr }

// forward copies both ways until either end closes.
func (p *proxy) forward(client net.Conn) {
	defer func() { _ = client.Close() }()
	hub, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer func() { _ = hub.Close() }()
	l := &connection{p: p}
	if !p.add(l, client, hub) {
		return
	}
	if p.lifetime > 0 {
		end := time.AfterFunc(p.lifetime, func() {
			p.expired.Add(1)
			_, _ = client.Close(), hub.Close()
		})
		defer end.Stop()
	}
	var toClient sync.WaitGroup
	toClient.Go(func() { l.copy(client, hub) })
	l.copy(hub, client)
	toClient.Wait()
}

func (p *proxy) add(l *connection, conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refusing {
		return false
	}
	for _, c := range conns {
		p.conns[c] = l
	}
	return true
}

func (l *connection) copy(to, from net.Conn) {
	_, _ = io.Copy(lossyWriter{l, to}, from) // its error does not matter
	_, _ = to.Close(), from.Close()
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	delete(l.p.conns, from)
}

// lossyWriter drops data while its connection is dead.
type lossyWriter struct {
	*connection
	to io.Writer
}

func (g lossyWriter) Write(b []byte) (int, error) {
	if g.dead.Load() {
		return len(b), nil
	}
	n, err := g.to.Write(b)
	g.p.checkText(b)
	return n, err
}

// awaitText returns a channel that is closed when a text has passed in one piece.
func (p *proxy) awaitText(text string) <-chan bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaited, p.passed = text, make(chan bool)
	return p.passed
}

func (p *proxy) checkText(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.awaited != "" && bytes.Contains(b, []byte(p.awaited)) {
		p.awaited = ""
		close(p.passed)
	}
}

// cut resets all connections at once, in the middle of messages.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// closeAll closes all connections after the data that was sent.
func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// blackhole drops the data of all connections from now on. They stay open.
func (p *proxy) blackhole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.conns {
		l.dead.Store(true)
	}
}

// refuse sets whether new connections are refused.
func (p *proxy) refuse(refusing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusing = refusing
}
