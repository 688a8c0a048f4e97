//go:build linux

package main

import "encoding/binary"

// The few packets of MQTT 3.1.1 that the loads need.
const (
	connack   = 2
	publishes = 3 // PUBLISH
	puback    = 4
	suback    = 9
)

// packet returns a packet from its first byte and the rest of it.
func packet(first byte, body []byte) []byte {
	b := []byte{first}
	for n := len(body); ; {
		digit := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			b = append(b, digit)
			break
		}
		b = append(b, digit|0x80)
	}
	return append(b, body...)
}

func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// connectPacket is a CONNECT without keep alive. With keep the session outlives the connection.
func connectPacket(id string, keep bool) []byte {
	flags := byte(2) // clean session
	if keep {
		flags = 0
	}
	b := text(nil, "MQTT")
	b = append(b, 4, flags, 0, 0)
	return packet(0x10, text(b, id))
}

func subscribePacket(filter string, qos byte) []byte {
	return packet(0x82, append(text([]byte{0, 1}, filter), qos))
}

func publishPacket(topic string, qos byte, id uint16, payload []byte) []byte {
	b := text(nil, topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return packet(0x30|qos<<1, append(b, payload...))
}

func pubackPacket(id uint16) []byte { return []byte{puback << 4, 2, byte(id >> 8), byte(id)} }

// disconnectPacket ends a connection in an orderly way.
var disconnectPacket = []byte{0xe0, 0}

// split returns the first packet of b, without its header, and what follows. head is 0 if the packet is not complete.
func split(b []byte) (head byte, body, rest []byte) {
	n, shift := 0, 0
	for i := 1; i < len(b) && i < 5; i++ {
		n |= int(b[i]&0x7f) << shift
		if shift += 7; b[i]&0x80 == 0 {
			if len(b) < i+1+n {
				break
			}
			return b[0], b[i+1 : i+1+n], b[i+1+n:]
		}
	}
	return 0, nil, b
}

// publishID returns the packet id of a PUBLISH with QoS 1.
func publishID(body []byte) uint16 {
	topic := int(binary.BigEndian.Uint16(body))
	return binary.BigEndian.Uint16(body[2+topic:])
}
