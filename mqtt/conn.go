package mqtt

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/sse"
)

// conn is the connection of one client. It is the sse.Conn of its session's delivery stream.
type conn struct {
	server *Server
	writer
	input
	done end // the connection and its session have ended

	// Set by CONNECT, before the session opens.
	version   byte // 4: MQTT 3.1.1; 5: MQTT 5.0; 0: it has not arrived
	clientID  string
	remote    string        // the client's address
	key       string        // of the position of the client's session
	grant     *access.Grant // of its CONNECT; the session has the one in force
	limits    limits
	clean     bool          // Clean Start, or Clean Session of MQTT 3.1.1: the state of an earlier session is dropped
	expiry    time.Duration // how long the session's state is kept after the connection; <0: for ever
	keepAlive time.Duration // 0: the client promises none
	session   *session

	// Used by the turn.
	publisher *publisher // nil: the client has published nothing
	hasWill   bool
	willDelay time.Duration // of the will, unless the session expires before
	graceful  bool          // the client has said that its session ends here, without its will

	outrun   end                          // it waits for its session, and a newer connection does, too
	heard    atomic.Bool                  // its CONNECT has arrived
	admitted atomic.Bool                  // session is set
	leaving  atomic.Pointer[packets.Code] // see leave
	regrant  atomic.Pointer[access.Grant] // has replaced the grant; nil: the session knows
	gone     atomic.Pointer[func(error)]
}

// limits are what a client accepts.
type limits struct {
	receive     uint16 // messages of QoS 1 and 2 that it has not acknowledged
	packet      uint32 // bytes of a packet; 0: no limit
	aliases     uint16 // highest topic alias
	problemInfo bool   // reason strings and user properties in packets other than PUBLISH, CONNACK and DISCONNECT
}

// fits reports whether the client accepts a packet of a size.
func (l *limits) fits(size int) bool { return l.packet == 0 || size <= int(l.packet) }

var _ sse.Conn = (*conn)(nil)

func newConn(s *Server, socket sse.Socket, remote string) *conn {
	c := &conn{server: s, remote: remote}
	c.socket, c.writer.of = socket, c
	c.wake = c.begin
	return c
}

// uid returns the uid of the hub's session.
func (c *conn) uid() string { return c.key[len(sessionPrefix):] }

// unclogged is called when clogged would no longer report what it has reported. It does not wait.
func (c *conn) unclogged() { c.server.running.Go(c.session.resumeShares) }

// finish ends the session, if there is one, after the connection has ended.
func (c *conn) finish(err error) {
	defer c.done.reach()
	if c.session != nil { // first, since a stream that only begins ends as soon as the connection is closed
		if c.graceful && c.hasWill {
			c.session.listener.Farewell()
		}
		c.session.keep() // the DISCONNECT may have changed it
	}
	_ = c.writer.Close()
	c.drop()
	c.part, c.ahead = nil, nil // deadlines may know the connection for some seconds
	_ = c.unheard.hold(c.server, 0)
	if c.session == nil {
		return
	}
	if gone := c.gone.Load(); gone != nil {
		(*gone)(err)
	}
	c.session.close()
	if c.expiry == 0 {
		c.server.forgetReceived(c.uid())
	}
	c.server.hub.MQTT().Connections.Add(-1)
	c.server.release(c)
}

// end disconnects the client: with a DISCONNECT packet if it speaks MQTT 5. Any goroutine may call it.
func (c *conn) end(code packets.Code) {
	if c.admitted.Load() { // otherwise it has no version yet
		c.bye(c.disconnect(code))
	}
	_ = c.Close()
}

// leave disconnects the client as end does, but not before everything is handled that has arrived. A DISCONNECT may be
// among it. It returns false if the client leaves already.
func (c *conn) leave(code packets.Code) bool {
	first := c.leaving.CompareAndSwap(nil, &code)
	c.begin()
	return first
}

// regranted tells that another grant has replaced the client's. A turn passes it to the session.
func (c *conn) regranted(g *access.Grant) {
	c.regrant.Store(g)
	c.begin()
}

// Close implements sse.Conn. A turn ends the session.
func (c *conn) Close() error {
	err := c.writer.Close()
	if giveUp := c.giveUp.Load(); giveUp != nil {
		(*giveUp)()
	}
	c.begin()
	return err
}

// disconnected handles a DISCONNECT of the client. It returns io.EOF, or the error with which the connection ends.
func (c *conn) disconnected(pk *packets.Packet) error {
	p, delay := &pk.Properties, c.delayOfWill()
	if p.SessionExpiryIntervalFlag {
		if c.expiry == 0 && p.SessionExpiryInterval > 0 {
			return packets.ErrProtocolViolationZeroNonZeroExpiry
		}
		c.expiry = expiryOf(p.SessionExpiryInterval)
	}
	c.graceful = pk.ReasonCode == packets.CodeDisconnect.Code // with any other, the will is sent (MQTT 5.0, 3.1.2.5)
	if c.hasWill && !c.graceful && c.delayOfWill() > delay {
		if err := c.server.hub.DelayWill(c.uid(), c.delayOfWill()); err != nil {
			c.server.opts.Logger.Error("changing the delay of a last will failed", "uid", c.uid(), "error", err)
		}
	}
	return io.EOF
}

// whyEnded returns the reason for which the hub's session ends, if it ends with the connection.
func (c *conn) whyEnded() sessions.Reason {
	if c.graceful {
		return sessions.Ended
	}
	return sessions.Closed
}

// address returns the client's address without its port.
func (c *conn) address() string {
	host, _, err := net.SplitHostPort(c.remote)
	if err != nil {
		return c.remote
	}
	return host
}

// Watch implements sse.Conn.
func (c *conn) Watch(gone func(error)) {
	c.gone.Store(&gone)
	if c.isClosed() { // finish may have looked before
		gone(io.EOF)
	}
}

// Serve implements sse.Conn.
func (c *conn) Serve() {}
