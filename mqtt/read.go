package mqtt

import (
	"github.com/mochi-mqtt/server/v2/packets"
)

// handle handles the packets at the start of b that have arrived completely. It returns how many bytes they have. An
// error ends the connection.
func (c *conn) handle(t *turn, b []byte) (used int, err error) {
	for err == nil {
		var h header
		if h, err = c.header(b[used:]); err != nil || h.size == 0 || len(b)-used < h.size+h.Remaining {
			break
		}
		body := b[used+h.size : used+h.size+h.Remaining]
		used += h.size + h.Remaining
		if err = c.packet(t, &h, body); err == nil && len(t.batch.answers) >= maxBatch {
			err = c.publishBatch(&t.batch)
		}
	}
	if failed := c.publishBatch(&t.batch); err == nil {
		err = failed
	}
	return used, err
}

// header decodes the fixed header at the start of b, and checks what it allows. Its size is 0 if it has not arrived.
func (c *conn) header(b []byte) (header, error) {
	h, err := readHeader(b)
	switch {
	case err != nil, len(b) == 0:
		return h, err
	case c.session == nil && h.Type != packets.Connect:
		return h, packets.ErrProtocolViolationRequireFirstConnect
	case c.session == nil && c.version == 0:
		_ = c.checkVersion(b[h.size:min(len(b), h.size+h.Remaining)]) // what has arrived may be enough
	}
	if h.size+h.Remaining > c.maxPacket() {
		if c.session == nil && c.version == 0 && len(b) < h.size+protocolSize {
			h.size = 0 // the client can be told when its version has arrived
			return h, nil
		}
		return h, packets.ErrPacketTooLarge
	}
	return h, nil
}

// protocolSize is how many bytes of a CONNECT tell its version: those of the protocol MQIsdp are the most.
const protocolSize = 2 + len("MQIsdp") + 1

// maxPacket returns the size of the largest packet that the client may send now.
func (c *conn) maxPacket() int {
	if c.session == nil {
		return maxConnect
	}
	return c.server.maxPacket()
}

// packet handles one packet.
func (c *conn) packet(t *turn, h *header, body []byte) error {
	if c.session == nil {
		return c.connect(body)
	}
	expired, err := wellFormed(h.Type, h.Qos, c.version, body)
	if err != nil {
		return err
	}
	pk := &t.pk
	*pk = packets.Packet{FixedHeader: h.FixedHeader, ProtocolVersion: c.version}
	if h.Type == packets.Publish {
		if err := pk.PublishDecode(body); err != nil {
			return err
		}
		return c.publish(&t.batch, pk, expired)
	}
	return c.control(t, pk, body)
}

// control handles a packet other than CONNECT and PUBLISH.
func (c *conn) control(t *turn, pk *packets.Packet, body []byte) error {
	if err := decoders[pk.FixedHeader.Type](pk, body); err != nil {
		return err
	}
	switch pk.FixedHeader.Type {
	case packets.Pingreq:
		c.send(pingresp)
		return nil
	case packets.Pubrel:
		return c.release(&t.batch, pk)
	case packets.Puback, packets.Pubrec, packets.Pubcomp:
		return c.session.packet(pk)
	}
	if err := c.publishBatch(&t.batch); err != nil { // a new subscription gets what was published before as retained only
		return err
	}
	if pk.FixedHeader.Type == packets.Disconnect {
		if len(body) == 1 {
			pk.ReasonCode = body[0] // the codec ignores it there
		}
		return c.disconnected(pk)
	}
	return c.session.packet(pk)
}

var pingresp = []byte{packets.Pingresp << 4, 0}

// decoders are the functions of the codec, for packets whose layout was checked.
var decoders = map[byte]func(*packets.Packet, []byte) error{
	packets.Puback:      (*packets.Packet).PubackDecode,
	packets.Pubrec:      (*packets.Packet).PubrecDecode,
	packets.Pubrel:      (*packets.Packet).PubrelDecode,
	packets.Pubcomp:     (*packets.Packet).PubcompDecode,
	packets.Subscribe:   (*packets.Packet).SubscribeDecode,
	packets.Unsubscribe: (*packets.Packet).UnsubscribeDecode,
	packets.Pingreq:     (*packets.Packet).PingreqDecode,
	packets.Disconnect:  (*packets.Packet).DisconnectDecode,
}
