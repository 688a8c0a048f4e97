package sse

import (
	"errors"
	"net/http"
)

// ErrClosed is what writing to a closed Conn returns.
var ErrClosed = errors.New("sse: the connection is closed")

// Conn is one response body that takes events. One goroutine at a time may write; Close may be
// called at any time.
type Conn interface {
	// TryWrite writes what can be written without waiting and returns how much that was. It
	// takes nothing if Blocking.
	TryWrite(p []byte) (int, error)

	// Write writes p, waiting as long as the other side takes.
	Write(p []byte) (int, error)

	// Blocking reports whether only Write can write.
	Blocking() bool

	// Serve has gone called when the other side has closed the connection, with the reason:
	// io.EOF, what the system says of it, or an error whose Timeout is true where it did not
	// acknowledge what it was sent. Gone is called once at most, and where Close is called it
	// may be, or not. It must not wait.
	//
	// It returns when the handler that opened the Conn may return: at once, or, where net/http
	// writes, only after the other side has closed the connection, or Close was called.
	Serve(gone func(error))

	// Close ends the response. A Write that waits returns with an error.
	Close() error
}

// Open answers a request with an event stream: with w's header, completed by SetHeader, and the
// first bytes of the body. From then on p, which may be nil, hears of a closed connection.
//
// A plain HTTP/1 connection is taken over: it then costs no goroutine and no buffer. Any other
// (TLS, HTTP/2, a ResponseWriter that does not hand its connection out) is written through w.
//
// If w cannot flush either, Open returns an error that is http.ErrNotSupported, and nothing was
// written: the request can be answered otherwise. After any other error it cannot.
func Open(w http.ResponseWriter, r *http.Request, p *Poller, first []byte) (Conn, error) {
	SetHeader(w.Header())
	if h, ok := w.(http.Hijacker); ok && p != nil && r.TLS == nil && r.ProtoMajor == 1 {
		c, err := p.hijack(h, w.Header(), first)
		if !errors.Is(err, http.ErrNotSupported) {
			return c, err
		}
	}
	return newResponse(w, r, first)
}
