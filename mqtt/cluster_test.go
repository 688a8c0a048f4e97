package mqtt

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/sharedtest"
)

// twoHubs returns two servers whose hubs share a log.
func twoHubs(t *testing.T) (a, b *rig) {
	shared := sharedtest.New()
	a, b = &rig{T: t}, &rig{T: t}
	a.begin(shared.Open())
	b.begin(shared.Open())
	t.Cleanup(a.end)
	t.Cleanup(b.end)
	return a, b
}

func TestASessionMovesToAnotherHub(t *testing.T) {
	a, b := twoHubs(t)
	o := options{id: "a", expiry: -1}
	c := a.connect(o)
	c.subscribe(sub("g/#", 2))
	a.publish("g", "one", 1, false)
	a.publish("g", "two", 2, false)
	c.message("one")
	two := c.message("two")
	c.ack(packets.Puback, 1)
	c.leave()
	b.publish("g", "three", 1, false)
	c = b.connect(o)
	if !c.present {
		t.Fatal("the other hub does not know the session")
	}
	if pk := c.message("two"); !pk.FixedHeader.Dup || pk.PacketID != two.PacketID {
		t.Errorf("%+v", pk)
	}
	c.message("three")
	c.leave()
	c = a.connect(o)
	defer c.leave()
	c.message("two")
	c.message("three")
}

func TestMembersAtAnotherHubTakeAShareOver(t *testing.T) {
	a, b := twoHubs(t)
	c, d := a.connect(options{id: "a"}), b.connect(options{id: "b"})
	defer d.leave()
	c.subscribe(sub("$share/s/g", 1))
	d.subscribe(sub("$share/s/g", 1))
	b.publish("g", "one", 1, false)
	c.message("one")
	c.leave()
	b.publish("g", "two", 1, false)
	d.message("one")
	d.message("two")
}
