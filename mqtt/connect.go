package mqtt

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
)

// What the server tells in its CONNACK.
const (
	receiveMaximum3 = 1024 // the same for MQTT 3.1.1, which cannot tell the client
	receiveMaximum  = 256  // messages of QoS 1 and 2 that a client may send before one is acknowledged
	aliasMaximum    = 16   // highest topic alias of a client
	maxConnect      = 16 << 10
	connectTimeout  = 5 * time.Second // until the CONNECT of a connection must have arrived
	sessionForEver  = 1<<32 - 1       // session expiry interval of MQTT 5
	maxPacketExtras = 64 << 10        // bytes of a packet besides the payload
)

// connect admits a client with its CONNECT, opens its session and answers. An error ends the connection; the client
// has been told.
func (c *conn) connect(body []byte) error {
	c.heard.Store(true)
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect, Remaining: len(body)}}
	expired, err := c.readConnect(&pk, body)
	if err == nil {
		err = c.admit(&pk, expired)
	}
	if err == nil {
		return nil
	}
	m := meaningOf(err)
	if m.code == packets.ErrUnspecifiedError {
		c.server.opts.Logger.Error("an MQTT client was not admitted", "remote", c.remote, "error", err)
	}
	c.bye(c.refusal(m.tell(err)))
	return err
}

// readConnect decodes a CONNECT and checks it. expired says that its will expires as soon as it is sent.
func (c *conn) readConnect(pk *packets.Packet, body []byte) (expired bool, err error) {
	if err := c.checkVersion(body); err != nil {
		return false, err
	}
	r := fields{b: body}
	r.connect()
	if err := r.end(); err != nil {
		return false, err
	}
	if err := pk.ConnectDecode(body); err != nil {
		return false, err
	}
	c.limits = limitsOf(&pk.Properties, c.version)
	in := &pk.Connect
	switch {
	case pk.ReservedBit != 0, in.WillQos > 2, !in.WillFlag && (in.WillRetain || in.WillQos > 0):
		return false, packets.ErrMalformedFlags
	case c.version < 5 && in.PasswordFlag && !in.UsernameFlag: // MQTT 3.1.1, 3.1.2-22
		return false, packets.ErrMalformedFlags
	case strings.ContainsAny(in.WillProperties.ResponseTopic, "+#"):
		return false, packets.ErrProtocolViolation
	case pk.Properties.AuthenticationMethod != "":
		return false, packets.ErrBadAuthenticationMethod
	case len(pk.Properties.AuthenticationData) > 0:
		return false, packets.ErrProtocolViolation
	case c.version < 5 && in.ClientIdentifier == "" && !in.Clean: // MQTT 3.1.1, 3.1.3-8
		return false, packets.ErrClientIdentifierNotValid
	}
	return r.expired, nil
}

// checkVersion returns an error unless a CONNECT is of MQTT 3.1.1 or 5.0.
func (c *conn) checkVersion(body []byte) error {
	r := fields{b: body}
	name, version := string(r.binary()), r.byte()
	switch {
	case r.err != nil:
		return r.err
	case name == "MQTT" && version >= 5:
		c.version = 5 // later versions understand its CONNACK
	case name == "MQTT", name == "MQIsdp":
		c.version = 4
	default:
		return packets.ErrProtocolViolationProtocolName
	}
	if name != "MQTT" || version != c.version {
		return packets.ErrUnsupportedProtocolVersion
	}
	return nil
}

// admit authenticates the client, takes the session over from an older connection, and answers with CONNACK.
func (c *conn) admit(pk *packets.Packet, expired bool) (err error) {
	in := &pk.Connect
	c.clientID = strings.Clone(in.ClientIdentifier)
	if c.clientID == "" {
		c.clientID = "auto-" + rand.Text()
	}
	if c.grant, err = c.server.authenticate(c, in); err != nil {
		return err
	}
	c.key = sessionPrefix + sessions.ClientUID(namespace(c.grant), c.grant.Subject, c.clientID)
	c.grant = c.grant.For(c.uid())
	c.clean = in.Clean
	c.expiry = expiry(pk)
	c.keepAlive = time.Duration(in.Keepalive) * time.Second
	if most := c.server.opts.MaxKeepAlive; c.version == 5 && (c.keepAlive == 0 || c.keepAlive > most) {
		c.keepAlive = most
	}
	if c.acceptance(pk, false) == nil {
		return packets.ErrPacketTooLarge
	}
	if err := c.server.hold(c); err != nil {
		return err
	}
	x, present, err := c.server.open(c)
	if err != nil {
		c.server.release(c)
		return err
	}
	if err = c.restoreReceived(present); err == nil && c.expiry != 0 && (!present || x.exact() && !x.unsure) {
		// After a crash, the session must be found, and must say that the client may hold packet ids. Otherwise the client would
		// take new messages with these ids for repetitions.
		err = x.store()
	}
	if err == nil && (in.WillFlag || present) { // last: a client that is refused has no will
		err = c.setWill(pk, expired)
	}
	if err != nil {
		c.graceful = true
		if !present { // nothing is kept
			c.expiry = 0
			x.listener.Farewell()
			x.keep()
		}
		x.close()
		c.server.release(c)
		return err
	}
	c.session = x
	c.admitted.Store(true)
	c.server.hub.MQTT().Connections.Add(1)
	c.send(c.acceptance(pk, present))
	x.start()
	return nil
}

// namespace returns what client ids are unique in, together with the subject. Anonymous callers cannot take over the session
// of a caller whose token has no subject.
func namespace(g *access.Grant) string {
	if g.Subject == "" && !g.Anonymous && g != access.Everything {
		return "mqtt-token"
	}
	return "mqtt"
}

