package sse

import (
	"context"
	"errors"
	"net"
)

// piped is a Conn on a hijacked connection that gives no access to its socket. Some net.Listeners return
// such connections.
type piped struct {
	*response
	conn net.Conn
}

// newPiped starts a goroutine that reads the connection's input to notice its end, as a poller would.
// early is the number of bytes that the client has sent already.
func newPiped(conn net.Conn, early int) Conn {
	peer, ended := context.WithCancel(context.Background())
	go func() {
		defer ended()
		junk := make([]byte, maxEarly)
		for early <= maxEarly {
			n, err := conn.Read(junk)
			if err != nil {
				return
			}
			early += n
		}
	}()
	return &piped{conn: conn, response: &response{
		w: conn, flush: func() error { return nil }, deadline: conn.SetWriteDeadline,
		peer: peer, closed: make(chan struct{}),
	}}
}

func (c *piped) Serve() {
	c.response.Serve()
	_ = c.Close()
}

// Close also ends the goroutine that reads. A second Close has no effect: Serve closes the connection, too.
func (c *piped) Close() error {
	_ = c.response.Close()
	if err := c.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
