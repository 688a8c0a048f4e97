package mqtt

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/store"
)

// publish says how a message becomes a PUBLISH packet. packets.Packet can encode one too, but takes a dozen
// allocations for it.
type publish struct {
	v5     bool
	qos    byte
	dup    bool
	retain bool
	id     uint16   // packet id, for QoS 1 and 2
	subs   []uint32 // subscription identifiers
	alias  uint16   // topic alias; 0: none
	known  bool     // the client knows the alias: the topic is left out
	gap    string   // the position after which messages were lost; "": none
}

// lighten leaves out what the server has added to a message. It returns false if there is nothing that makes the packet larger.
func (p *publish) lighten() bool {
	added := p.gap != "" || p.alias != 0 && !p.known
	if p.gap = ""; !p.known {
		p.alias = 0
	}
	return added
}

// append appends the packet of a message.
func (p *publish) append(b []byte, f *store.Frame) []byte {
	at := len(b)
	b, body := p.begin(b, topicOf(f.Group), len(f.JSON()))
	if p.v5 {
		b = p.appendProperties(b, f)
	}
	b = appendPayload(b, f)
	return putLength(b, at+1, body)
}

// appendText appends a packet of something that is not in the log.
func (p *publish) appendText(b []byte, topic, text string) []byte {
	at := len(b)
	b, body := p.begin(b, topic, len(text))
	if p.v5 {
		size := len(b)
		b = appendRoom(b, 0)
		b = p.appendOwn(b)
		b = putLength(b, size, size+1)
	}
	return putLength(append(b, text...), at+1, body)
}

// begin appends the start of a packet, up to the properties. Its length follows the first byte; room for it ends at
// the offset that begin returns.
func (p *publish) begin(b []byte, topic string, payload int) (out []byte, body int) {
	first := packets.Publish<<4 | p.qos<<1
	if p.dup {
		first |= 1 << 3
	}
	if p.retain {
		first |= 1
	}
	b = appendRoom(append(b, first), len(topic)+payload)
	body = len(b)
	if p.known {
		topic = ""
	}
	b = appendText(b, topic)
	if p.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, p.id)
	}
	return b, body
}

// appendProperties appends the properties of MQTT 5, with their length.
func (p *publish) appendProperties(b []byte, f *store.Frame) []byte {
	at := len(b)
	b = appendRoom(b, 0)
	body := len(b)
	if f.Flags&store.HasExpiry != 0 {
		left := max(time.Until(f.Expires())+time.Second-1, time.Second)
		b = binary.BigEndian.AppendUint32(append(b, packets.PropMessageExpiryInterval), uint32(left/time.Second))
	}
	b = p.appendOwn(b)
	if p.gap != "" {
		b = appendText(append(b, packets.PropUser), "gap")
		size := len(b)
		b = append(b, 0, 0)
		b = append(append(append(b, p.gap...), ".."...), f.ID()...)
		putSize(b, size)
	}
	for name, value := range f.QuotedMeta() {
		b = appendMeta(b, name, value)
	}
	return putLength(b, at, body)
}

// appendOwn appends the properties that the client has chosen.
func (p *publish) appendOwn(b []byte) []byte {
	if p.alias != 0 {
		b = binary.BigEndian.AppendUint16(append(b, packets.PropTopicAlias), p.alias)
	}
	for _, id := range p.subs {
		b = binary.AppendUvarint(append(b, packets.PropSubscriptionIdentifier), uint64(id))
	}
	return b
}

// appendMeta appends a pair of a message's metadata as the property that it was, or as a user property. Both are JSON
// strings.
func appendMeta(b, name, value []byte) []byte {
	switch string(name) {
	case `"$type"`:
		return appendQuoted(append(b, packets.PropContentType), value)
	case `"$reply"`:
		return appendQuoted(append(b, packets.PropResponseTopic), value)
	case `"$utf8"`:
		format := byte(0)
		if string(value) == `"1"` {
			format = 1
		}
		return append(b, packets.PropPayloadFormat, format)
	case `"$corr"`:
		b = append(b, packets.PropCorrelationData, 0, 0)
		size := len(b) - 2
		b = appendBase64(b, value)
		putSize(b, size)
		return b
	}
	switch {
	case bytes.HasPrefix(name, []byte(`"$$`)): // see metaOf
		name = name[1:]
	case bytes.HasPrefix(name, []byte(`"$`)):
		return b // the server's own
	}
	return appendQuoted(appendQuoted(append(b, packets.PropUser), name), value)
}

// appendPayload appends the bytes that the sender published.
func appendPayload(b []byte, f *store.Frame) []byte {
	if f.Flags&store.IsBase64 != 0 {
		return appendBase64(b, f.JSON())
	}
	return f.Payload(b)
}

// appendBase64 appends what a JSON string of base64 stands for.
func appendBase64(b, quoted []byte) []byte {
	text := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(text, '\\') >= 0 {
		text = store.Unquote(nil, quoted)
	}
	out, err := base64.StdEncoding.AppendDecode(b, text)
	if err != nil {
		return append(b, text...) // impossible: the hub checks it
	}
	return out
}

// topicOf returns the MQTT topic of a group. Groups of presence are named after filters. A topic must not have the
// wildcards of a filter, so they are escaped as in a URL.
func topicOf(group string) string {
	if strings.ContainsAny(group, "+#") {
		return strings.NewReplacer("+", "%2B", "#", "%23").Replace(group)
	}
	return toTopic(group)
}

// appendText appends a text with its length.
func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendQuoted appends the text of a JSON string with its length.
func appendQuoted(b, quoted []byte) []byte {
	at := len(b)
	b = store.Unquote(append(b, 0, 0), quoted)
	putSize(b, at)
	return b
}

// putSize writes the length of what follows at an offset.
func putSize(b []byte, at int) { binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2)) }

// appendRoom appends room for the length of something that will have about n bytes.
func appendRoom(b []byte, n int) []byte { return append(b, make([]byte, lengthOf(n))...) }

// lengthOf returns how many bytes the length n takes as a variable byte integer.
func lengthOf(n int) int {
	size := 1
	for ; n >= 1<<7; n >>= 7 {
		size++
	}
	return size
}

// putLength writes the length of b[body:] into b[at:body]. It moves the body if the length takes another number of
// bytes.
func putLength(b []byte, at, body int) []byte {
	n := len(b) - body
	if size := lengthOf(n); size != body-at {
		b = append(b, make([]byte, max(0, at+size-body))...)
		b = b[:at+size+copy(b[at+size:], b[body:body+n])]
	}
	binary.PutUvarint(b[at:], uint64(n))
	return b
}
