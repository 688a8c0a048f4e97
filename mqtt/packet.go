package mqtt

import (
	"bytes"
	"errors"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// header is a fixed header (MQTT 5.0, section 2.1).
type header struct {
	packets.FixedHeader
	size int // of the header itself
}

// readHeader decodes the fixed header at the start of b. Its size is 0 if b is too short.
func readHeader(b []byte) (h header, err error) {
	if len(b) == 0 {
		return h, nil
	}
	switch err := h.Decode(b[0]); {
	case errors.Is(err, packets.ErrProtocolViolationQosOutOfRange), h.Type == packets.Reserved: // MQTT 5.0, 3.3.1-4
		return h, packets.ErrMalformedFlags
	case err != nil:
		return h, err
	}
	length, size := varint(b[1:])
	switch {
	case size < 0:
		return h, packets.ErrMalformedVariableByteInteger
	case size > 0:
		h.Remaining, h.size = length, 1+size
	}
	return h, nil
}

// appendHeader appends a fixed header.
func appendHeader(b []byte, first byte, length int) []byte {
	b = append(b, first)
	for length >= 0x80 {
		b = append(b, byte(length)|0x80)
		length >>= 7
	}
	return append(b, byte(length))
}

// appendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP. MQTT 3.1.1 has no reason codes. why is left out if it is "".
func appendAck(b []byte, version, kind byte, id uint16, code byte, why string) []byte {
	first := kind << 4
	if kind == packets.Pubrel {
		first |= 2
	}
	switch {
	case version < 5, code == 0 && why == "":
		return append(appendHeader(b, first, 2), byte(id>>8), byte(id))
	case why == "":
		return append(appendHeader(b, first, 3), byte(id>>8), byte(id), code)
	}
	why = strings.ToValidUTF8(why[:min(len(why), maxReason)], "")
	properties := 3 + len(why)
	b = append(appendHeader(b, first, 4+properties), byte(id>>8), byte(id), code)
	b = append(b, byte(properties), packets.PropReasonString, 0, byte(len(why)))
	return append(b, why...)
}

// maxReason is how many bytes of a reason string are sent, and ackWithReason how many bytes an acknowledgement has besides.
const (
	maxReason     = 120
	ackWithReason = 9
)

// encode returns a packet's bytes.
func encode(pk *packets.Packet, do func(*packets.Packet, *bytes.Buffer) error) []byte {
	var b bytes.Buffer
	if err := do(pk, &b); err != nil {
		panic("mqtt: encoding a packet: " + err.Error()) // impossible: only a packet id of 0 is refused
	}
	return b.Bytes()
}

// encode returns the bytes of a packet in the client's version. It leaves out the reason string if the client does not accept the
// packet with it, and returns nil if it does not accept the packet at all.
func (c *conn) encode(pk *packets.Packet, do func(*packets.Packet, *bytes.Buffer) error) []byte {
	pk.ProtocolVersion = c.version
	b := encode(pk, do)
	if pk.Properties.ReasonString != "" && !c.limits.fits(len(b)) {
		pk.Properties.ReasonString = ""
		b = encode(pk, do)
	}
	if !c.limits.fits(len(b)) {
		return nil
	}
	return b
}

// disconnect returns a DISCONNECT for an MQTT 5 client, and nil for others.
func (c *conn) disconnect(code packets.Code) []byte {
	if c.version < 5 {
		return nil
	}
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: code.Code,
		Properties: packets.Properties{ReasonString: code.Reason},
	}
	return c.encode(&pk, (*packets.Packet).DisconnectEncode)
}
