package mqtt

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	sessions "github.com/watchbox-go/watchbox/internal/session"
)

// What the server tells in its CONNACK.
const (
	receiveMaximum  = 256 // messages of QoS 1 and 2 that a client may send before one is acknowledged
	aliasMaximum    = 16  // highest topic alias of a client
	maxConnect      = 16 << 10
	connectTimeout  = 5 * time.Second
	sessionForEver  = 1<<32 - 1 // session expiry interval of MQTT 5
	maxPacketExtras = 64 << 10  // bytes of a packet besides the payload
)

// connect admits a client with its CONNECT, opens its session and answers. An error ends the connection; the client
// has been told.
func (c *conn) connect(body []byte) error {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect, Remaining: len(body)}}
	err := c.readConnect(&pk, body)
	if err == nil {
		err = c.admit(&pk)
	}
	if err != nil {
		c.send(c.connack(&packets.Packet{ReasonCode: codeOf(err).Code}, codeOf(err).Reason))
		return err
	}
	return nil
}

// readConnect decodes a CONNECT and checks it.
func (c *conn) readConnect(pk *packets.Packet, body []byte) error {
	if err := checkVersion(body); err != nil {
		return err
	}
	r := fields{b: body}
	r.connect()
	if err := r.end(); err != nil {
		return err
	}
	if err := pk.ConnectDecode(body); err != nil {
		return err
	}
	c.version = pk.ProtocolVersion
	in := &pk.Connect
	switch {
	case pk.ReservedBit != 0, in.WillQos > 2, !in.WillFlag && (in.WillRetain || in.WillQos > 0):
		return packets.ErrMalformedFlags
	case c.version < 5 && in.PasswordFlag && !in.UsernameFlag: // MQTT 3.1.1, 3.1.2-22
		return packets.ErrMalformedFlags
	case pk.Properties.AuthenticationMethod != "":
		return packets.ErrBadAuthenticationMethod
	case len(pk.Properties.AuthenticationData) > 0:
		return packets.ErrProtocolViolation
	case c.version < 5 && in.ClientIdentifier == "" && !in.Clean: // MQTT 3.1.1, 3.1.3-8
		return packets.ErrClientIdentifierNotValid
	}
	return nil
}

// checkVersion returns an error unless a CONNECT is of MQTT 3.1.1 or 5.0.
func checkVersion(body []byte) error {
	r := fields{b: body}
	name, version := string(r.binary()), r.byte()
	switch {
	case r.err != nil:
		return r.err
	case name == "MQIsdp", name == "MQTT" && version != 4 && version != 5:
		return packets.ErrUnsupportedProtocolVersion
	case name != "MQTT":
		return packets.ErrProtocolViolationProtocolName
	}
	return nil
}

// admit authenticates the client, takes the session over from an older connection, and answers with CONNACK.
func (c *conn) admit(pk *packets.Packet) (err error) {
	in, props := &pk.Connect, &pk.Properties
	c.clientID = strings.Clone(in.ClientIdentifier)
	if c.clientID == "" {
		c.clientID = "auto-" + rand.Text()
	}
	if c.grant, err = c.server.authenticate(c, in); err != nil {
		return err
	}
	c.uid = sessions.ClientUID("mqtt", c.grant.Subject, c.clientID)
	c.grant = c.grant.For(c.uid)
	c.clean = in.Clean
	c.expiry = expiry(pk)
	c.limits = limitsOf(props, c.version)
	c.keepAlive = time.Duration(in.Keepalive) * time.Second
	if most := c.server.opts.MaxKeepAlive; c.version == 5 && (c.keepAlive == 0 || c.keepAlive > most) {
		c.keepAlive = most
	}
	return nil
}

// authenticate returns the grant of a client.
func (s *Server) authenticate(c *conn, in *packets.ConnectParams) (*access.Grant, error) {
	if s.opts.Authenticate == nil {
		return access.Everything, nil
	}
	return s.opts.Authenticate(context.Background(), &Login{
		UserName: string(in.Username), ClientID: c.clientID, Password: string(in.Password), Remote: c.net.RemoteAddr().String(),
	})
}

// expiry returns how long a client wants its session to be kept.
func expiry(pk *packets.Packet) time.Duration {
	switch {
	case pk.ProtocolVersion < 5 && pk.Connect.Clean:
		return 0
	case pk.ProtocolVersion < 5, pk.Properties.SessionExpiryInterval == sessionForEver:
		return -1
	}
	return time.Duration(pk.Properties.SessionExpiryInterval) * time.Second
}

// limitsOf returns what a client accepts.
func limitsOf(p *packets.Properties, version byte) limits {
	l := limits{receive: p.ReceiveMaximum, packet: p.MaximumPacketSize, aliases: p.TopicAliasMaximum}
	if l.receive == 0 {
		l.receive = 1<<16 - 1
	}
	l.problemInfo = version == 5 && (!p.RequestProblemInfoFlag || p.RequestProblemInfo == 1)
	return l
}

// connack returns a CONNACK in the client's version.
func (c *conn) connack(pk *packets.Packet, reason string) []byte { return nil }
