package mqtt

import "github.com/mochi-mqtt/server/v2/packets"

// session is what a client has subscribed to, and how far it has read.
type session struct{}

// open returns the session of a client that has been admitted: the one that was kept, unless the client wants a clean
// one. No other connection uses the session then. An error is a packets.Code for the CONNACK.
func (s *Server) open(c *conn) (x *session, present bool, err error) { return &session{}, false, nil }

// start begins to deliver. The CONNACK is queued already.
func (x *session) start() {}

// packet answers a SUBSCRIBE, UNSUBSCRIBE, PUBACK, PUBREC or PUBCOMP. It does not keep pk or its parts. An error is a
// packets.Code, with which the connection ends.
func (x *session) packet(pk *packets.Packet) error { return nil }

// close ends delivery, and keeps the session for conn.expiry. The connection is closed already.
func (x *session) close() {}
