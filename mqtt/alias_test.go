package mqtt

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestTopicAliases(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	alias := func(n uint16) func(*packets.Packet) {
		return func(pk *packets.Packet) { pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = n, true }
	}
	c.publish("a", "1", 0, 0, alias(1))
	c.publish("b", "2", 0, 0, alias(16))
	c.publish("", "3", 0, 0, alias(1))
	c.publish("", "4", 0, 0, alias(16))
	c.publish("c", "5", 0, 0, alias(1))
	c.publish("", "6", 1, 9, alias(1))
	c.expectAck(packets.Puback, 9, 0)
	r.expectMessages("a", "1", "3")
	r.expectMessages("b", "2", "4")
	r.expectMessages("c", "5", "6")

	c.publish("", "7", 0, 0, alias(2))
	c.expectEnd(packets.ErrProtocolViolation.Code)
	c = r.admitted("a", nil)
	c.publish("", "8", 0, 0, alias(1)) // aliases end with the connection
	c.expectEnd(packets.ErrProtocolViolation.Code)
	c = r.admitted("a", nil)
	c.publish("a", "9", 0, 0, alias(17))
	c.expectEnd(packets.ErrTopicAliasInvalid.Code)
	c = r.admitted("a", nil)
	c.raw([]byte{0x30, 7, 0, 1, 'a', 3, packets.PropTopicAlias, 0, 0})
	c.expectEnd(packets.ErrTopicAliasInvalid.Code)
}

func TestALongTopicTakesNoMemory(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	pk := packets.Packet{TopicName: strings.Repeat("a", 60_000), PacketID: 1, ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Qos: 1}}
	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 1, true
	var b batch
	for range 2 {
		if err := c.conn.publish(&b, &pk, false); err != nil {
			t.Fatal(err)
		}
		pk.TopicName = "" // by the alias
	}
	if n := len(c.conn.publisher.aliases[0]); n > 1000 {
		t.Errorf("the connection keeps %d bytes", n)
	}
	for _, a := range b.answers {
		if a.err != packets.ErrTopicNameInvalid {
			t.Errorf("the answer is %v", a.err)
		}
	}
}
