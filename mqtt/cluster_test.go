package mqtt

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/sharedtest"
)

func TestAClientThatConnectsToAnotherHubIsTakenOver(t *testing.T) {
	for _, expiry := range []uint32{0, 1000} {
		logs := sharedtest.New()
		one, two := serveOn(t, logs.Open(), nil), serveOn(t, logs.Open(), nil)
		keep := func(pk *packets.Packet) {
			pk.Connect.Clean = expiry == 0
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = expiry, true
		}
		first := one.admitted("a", keep)
		first.publish("a", "x", 2, 7, nil)
		first.expectAck(packets.Pubrec, 7, 0)
		second, ack := two.connect("a", keep)
		if ack.ReasonCode != 0 || ack.SessionPresent != (expiry > 0) {
			t.Errorf("expiry %d: %+v", expiry, ack)
		}
		first.expectEnd(packets.ErrSessionTakenOver.Code)
		if expiry > 0 { // the other hub knows the ids of QoS 2
			second.publish("a", "x", 2, 7, nil)
			second.expectAck(packets.Pubrec, 7, 0)
			two.expectMessages("a", "x")
		}
		back := one.admitted("a", keep)
		second.expectEnd(packets.ErrSessionTakenOver.Code)
		back.ping()
	}
}
