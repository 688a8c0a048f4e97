package mqtt

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/sse"
)

// conn is the connection of one client. It is the sse.Conn of its session's delivery stream.
type conn struct {
	server *Server
	net    net.Conn
	writer
	done chan struct{} // closed when the connection and its session have ended

	// Set by CONNECT, before the session opens.
	version   byte // 4: MQTT 3.1.1; 5: MQTT 5.0; 0: no CONNECT has arrived
	clientID  string
	uid       string // of the hub's session
	grant     *access.Grant
	limits    limits
	clean     bool          // Clean Start, or Clean Session of MQTT 3.1.1: the state of an earlier session is dropped
	expiry    time.Duration // how long the session's state is kept after the connection; <0: for ever
	keepAlive time.Duration // 0: the client promises none
	session   *session

	// Used by the goroutine that reads.
	sender               hub.Sender
	received             []uint16 // ids of messages of QoS 2 that were received and not released
	aliases              []string // topics of the client, by alias-1
	lastTopic, lastGroup string   // of the newest message
	hasWill              bool
	graceful             bool // the client has said that its session ends here, without its will

	admitted atomic.Bool                 // session is set
	gone     atomic.Pointer[func(error)] // set by Watch
	left     sync.Once                   // calls gone
}

// limits are what a client accepts.
type limits struct {
	receive     uint16 // messages of QoS 1 and 2 that it has not acknowledged
	packet      uint32 // bytes of a packet; 0: no limit
	aliases     uint16 // highest topic alias
	problemInfo bool   // reason strings and user properties in packets other than PUBLISH, CONNACK and DISCONNECT
}

var _ sse.Conn = (*conn)(nil)

// readBuffer is how many bytes are read at once.
const readBuffer = 16 << 10

// run serves the client until the connection ends.
func (c *conn) run() {
	defer close(c.done)
	err := c.read()
	if code, ok := errors.AsType[packets.Code](err); ok && c.session != nil {
		c.end(code)
	}
	c.finish(err)
}

// read reads and handles packets until the connection ends.
func (c *conn) read() error {
	_ = c.net.SetReadDeadline(time.Now().Add(c.server.opts.connectTimeout)) // an error: then it is closed, and the read fails
	t := turns.Get().(*turn)
	defer turns.Put(t)
	b := make([]byte, 0, readBuffer)
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := c.net.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			return err
		}
		before := c.session
		used, err := c.handle(t, b)
		if failed := c.flush(); err == nil {
			err = failed
		}
		if err != nil {
			return err
		}
		if before == nil && c.session != nil {
			_ = c.net.SetReadDeadline(time.Time{})
		}
		if used > 0 && c.session != nil {
			_ = c.server.hub.SignOfLife(c.uid, c.grant) // an error: its stream has ended
		}
		b = b[:copy(b, b[used:])]
	}
}

// finish ends the session, if there is one, after the connection has ended.
func (c *conn) finish(err error) {
	_ = c.Close()
	if c.session == nil {
		return
	}
	c.leave(err)
	if c.graceful && c.hasWill {
		if err := c.clearWill(); err != nil {
			c.server.opts.Logger.Error("removing the last will of an MQTT client failed", "uid", c.uid, "error", err)
		}
	}
	c.session.close()
	c.server.release(c)
}

// leave tells the delivery stream that the client has left.
func (c *conn) leave(err error) {
	if gone := c.gone.Load(); gone != nil {
		c.left.Do(func() { (*gone)(err) })
	}
}

// end disconnects the client: with a DISCONNECT packet if it speaks MQTT 5. Any goroutine may call it.
func (c *conn) end(code packets.Code) {
	if !c.admitted.Load() { // it has no version yet
		_ = c.Close()
		return
	}
	c.bye(c.disconnect(code))
}

// disconnected handles a DISCONNECT of the client. It returns io.EOF, or the error with which the connection ends.
func (c *conn) disconnected(pk *packets.Packet) error {
	p := &pk.Properties
	if p.SessionExpiryIntervalFlag {
		if c.expiry == 0 && p.SessionExpiryInterval > 0 {
			return packets.ErrProtocolViolationZeroNonZeroExpiry
		}
		c.expiry = expiryOf(p.SessionExpiryInterval)
	}
	c.graceful = pk.ReasonCode != packets.CodeDisconnectWillMessage.Code
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
	host, _, err := net.SplitHostPort(c.remote())
	if err != nil {
		return c.remote()
	}
	return host
}

// remote returns the client's address.
func (c *conn) remote() string { return c.net.RemoteAddr().String() }

// Watch implements sse.Conn.
func (c *conn) Watch(gone func(error)) { c.gone.Store(&gone) }

// Serve implements sse.Conn.
func (c *conn) Serve() {}

// blocking is a socket whose writes wait.
type blocking struct{ net.Conn }

// byeTimeout is how long the last packet to a client may take.
const byeTimeout = time.Second

func (s blocking) TryWrite(p []byte) (int, error) {
	_ = s.SetWriteDeadline(time.Now().Add(byeTimeout))
	return s.Conn.Write(p)
}
func (s blocking) Blocking() bool    { return true }
func (s blocking) Watch(func(error)) {}
func (s blocking) Serve()            {}
