package sse

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/listen/certtest"
)

// wire is a version of TLS, or 0 for none.
type wire uint16

const (
	plainHTTP wire = 0
	tls12     wire = tls.VersionTLS12
	tls13     wire = tls.VersionTLS13
)

func (w wire) String() string {
	if w == plainHTTP {
		return "plain"
	}
	return tls.VersionName(uint16(w))
}

// each runs a test on each kind of connection that Open hijacks.
func each(t *testing.T, test func(*testing.T, wire)) { on(t, test, plainHTTP, tls12, tls13) }

// on runs a test on some kinds of connections.
func on(t *testing.T, test func(*testing.T, wire), wires ...wire) {
	for _, w := range wires {
		t.Run(w.String(), func(t *testing.T) {
			leavesNothing(t)
			test(t, w)
		})
	}
}

// certificate returns the server's certificate.
var certificate = sync.OnceValue(func() tls.Certificate {
	pair, err := certtest.Make(time.Now().Add(time.Hour))
	if err != nil {
		panic(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		panic(err)
	}
	return cert
})

// listener returns the listener of a server.
func (w wire) listener(ln net.Listener) net.Listener {
	if w == plainHTTP {
		return ln
	}
	return tls.NewListener(Listener(ln), &tls.Config{Certificates: []tls.Certificate{certificate()}})
}

// client returns a client's connection on a socket.
func (w wire) client(socket net.Conn) net.Conn {
	if w == plainHTTP {
		return socket
	}
	return tls.Client(socket, &tls.Config{InsecureSkipVerify: true, MinVersion: uint16(w), MaxVersion: uint16(w)})
}

// serve runs a server until the test ends.
func (w wire) serve(t testing.TB, h http.HandlerFunc) net.Addr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(w.listener(ln)) }()
	t.Cleanup(func() { _ = srv.Close() })
	return ln.Addr()
}

// openOver starts an opener.
func openOver(t *testing.T, w wire, p *Poller) *opener {
	t.Helper()
	o := unstartedOpener(p)
	o.Listener = w.listener(o.Listener)
	o.Start()
	t.Cleanup(o.Close)
	return o
}

// dial sends a request.
func (o *opener) dial(t *testing.T, w wire, request string) *peer {
	t.Helper()
	socket, err := net.Dial("tcp", o.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	p := &peer{Conn: w.client(socket), t: t}
	p.r = bufio.NewReader(p.Conn)
	p.send(request)
	return p
}

// socket returns the peer's socket.
func (p *peer) socket() *net.TCPConn {
	if layer, ok := p.Conn.(*tls.Conn); ok {
		return layer.NetConn().(*net.TCPConn)
	}
	return p.Conn.(*net.TCPConn)
}
