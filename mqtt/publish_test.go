package mqtt

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestPublishedMessagesAreInTheLogWhenTheyAreAcknowledged(t *testing.T) {
	for _, version := range []byte{4, 5} {
		r := serve(t, nil)
		c := r.admitted("a", func(pk *packets.Packet) { pk.ProtocolVersion = version })
		c.publish("home/kitchen", "zero", 0, 0, nil)
		c.publish("home/kitchen", "one", 1, 7, nil)
		c.expectAck(packets.Puback, 7, 0)
		r.expectMessages("home/kitchen", "zero", "one")
		c.publish("home/kitchen", "two", 2, 8, nil)
		c.expectAck(packets.Pubrec, 8, 0)
		r.expectMessages("home/kitchen", "zero", "one", "two")
		c.send(packets.Pubrel, &packets.Packet{PacketID: 8})
		c.expectAck(packets.Pubcomp, 8, 0)
	}
}
