//go:build !linux

package sse

import (
	"errors"
	"net"
	"net/http"
	"time"
)

// Poller watches hijacked connections. It exists on Linux only.
type Poller struct{}

// NewPoller returns nil: net/http writes all streams.
func NewPoller(time.Duration) (*Poller, error) { return nil, nil }

// Close does nothing.
func (p *Poller) Close() error { return nil }

func (p *Poller) hijack(http.Hijacker, http.Header, []byte) (Conn, error) {
	return nil, errors.ErrUnsupported
}

// Adopt takes a connection over from its owner, who must have ended its use and must not use it any more. early holds the bytes
// of it that were read already. Each connection costs a goroutine, and its writes block.
func (p *Poller) Adopt(conn net.Conn, early []byte) (Socket, error) {
	return newPipedSocket(conn, early), nil
}

// Listener returns ln: net/http writes all streams.
func Listener(ln net.Listener) net.Listener { return ln }