// restoreReceived restores which messages of QoS 2 were received and not released, if the session goes on. The hub has read what
// earlier connections at any hub have stored: it has claimed the session's position, which is behind that in the log.
func (c *conn) restoreReceived(present bool) error {
	if !present {
		return c.server.hub.SetClientNote(c.server.ctx, c.uid(), nil)
	}
	if ids := readIDs(c.server.hub.ClientNote(c.uid())); len(ids) > 0 {
		c.publisher = &publisher{received: ids, before: slices.Clone(ids)}
	}
	return nil
}

// setWill sets the session's will, or removes the one that an earlier connection has left.
func (c *conn) setWill(pk *packets.Packet, expired bool) error {
	in, props := &pk.Connect, &pk.Connect.WillProperties
	if !in.WillFlag {
		return c.clearWill()
	}
	name, err := groupOf(strings.Clone(in.WillTopic)) // the will outlives the packet
	if err != nil {
		return err
	}
	d, err := draft(name, in.WillPayload, in.WillQos, props, expired)
	if err != nil {
		return err
	}
	d.UID, d.Retain = c.uid(), in.WillRetain
	c.hasWill, c.willDelay = true, min(time.Duration(props.WillDelayInterval)*time.Second, hub.WillDelays.Most)
	return c.server.hub.SetHoldingWill(c.server.ctx, c.grant, c.uid(), &d, c.delayOfWill())
}

// delayOfWill returns how long after the end of the connection the will is sent: no later than the session expires.
func (c *conn) delayOfWill() time.Duration {
	if c.expiry >= 0 {
		return min(c.willDelay, c.expiry)
	}
	return c.willDelay
}

// clearWill removes the session's will.
func (c *conn) clearWill() error {
	c.hasWill = false
	if err := c.server.hub.ClearWill(c.uid()); err != nil && !errors.Is(err, sessions.ErrUnknown) {
		return err
	}
	return nil
}

// authenticate returns the grant of a client.
func (s *Server) authenticate(c *conn, in *packets.ConnectParams) (*access.Grant, error) {
	if s.opts.Authenticate == nil {
		return access.Everything, nil
	}
	g, err := s.opts.Authenticate(s.ctx, &Login{
		UserName: string(in.Username), ClientID: c.clientID, Password: string(in.Password), Remote: c.remote,
	})
	switch {
	case err == nil && g.Anonymous && g.IsEmpty():
		err = errNoPassword
	case errors.Is(err, access.ErrInvalid), errors.Is(err, access.ErrExpired), errors.Is(err, access.ErrRevoked):
		err = packets.Code{Code: packets.ErrBadUsernameOrPassword.Code, Reason: err.Error()}
	}
	return g, err
}

var errNoPassword = packets.Code{Code: packets.ErrNotAuthorized.Code, Reason: "a token is needed: send it as the password"}

// expiry returns how long a client wants its session to be kept; <0: for ever.
func expiry(pk *packets.Packet) time.Duration {
	switch {
	case pk.ProtocolVersion == 5:
		return expiryOf(pk.Properties.SessionExpiryInterval)
	case pk.Connect.Clean:
		return 0
	}
	return -1
}

// expiryOf returns the duration of a session expiry interval.
func expiryOf(seconds uint32) time.Duration {
	if seconds == sessionForEver {
		return -1
	}
	return time.Duration(seconds) * time.Second
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

// acceptance returns the CONNACK for an admitted client, which tells it the limits.
func (c *conn) acceptance(in *packets.Packet, present bool) []byte {
	out := packets.Packet{SessionPresent: present}
	p := &out.Properties
	p.ReceiveMaximum, p.TopicAliasMaximum = receiveMaximum, aliasMaximum
	p.MaximumPacketSize = uint32(c.server.maxPacket())
	if in.Connect.ClientIdentifier == "" {
		p.AssignedClientID = c.clientID
	}
	if seconds := uint16(c.keepAlive / time.Second); seconds != in.Connect.Keepalive {
		p.ServerKeepAlive, p.ServerKeepAliveFlag = seconds, true
	}
	return c.connack(&out)
}

// refusal returns the CONNACK for a client that is not admitted, or nil if its version of MQTT has none for the code, or it does
// not accept one of its size.
func (c *conn) refusal(code packets.Code) []byte {
	out := packets.Packet{ReasonCode: code.Code}
	if c.version == 5 {
		switch code.Code { // CONNACK does not have these
		case packets.ErrServerShuttingDown.Code:
			out.ReasonCode = packets.ErrServerUnavailable.Code
		case packets.ErrTopicAliasInvalid.Code: // of a property that CONNECT does not have either
			out.ReasonCode = packets.ErrMalformedPacket.Code
		}
		out.Properties.ReasonString = code.Reason
		return c.connack(&out)
	}
	if out.ReasonCode = oldCodes[code.Code]; out.ReasonCode == 0 {
		return nil
	}
	return c.connack(&out)
}

// oldCodes are the return codes of MQTT 3.1.1 for reason codes.
var oldCodes = map[byte]byte{
	packets.ErrUnsupportedProtocolVersion.Code: 1,
	packets.ErrClientIdentifierNotValid.Code:   2,
	packets.ErrServerUnavailable.Code:          3,
	packets.ErrServerBusy.Code:                 3,
	packets.ErrServerShuttingDown.Code:         3,
	packets.ErrQuotaExceeded.Code:              3,
	packets.ErrUnspecifiedError.Code:           3,
	packets.ErrBadUsernameOrPassword.Code:      4,
	packets.ErrNotAuthorized.Code:              5,
}

// connack returns a CONNACK in the client's version, or nil if the client does not accept one of its size.
func (c *conn) connack(pk *packets.Packet) []byte {
	pk.FixedHeader.Type = packets.Connack
	return c.encode(pk, (*packets.Packet).ConnackEncode)
}
