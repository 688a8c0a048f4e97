package sse

import (
	"context"
	"net"
)

// piped is a response on a connection that was taken over and hides its socket, as those of some
// listeners do.
type piped struct {
	*response
	conn net.Conn
}

// newPiped reads the connection's input to hear of its end, as a poller would. Early is how much
// of it there was.
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

func (c *piped) Serve(gone func(error)) {
	c.response.Serve(gone)
	_ = c.Close()
}

// Close ends the goroutine that reads, too.
func (c *piped) Close() error {
	_ = c.response.Close()
	return c.conn.Close()
}
