package sse

import (
	"errors"
	"net/http"
)

// ErrClosed is the error of a write to a closed Conn.
var ErrClosed = errors.New("sse: the connection is closed")

// Conn is the body of one response, which events are written to. One goroutine at a time may write.
// Close may be called at any time.
type Conn interface {
	// TryWrite writes as much of p as it can without waiting and returns the number of bytes. If
	// Blocking is true it writes nothing. Over TLS it may keep the rest of a record, which is sent as soon as possible.
	TryWrite(p []byte) (int, error)

	// Write writes all of p and waits until the connection has accepted everything. A Conn whose writes cannot
	// be interrupted may still use p after Close.
	Write(p []byte) (int, error)

	// Blocking reports whether the Conn can be written to with Write only.
	Blocking() bool

	// Watch registers gone, which is called when the other side has closed the connection, with the
	// reason: io.EOF, an error of the operating system, or an error whose Timeout method returns true if
	// the other side stopped acknowledging data. gone is called at most once. After Close it may or may
	// not be called. It must not block.
	Watch(gone func(error))

	// Serve returns when the handler that opened the Conn may return. If net/http writes the response,
	// that is after either side has closed the connection and no goroutine writes to it any more;
	// otherwise Serve returns at once. A ResponseWriter without deadlines may be stuck in a write while
	// the client does not read; Serve then waits for it.
	Serve()

	// Close ends the response. A Write that is waiting returns with an error.
	Close() error
}

// Open answers a request with an event stream: it sends w's header, completed by SetHeader, and the
// first bytes of the body. Then p, which may be nil, watches the connection.
//
// An HTTP/1 connection is hijacked: an idle stream then costs no goroutine and no buffer. (Over TLS this needs
// Listener. Without it, an idle stream costs two goroutines.) All others are written through w: HTTP/2, a
// ResponseWriter that cannot be hijacked, and one whose header has a Content-Encoding, because middleware has
// announced that it compresses the body.
//
// If w cannot flush either, Open returns an error that is http.ErrNotSupported and writes nothing, so
// that the handler can still send an error response. After any other error it cannot.
func Open(w http.ResponseWriter, r *http.Request, p *Poller, first []byte) (Conn, error) {
	SetHeader(w.Header())
	encoded := w.Header().Get("Content-Encoding") != ""
	if h, ok := w.(http.Hijacker); ok && p != nil && r.ProtoMajor == 1 && !encoded {
		c, err := p.hijack(h, w.Header(), first)
		if !errors.Is(err, http.ErrNotSupported) {
			return c, err
		}
	}
	return newResponse(w, r, first)
}
