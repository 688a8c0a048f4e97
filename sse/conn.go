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

	// Serve calls gone when the other side has closed the connection, with the reason: io.EOF, an
	// error of the operating system, or an error whose Timeout method returns true if the other
	// side stopped acknowledging data. It calls gone at most once. After Close it may or may not
	// call it. gone must not block.
	//
	// Serve returns when the handler that opened the Conn may return: at once, or, if net/http
	// writes the response, after the connection was closed by either side and nothing writes to
	// it any more. A ResponseWriter without deadlines may be stuck in a write for as long as the
	// client does not read; Serve then waits for it.
	Serve(gone func(error))

	// Close ends the response. A Write that is waiting returns with an error.
	Close() error
}

// Open answers a request with an event stream: with w's header, completed by SetHeader, and the
// first bytes of the body. From then on p, which may be nil, hears of a closed connection.
//
// A plain HTTP/1 connection is hijacked: an idle stream then costs no goroutine and no buffer. All
// others are written through w: TLS, HTTP/2, a ResponseWriter that cannot be hijacked, and one whose
// header has a Content-Encoding, because middleware has announced that it compresses the body.
//
// If w cannot flush either, Open returns an error that is http.ErrNotSupported and writes nothing,
// so that the request can be answered with an error. After any other error it cannot.
func Open(w http.ResponseWriter, r *http.Request, p *Poller, first []byte) (Conn, error) {
	SetHeader(w.Header())
	encoded := w.Header().Get("Content-Encoding") != ""
	if h, ok := w.(http.Hijacker); ok && p != nil && r.TLS == nil && r.ProtoMajor == 1 && !encoded {
		c, err := p.hijack(h, w.Header(), first)
		if !errors.Is(err, http.ErrNotSupported) {
			return c, err
		}
	}
	return newResponse(w, r, first)
}
