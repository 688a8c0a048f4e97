package browser_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy is a network between a page and the hub that a test can cut.
type proxy struct {
	addr string
	to   string

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]*line
	closed bool
	down   bool      // new connections are refused
	seen   chan bool // closed when the awaited text has passed to the page
	want   string
}

// line is a connection through the proxy. Data sent over a dead one is lost.
type line struct {
	p    *proxy
	dead atomic.Bool
}

// through starts a proxy that ends with the test.
func through(t *testing.T, to string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return throughAt(t, ln, to)
}

// throughAt is through with a given listener.
func throughAt(t *testing.T, ln net.Listener, to string) *proxy {
	p := &proxy{addr: ln.Addr().String(), to: to, conns: map[net.Conn]*line{}}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() { p.carry(c) })
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

// carry copies both ways until either end closes.
func (p *proxy) carry(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	l := &line{p: p}
	if !p.add(l, near, far) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { l.copy(near, far) })
	l.copy(far, near)
	back.Wait()
}

func (p *proxy) add(l *line, conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.down {
		return false
	}
	for _, c := range conns {
		p.conns[c] = l
	}
	return true
}

func (l *line) copy(to, from net.Conn) {
	_, _ = io.Copy(gate{l, to}, from) // its error does not matter
	_, _ = to.Close(), from.Close()
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	delete(l.p.conns, from)
}

// gate drops data while its line is dead.
type gate struct {
	*line
	to io.Writer
}

func (g gate) Write(b []byte) (int, error) {
	if g.dead.Load() {
		return len(b), nil
	}
	n, err := g.to.Write(b)
	g.p.passed(b)
	return n, err
}

// watch returns a channel that is closed when a text has passed in one piece.
func (p *proxy) watch(text string) <-chan bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.want, p.seen = text, make(chan bool)
	return p.seen
}

func (p *proxy) passed(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.want != "" && bytes.Contains(b, []byte(p.want)) {
		p.want = ""
		close(p.seen)
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

// end closes all connections after the data that was sent.
func (p *proxy) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// die makes all connections dead: they stay open, but their data is lost.
func (p *proxy) die() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.conns {
		l.dead.Store(true)
	}
}

// refuse sets whether new connections are refused.
func (p *proxy) refuse(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}
