package mqtt

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/sharedtest"
)

// TestAClientThatHasLostItsStateLosesNoMessage has a client return to its session with packet ids that the server knows, and
// other messages.
func TestAClientThatHasLostItsStateLosesNoMessage(t *testing.T) {
	r := serve(t, nil)
	kept := func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 1000, true
	}
	c := r.admitted("a", kept)
	for id := range uint16(3) {
		c.publish("a", fmt.Sprint("first ", id+1), 2, id+1, nil)
		c.expectAck(packets.Pubrec, id+1, 0)
	}
	_ = c.Close()
	c = r.admitted("a", kept)
	c.publish("a", "second", 2, 1, nil)
	c.expectAck(packets.Pubrec, 1, 0)
	c.publish("a", "second", 2, 1, func(pk *packets.Packet) { pk.FixedHeader.Dup = true })
	c.expectAck(packets.Pubrec, 1, 0)
	c.publish("a", "third", 1, 2, nil)
	c.expectAck(packets.Puback, 2, 0)
	c.publish("a", "first 3", 2, 3, func(pk *packets.Packet) { pk.FixedHeader.Dup = true })
	c.expectAck(packets.Pubrec, 3, 0)
	r.expectMessages("a", "first 1", "first 2", "first 3", "second", "third")
}

// TestAMessageOfQoS2IsPublishedOnceByAClientThatMoves between hubs. The hub to which it moves lags.
func TestAMessageOfQoS2IsPublishedOnceByAClientThatMoves(t *testing.T) {
	shared := sharedtest.New()
	logs := []*sharedtest.Log{shared.Open(), shared.Open()}
	hubs := []*wired{serveOn(t, logs[0], nil), serveOn(t, logs[1], nil)}
	kept := func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 1000, true
	}
	again := func(pk *packets.Packet) { pk.FixedHeader.Dup = true }
	const id = 1
	var want []string
	c := hubs[0].admitted("a", kept)
	for i := range 2 {
		text, next := fmt.Sprint(i), (i+1)%2
		logs[next].Pause()
		c.publish("a", text, 2, id, nil)
		c.expectAck(packets.Pubrec, id, 0)
		want = append(want, text)
		_ = c.Close()
		time.AfterFunc(10*time.Millisecond, logs[next].Resume)
		c = hubs[next].admitted("a", kept)
		c.publish("a", text, 2, id, again)
		c.expectAck(packets.Pubrec, id, 0)
		hubs[next].expectMessages("a", want...)
		c.send(packets.Pubrel, &packets.Packet{PacketID: id})
		c.expectAck(packets.Pubcomp, id, 0)
	}
}

// TestAnIDIsReleasedInTheSegmentOfItsMessage sends a message and its release together, and then another message with the id.
func TestAnIDIsReleasedInTheSegmentOfItsMessage(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	for _, text := range []string{"x", "y"} {
		c.raw(slices.Concat(
			c.encoded(packets.Publish, &packets.Packet{TopicName: "a", Payload: []byte(text), PacketID: 1, FixedHeader: packets.FixedHeader{Qos: 2}}),
			c.encoded(packets.Pubrel, &packets.Packet{PacketID: 1, FixedHeader: packets.FixedHeader{Qos: 1}}),
		))
		c.expectAck(packets.Pubrec, 1, 0)
		c.expectAck(packets.Pubcomp, 1, 0)
	}
	r.expectMessages("a", "x", "y")
}

func TestAMessageOfQoS2IsPublishedOnce(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	for range 3 {
		c.publish("a", "x", 2, 5, func(pk *packets.Packet) { pk.FixedHeader.Dup = true })
		c.expectAck(packets.Pubrec, 5, 0)
	}
	one := c.encoded(packets.Publish, &packets.Packet{TopicName: "a", Payload: []byte("y"), PacketID: 6, FixedHeader: packets.FixedHeader{Qos: 2}})
	c.raw(slices.Concat(one, one)) // together
	c.expectAck(packets.Pubrec, 6, 0)
	c.expectAck(packets.Pubrec, 6, 0)
	r.expectMessages("a", "x", "y")

	c.publish("a", "z", 1, 5, nil)
	c.expectAck(packets.Puback, 5, packets.ErrPacketIdentifierInUse.Code)
	for range 2 {
		c.send(packets.Pubrel, &packets.Packet{PacketID: 5})
	}
	c.expectAck(packets.Pubcomp, 5, 0)
	c.expectAck(packets.Pubcomp, 5, packets.ErrPacketIdentifierNotFound.Code)
	c.publish("a", "z", 2, 5, nil)
	c.expectAck(packets.Pubrec, 5, 0)
	r.expectMessages("a", "x", "y", "z")
}
