package sse

import (
	"bytes"
	"encoding/binary"
	"net"
)

const (
	recordHeader    = 5   // type, version (2 bytes), length (2 bytes): RFC 8446, section 5.1
	handshakeRecord = 22  // the type of a record with a ClientHello
	longHello       = 600 // a longer record with a ClientHello is divided

	// maxHello is the longest record that is allowed before the handshake. A longer one is not divided, so that the tls.Conn
	// refuses it.
	maxHello = 1 << 14
)

// helloConn is a client's connection before its TLS handshake. If the ClientHello comes in a long record, helloConn divides it
// into several records, which a client may do, too.
//
// A tls.Conn keeps its buffer for records, which has room for the longest record and for 512 bytes more. Browsers and Go
// clients send a ClientHello of 1.5 to 2 KB, since it has a post-quantum key share. Dividing it saves 1 KB for each
// idle stream (docs/PERFORMANCE.md).
type helloConn struct {
	net.Conn
	begun bool
	ahead []byte                 // was read with the first header
	kind  [recordHeader - 2]byte // type and version of the records
	most  int                    // the length of a record
	left  int                    // bytes of the current record that were not returned yet
	later int                    // bytes of the ClientHello after that record
}

// Read implements net.Conn. A tls.Conn reads with a buffer that has room for a record's header.
func (h *helloConn) Read(p []byte) (int, error) {
	switch {
	case !h.begun:
		h.begun = true
		return h.first(p)
	case h.left > 0:
		n, err := h.read(p[:min(h.left, len(p))])
		h.left -= n
		return n, err
	case h.later > 0:
		return h.next(p), nil
	default:
		return h.read(p)
	}
}

// first reads the first header, with what follows it.
func (h *helloConn) first(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n < recordHeader || p[0] != handshakeRecord {
		return n, err
	}
	h.later = int(binary.BigEndian.Uint16(p[len(h.kind):]))
	if h.later <= longHello || h.later > maxHello {
		h.later = 0
		return n, err
	}
	copy(h.kind[:], p)
	h.ahead = bytes.Clone(p[recordHeader:n])
	for h.most = h.later; h.most > longHello; { // halves of halves: the tls.Conn collects them in a buffer that doubles
		h.most = (h.most + 1) / 2
	}
	return h.next(p), err
}

// next begins a record.
func (h *helloConn) next(p []byte) int {
	h.left = min(h.most, h.later)
	h.later -= h.left
	binary.BigEndian.PutUint16(p[copy(p, h.kind[:]):], uint16(h.left))
	return recordHeader
}

func (h *helloConn) read(p []byte) (int, error) {
	if len(h.ahead) == 0 {
		return h.Conn.Read(p)
	}
	n := copy(p, h.ahead)
	if h.ahead = h.ahead[n:]; len(h.ahead) == 0 {
		h.ahead = nil // an idle connection keeps no buffer
	}
	return n, nil
}
