package sse

import (
	"io"
	"net"
	"testing"
)

// hiding is a listener that wraps its connections.
type hiding struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l hiding) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(c), nil
}

// hidden has only the methods of net.Conn, so it gives no access to its socket.
type hidden struct{ net.Conn }

// shouting gives access to its socket, but changes the written bytes.
type shouting struct{ *net.TCPConn }

func (c shouting) Write(p []byte) (int, error) {
	loud := make([]byte, len(p))
	for i, b := range p {
		if loud[i] = b; b == '!' {
			loud[i] = '?'
		}
	}
	return c.TCPConn.Write(loud)
}

func openHidden(t *testing.T, wrap func(net.Conn) net.Conn) *opener {
	o := unstartedOpener(poller(t, 0))
	o.Listener = hiding{o.Listener, wrap}
	o.Start()
	t.Cleanup(o.Close)
	return o
}

func hide(c net.Conn) net.Conn { return hidden{c} }

func TestAStreamOnAConnectionThatHidesItsSocket(t *testing.T) {
	for name, end := range map[string]func(Conn, *peer){
		"Close":                 func(c Conn, _ *peer) { _ = c.Close() },
		"the other side closes": func(_ Conn, p *peer) { _ = p.Close() },
		"it sends too much":     func(_ Conn, p *peer) { p.send(string(make([]byte, maxEarly))) },
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			o := openHidden(t, hide)
			p := dial(t, o.Listener.Addr(), request+"pipelined")
			p.header()
			c := <-o.conns
			if n, err := c.TryWrite([]byte("a")); !c.Blocking() || n != 0 || err != nil {
				t.Errorf("Blocking is %v, TryWrite: %d, %v", c.Blocking(), n, err)
			}
			write(t, c, "data: a\n\n")
			p.expect("data: a\n\n")
			end(c, p)
			if name != "Close" { // after Close, gone may be called or not
				if err := <-o.gone; err != io.EOF {
					t.Errorf("gone: %v", err)
				}
			}
			<-o.returned
			if _, err := c.Write([]byte("late")); err != ErrClosed {
				t.Errorf("a late Write: %v", err)
			}
		})
	}
}

func TestCloseEndsAHiddenConnectionThatIsNotRead(t *testing.T) {
	leavesNothing(t)
	o := openHidden(t, hide)
	p := dial(t, o.Listener.Addr(), request)
	p.header()
	c := <-o.conns
	began := make(chan struct{}, 1)
	ended := stuck(c, began)
	<-began
	_ = c.Close()
	if err := <-ended; err == nil {
		t.Error("Write succeeds")
	}
	<-o.returned
}

func TestAHiddenConnectionThatWasNeverServedIsClosed(t *testing.T) {
	leavesNothing(t)
	ours, theirs := net.Pipe()
	c := newPiped(theirs, 0)
	_ = c.Close()
	if _, err := ours.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the other side reads: %v", err)
	}
	c.Watch(func(error) {})
	c.Serve()
}

func TestAConnectionThatChangesTheWrittenBytesIsNotBypassed(t *testing.T) {
	leavesNothing(t)
	o := openHidden(t, func(c net.Conn) net.Conn { return shouting{c.(*net.TCPConn)} })
	p := dial(t, o.Listener.Addr(), request)
	p.header()
	c := <-o.conns
	write(t, c, "data: a!\n\n")
	p.expect("data: a?\n\n")
	_ = c.Close()
	<-o.returned
}
