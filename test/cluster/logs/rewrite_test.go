//go:build !windows

package logs

import (
	"net"

	"github.com/watchbox-go/watchbox/store/jetstream"
)

// rewrite is a dialer that changes what its hub sends. It may be called concurrently.
type rewrite func([]byte) []byte

// Dial implements jetstream.Dialer.
func (r rewrite) Dial(network, address string) (net.Conn, error) {
	return r.over(&net.Dialer{}).Dial(network, address)
}

// over is a rewrite of the connections of another dialer.
func (r rewrite) over(d jetstream.Dialer) jetstream.Dialer { return rewriteOver{d, r} }

type rewriteOver struct {
	jetstream.Dialer
	rewrite
}

// Dial implements jetstream.Dialer.
func (r rewriteOver) Dial(network, address string) (net.Conn, error) {
	c, err := r.Dialer.Dial(network, address)
	return &rewriting{c, r.rewrite}, err
}

type rewriting struct {
	net.Conn
	rewrite rewrite
}

// Write implements net.Conn.
func (c *rewriting) Write(b []byte) (int, error) {
	if _, err := c.Conn.Write(c.rewrite(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}
