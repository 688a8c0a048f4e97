//go:build !linux

package sse

import (
	"errors"
	"net/http"
	"time"
)

// Poller is for connections that are taken over, which only Linux does here.
type Poller struct{}

// NewPoller returns nil: every connection is served by a goroutine.
func NewPoller(time.Duration) (*Poller, error) { return nil, nil }

// Close does nothing.
func (p *Poller) Close() error { return nil }

func (p *Poller) hijack(http.Hijacker, http.Header, []byte) (Conn, error) {
	return nil, errors.ErrUnsupported
}
