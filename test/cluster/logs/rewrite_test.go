//go:build !windows

package logs

import "net"

// rewrite is a dialer that changes what its hub sends. It may be called concurrently.
type rewrite func([]byte) []byte

// Dial implements jetstream.Dialer.
func (r rewrite) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &rewriting{c, r}, err
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
