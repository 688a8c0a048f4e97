package mqtt

import (
	"net"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/sse"
)

// conn is the connection of one client. It is the sse.Conn of its session's delivery stream.
type conn struct {
	server *Server
	net    net.Conn
	writer

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
}

// limits are what a client accepts.
type limits struct {
	receive     uint16 // messages of QoS 1 and 2 that it has not acknowledged
	packet      uint32 // bytes of a packet; 0: no limit
	aliases     uint16 // highest topic alias
	problemInfo bool   // reason strings and user properties in packets other than PUBLISH, CONNACK and DISCONNECT
}

var _ sse.Conn = (*conn)(nil)

// end disconnects the client: with a DISCONNECT packet if it speaks MQTT 5. It may be called by any goroutine.
func (c *conn) end(code packets.Code) { c.bye(disconnect(c.version, code)) }

// Watch implements sse.Conn.
func (c *conn) Watch(gone func(error)) {}

// Serve implements sse.Conn.
func (c *conn) Serve() {}
