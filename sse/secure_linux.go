package sse

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

// maxRecord is how many bytes are encrypted at once. The record is the most that a connection keeps in memory of what its socket
// does not take.
const maxRecord = 4 << 10

// Listener wraps the listener of a server that speaks TLS, so that Open can hijack its connections like those without TLS:
//
//	srv.ServeTLS(sse.Listener(ln), certFile, keyFile)
//
// Without it, an idle stream over TLS keeps two goroutines.
func Listener(ln net.Listener) net.Listener { return secureListener{ln} }

type secureListener struct{ net.Listener }

func (l secureListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &replaceable{&helloConn{Conn: conn}}, nil
}

// replaceable is the net.Conn below a tls.Conn. A hijacked connection replaces the net.Conn that was accepted by its secure.
type replaceable struct{ net.Conn }

// secured returns the tls.Conn on a connection of Listener, the place to replace what is below it, and the net.Conn that
// was accepted. For any other connection it returns conn itself.
func secured(conn net.Conn) (layer *tls.Conn, place *replaceable, accepted net.Conn) {
	if layer, ok := conn.(*tls.Conn); ok {
		if place, ok := layer.NetConn().(*replaceable); ok {
			return layer, place, place.Conn.(*helloConn).Conn
		}
	}
	return nil, nil, conn
}

// secure is the TLS of a hijacked connection, and the net.Conn below its tls.Conn. It never waits:
//
//   - A read without input returns EAGAIN, after which a tls.Conn can read again.
//   - A write always takes everything, because a failed write would end a tls.Conn. The ciphertext that the socket
//     does not take is kept, and sent before anything else. Nothing is encrypted meanwhile except the few bytes that
//     answer a key update or end the connection.
//
// The connection's lock guards it.
type secure struct {
	net.Conn // nil: a tls.Conn calls no other methods than those below
	hijacked *hijacked
	layer    *tls.Conn
	unsent   []byte // ciphertext
}

// encrypt writes as much of p as the socket accepts without waiting, and up to maxRecord bytes more.
func (s *secure) encrypt(p []byte) (written int, err error) {
	err = s.flush()
	for err == nil && len(s.unsent) == 0 && written < len(p) {
		n := 0
		n, err = s.layer.Write(p[written:min(written+maxRecord, len(p))])
		written += n
	}
	return written, err
}

// flush sends the unsent bytes that the socket accepts.
func (s *secure) flush() error {
	if len(s.unsent) == 0 {
		return nil
	}
	n, err := s.hijacked.send(s.unsent)
	if s.unsent = s.unsent[n:]; len(s.unsent) == 0 {
		s.unsent = nil // an idle connection keeps no buffer
	}
	return err
}

// Write implements net.Conn for the tls.Conn.
func (s *secure) Write(p []byte) (sent int, err error) {
	if len(s.unsent) == 0 {
		if sent, err = s.hijacked.send(p); err != nil || sent == len(p) {
			return sent, err
		}
	}
	s.unsent = append(s.unsent, p[sent:]...)
	return len(p), s.hijacked.poller.watchWritable(s.hijacked)
}

// Read implements net.Conn for the tls.Conn.
func (s *secure) Read(p []byte) (int, error) { return s.hijacked.receive(p) }

// SetWriteDeadline implements net.Conn for the tls.Conn, which calls it before it writes its last record.
func (s *secure) SetWriteDeadline(time.Time) error { return nil }

// Close implements net.Conn for the tls.Conn. The hijacked connection closes its descriptor itself.
func (s *secure) Close() error { return nil }

// drop has the tls.Conn handle everything that the client has sent, such as key updates, and discards the data. It
// returns false at the end of the input, after an error, or if the client has sent more than maxEarly bytes.
func (s *secure) drop(junk []byte) bool {
	for {
		if _, err := s.layer.Read(junk); err != nil {
			return errors.Is(err, syscall.EAGAIN)
		}
	}
}

// end sends the other side that this is the end, if the socket accepts it.
func (s *secure) end() { _ = s.layer.Close() }
