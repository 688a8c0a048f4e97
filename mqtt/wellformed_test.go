package mqtt

import (
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/hub"
)

func TestTheFirstPacketMustBeCONNECT(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.connectTimeout = time.Millisecond })
	for name, b := range map[string][]byte{
		"PINGREQ": {0xc0, 0}, "HTTP": []byte("GET / HTTP/1.1\r\n\r\n"), "too large": {0x10, 0xff, 0xff, 1}, "long length": {0x10, 0xff, 0xff, 0xff, 0xff, 1},
		"empty": {0x10, 0}, "no version": {0x10, 6, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0}, "half": {0x10, 100, 0, 4}, "nothing": nil, "flags": {0x11, 10},
	} {
		c := r.dial()
		c.raw(b)
		if pk := c.receive(); pk != nil {
			t.Errorf("%s was answered with %+v", name, pk)
		}
	}
}

func TestPacketsThatClientsMustNotSend(t *testing.T) {
	r := serve(t, nil)
	for name, b := range map[string][]byte{
		"CONNACK": {0x20, 2, 0, 0}, "SUBACK": {0x90, 4, 0, 1, 0, 0}, "UNSUBACK": {0xb0, 4, 0, 1, 0, 0}, "PINGRESP": {0xd0, 0},
		"AUTH": {0xf0, 2, 0x18, 0}, "second CONNECT": {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0, 0},
		"PUBLISH without an id": {0x32, 6, 0, 1, 'a', 0, 0, 0}, "SUBSCRIBE without filters": {0x82, 3, 0, 1, 0},
		"Retain Handling 3": {0x82, 7, 0, 1, 0, 0, 1, 'a', 0x30}, "a property twice": {0x30, 8, 0, 1, 'a', 4, 1, 0, 1, 0},
		"payload format 2": {0x30, 6, 0, 1, 'a', 2, 1, 2}, "subscription identifier 0": {0x82, 9, 0, 1, 2, 11, 0, 0, 1, 'a', 0},
		"PUBLISH with a subscription identifier": {0x30, 6, 0, 1, 'a', 2, 11, 1}, "a response topic with a wildcard": {0x30, 8, 0, 1, 'a', 4, 8, 0, 1, '#'},
		"PUBREL with an invalid reason": {0x62, 3, 0, 1, 0x80}, "DUP with QoS 0": {0x38, 4, 0, 1, 'a', 0},
	} {
		c := r.admitted("a", nil)
		c.raw(b)
		if pk := c.receive(); pk == nil || pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrProtocolViolation.Code {
			t.Errorf("%s: %+v", name, pk)
		}
	}
	for name, b := range map[string][]byte{
		"type 0": {0, 0}, "flags of SUBSCRIBE": {0x80, 0}, "flags of PINGREQ": {0xc1, 0}, "topic that is not UTF-8": {0x30, 4, 0, 1, 0xff, 0},
		"topic with NUL": {0x30, 4, 0, 1, 0, 0}, "short topic": {0x30, 4, 0, 9, 'a', 0}, "long PINGREQ": {0xc0, 1, 0}, "length of 5 bytes": {0x30, 0xff, 0xff, 0xff, 0xff, 0},
		"QoS of a subscription": {0x82, 7, 0, 1, 0, 0, 1, 'a', 3}, "subscription without options": {0x82, 6, 0, 1, 0, 0, 1, 'a'},
		"properties beyond the packet": {0x30, 4, 0, 1, 'a', 9}, "a property beyond its properties": {0x30, 8, 0, 1, 'a', 1, 2, 0, 0, 0},
		"unknown property": {0x30, 6, 0, 1, 'a', 2, 0x7f, 0}, "PUBACK of 1 byte": {0x40, 1, 0}, "bytes behind PUBACK": {0x40, 6, 0, 1, 0, 0, 0, 0},
		"bytes behind DISCONNECT": {0xe0, 3, 0, 0, 0}, "QoS 3": {0x36, 6, 0, 1, 'a', 0, 1, 0},
	} {
		c := r.admitted("a", nil)
		c.raw(b)
		if pk := c.receive(); pk == nil || pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrMalformedPacket.Code {
			t.Errorf("%s: %+v", name, pk)
		}
	}
}

func TestReasonCodesThatClientsMayAndMustNotSend(t *testing.T) {
	const acks, completions = "\x00\x10\x80\x83\x87\x90\x91\x97\x99", "\x00\x92"
	r := serve(t, nil)
	for _, p := range []struct {
		first     byte
		good, bad string
	}{
		{packets.Puback << 4, acks, "\x01\x11\x7f\x81\x92\xff"}, {packets.Pubrec << 4, acks, "\x02\x11\x7f\x82\x92\xff"},
		{packets.Pubrel<<4 | 2, completions, "\x01\x10\x80\x91\xff"}, {packets.Pubcomp << 4, completions, "\x01\x10\x80\x91\xff"},
		{packets.Disconnect << 4, "\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99", "\x01\x03\x10\x84\x87\x8b\x8e\x92\xa3\xff"},
		{packets.Auth << 4, "", "\x00\x01\x18\x19\x80\xff"},
	} {
		send := func(c *wire, code byte) {
			body := []byte{code}
			if kind := p.first >> 4; kind != packets.Disconnect && kind != packets.Auth {
				body = []byte{0, 9, code}
			}
			c.raw(append([]byte{p.first, byte(len(body))}, body...))
		}
		for _, code := range []byte(p.good) {
			c := r.admitted("a", nil)
			send(c, code)
			if p.first>>4 != packets.Disconnect {
				c.send(packets.Disconnect, &packets.Packet{})
			}
			for pk := c.receive(); pk != nil; pk = c.receive() { // PUBREL and PUBCOMP are answers
				if pk.FixedHeader.Type == packets.Disconnect {
					t.Errorf("%#x with %#x: DISCONNECT %#x", p.first, code, pk.ReasonCode)
				}
			}
		}
		for _, code := range []byte(p.bad) {
			c := r.admitted("a", nil)
			send(c, code)
			c.expectEnd(packets.ErrProtocolViolation.Code)
		}
	}
}
