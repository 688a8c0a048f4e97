package mqtt

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestAMessageArrives(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	if pk := c.subscribe(sub("home/#", 2), sub("a/+", 1)); string(pk.ReasonCodes) != "\x02\x01" {
		t.Fatalf("codes % x", pk.ReasonCodes)
	}
	r.publish("home/x", "one", 1, false)
	r.publish("a/b", "two", 2, false)
	r.publish("home/x", "three", 2, false)
	pk := c.message("one")
	if pk.TopicName != "home/x" || pk.FixedHeader.Qos != 1 || pk.PacketID != 1 {
		t.Errorf("%+v", pk)
	}
	c.ack(packets.Puback, 1)
	if pk := c.message("two"); pk.FixedHeader.Qos != 1 || pk.PacketID != 2 {
		t.Errorf("%+v", pk)
	}
	if pk := c.message("three"); pk.FixedHeader.Qos != 2 || pk.PacketID != 3 {
		t.Errorf("%+v", pk)
	}
	c.ack(packets.Pubrec, 3)
	c.expect(packets.Pubrel)
	c.ack(packets.Pubcomp, 3)
}

func TestUnacknowledgedMessagesAreSentAgain(t *testing.T) {
	r := newRig(t)
	o := options{id: "a", expiry: -1}
	c := r.connect(o)
	c.subscribe(sub("#", 2))
	r.publish("g", "one", 1, false)
	r.publish("g", "two", 2, false)
	r.publish("g", "three", 2, false)
	c.message("one")
	two := c.message("two")
	three := c.message("three")
	c.ack(packets.Pubrec, three.PacketID)
	c.expect(packets.Pubrel)
	c.leave()
	r.publish("g", "four", 0, false)

	c = r.connect(o)
	defer c.leave()
	if !c.present {
		t.Error("the session was not kept")
	}
	if pk := c.expect(packets.Pubrel); pk.PacketID != three.PacketID {
		t.Errorf("%+v", pk)
	}
	if pk := c.message("one"); !pk.FixedHeader.Dup || pk.PacketID != 1 {
		t.Errorf("%+v", pk)
	}
	if pk := c.message("two"); !pk.FixedHeader.Dup || pk.PacketID != two.PacketID || pk.FixedHeader.Qos != 2 {
		t.Errorf("%+v", pk)
	}
	if pk := c.message("four"); pk.FixedHeader.Dup {
		t.Errorf("%+v", pk)
	}
}
