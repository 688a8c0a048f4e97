package mqtt

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

// wellFormed returns an error, which is a packets.Code, unless a packet from a client has the layout that its type
// requires. It checks what the codec does not: that fields end where the packet ends, that properties end where their
// length says and do not appear twice, and the values of options. body is the packet without its fixed header. expired reports a
// message expiry interval of 0, which the codec takes for none.
func wellFormed(kind, qos, version byte, body []byte) (expired bool, err error) {
	r := fields{b: body, v5: version == 5}
	switch kind {
	case packets.Publish:
		r.publish(qos)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		r.acknowledgement(kind)
	case packets.Subscribe:
		r.subscribe()
	case packets.Unsubscribe:
		r.unsubscribe()
	case packets.Disconnect:
		r.disconnect()
	case packets.Pingreq:
	default: // those of servers; AUTH without a method in CONNECT; a second CONNECT
		return false, packets.ErrProtocolViolation
	}
	return r.expired, r.end()
}

// fields reads the fields of a packet. After an error it reads zeros.
type fields struct {
	b       []byte
	v5      bool
	expired bool // there was a message expiry interval of 0
	err     error
}

func (r *fields) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// end returns the error, if there was one. Bytes that are left over are one.
func (r *fields) end() error {
	if r.err == nil && len(r.b) > 0 {
		return packets.ErrMalformedPacket
	}
	return r.err
}

func (r *fields) take(n int) []byte {
	if n > len(r.b) {
		r.fail(packets.ErrMalformedPacket)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *fields) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *fields) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *fields) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// binary reads data with its length in front.
func (r *fields) binary() []byte { return r.take(int(r.uint16())) }

// text reads a string (MQTT 5.0, section 1.5.4).
func (r *fields) text() []byte {
	b := r.binary()
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		r.fail(packets.ErrMalformedInvalidUTF8)
	}
	return b
}

// varint reads a variable byte integer.
func (r *fields) varint() int {
	n, size := varint(r.b)
	if size <= 0 {
		r.fail(packets.ErrMalformedVariableByteInteger)
		return 0
	}
	r.take(size)
	return n
}

// varint decodes a variable byte integer and returns its size: 0 if b is too short, and -1 if it is longer than 4 bytes.
func varint(b []byte) (n, size int) {
	for i := range 4 {
		if i == len(b) {
			return 0, 0
		}
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, i + 1
		}
	}
	return 0, -1
}

// packetID reads the id of a packet.
func (r *fields) packetID() {
	if r.uint16() == 0 {
		r.fail(packets.ErrProtocolViolationNoPacketID)
	}
}

func (r *fields) connect() {
	r.text() // the protocol's name
	r.v5 = r.byte() == 5
	flags := r.byte()
	r.uint16() // keep alive
	r.properties()
	r.text() // client id
	if flags&0x04 != 0 {
		r.properties()
		r.text() // topic of the will
		r.binary()
	}
	if flags&0x80 != 0 {
		r.text() // user name
	}
	if flags&0x40 != 0 {
		r.binary() // password
	}
}

func (r *fields) publish(qos byte) {
	r.text() // topic
	if qos > 0 {
		r.packetID()
	}
	r.properties()
	r.b = nil // the payload
}

func (r *fields) acknowledgement(kind byte) {
	r.packetID()
	if !r.v5 || len(r.b) == 0 {
		return
	}
	r.reason(kind)
	if len(r.b) > 0 {
		r.properties()
	}
}

func (r *fields) subscribe() {
	r.packetID()
	r.properties()
	if len(r.b) == 0 {
		r.fail(packets.ErrProtocolViolationNoFilters)
	}
	for len(r.b) > 0 {
		r.text()
		options := r.byte()
		switch {
		case options&3 == 3, options&0xc0 != 0, !r.v5 && options > 2:
			r.fail(packets.ErrMalformedQos)
		case options&0x30 == 0x30: // Retain Handling 3
			r.fail(packets.ErrProtocolViolation)
		}
	}
}

func (r *fields) unsubscribe() {
	r.packetID()
	r.properties()
	if len(r.b) == 0 {
		r.fail(packets.ErrProtocolViolationNoFilters)
	}
	for len(r.b) > 0 {
		r.text()
	}
}

func (r *fields) disconnect() {
	if !r.v5 || len(r.b) == 0 {
		return
	}
	r.reason(packets.Disconnect)
	if len(r.b) > 0 {
		r.properties()
	}
}

// reason reads the reason code of a packet of a type.
func (r *fields) reason(kind byte) {
	if !hasReason(kind, r.byte()) {
		r.fail(packets.ErrProtocolViolationInvalidReason)
	}
}

// properties reads properties (MQTT 5.0, section 2.2.2), which earlier versions do not have. The codec checks which
// packets they are allowed in.
func (r *fields) properties() {
	if !r.v5 {
		return
	}
	in := fields{b: r.take(r.varint())}
	seen := uint64(0)
	for r.err == nil && len(in.b) > 0 {
		id := in.byte()
		if id != packets.PropUser && seen>>id&1 != 0 {
			in.fail(packets.ErrProtocolViolation)
		}
		seen |= 1 << id
		in.property(id)
		if in.err != nil {
			r.fail(in.err)
		}
	}
	r.expired = r.expired || in.expired
}

// property reads the value of a property.
func (r *fields) property(id byte) {
	switch id {
	case packets.PropPayloadFormat, packets.PropRequestProblemInfo, packets.PropRequestResponseInfo:
		if r.byte() > 1 {
			r.fail(packets.ErrProtocolViolation)
		}
	case packets.PropMessageExpiryInterval:
		r.expired = r.uint32() == 0
	case packets.PropSessionExpiryInterval, packets.PropWillDelayInterval:
		r.uint32()
	case packets.PropMaximumPacketSize:
		if r.uint32() == 0 {
			r.fail(packets.ErrProtocolViolation)
		}
	case packets.PropReceiveMaximum:
		if r.uint16() == 0 {
			r.fail(packets.ErrProtocolViolation)
		}
	case packets.PropTopicAlias:
		if r.uint16() == 0 {
			r.fail(packets.ErrTopicAliasInvalid)
		}
	case packets.PropTopicAliasMaximum:
		r.uint16()
	case packets.PropSubscriptionIdentifier:
		if r.varint() == 0 {
			r.fail(packets.ErrProtocolViolation)
		}
	case packets.PropContentType, packets.PropResponseTopic, packets.PropAuthenticationMethod, packets.PropReasonString:
		r.text()
	case packets.PropCorrelationData, packets.PropAuthenticationData:
		r.binary()
	case packets.PropUser:
		r.text()
		r.text()
	default: // unknown, or those of servers
		r.fail(packets.ErrMalformedBadProperty)
	}
}
