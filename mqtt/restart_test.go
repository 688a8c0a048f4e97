package mqtt

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/store/disk"
)

// restart closes the server and the hub, and starts them again on the same folder.
func (r *rig) restart(dir string) {
	r.Helper()
	if r.hub != nil {
		r.end()
	}
	log, err := disk.Open(disk.Options{Dir: dir})
	if err != nil {
		r.Fatal(err)
	}
	r.begin(log)
}

func TestASessionOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	r := &rig{T: t}
	r.restart(dir)
	defer func() { r.end() }()
	r.publish("g/retained", "retained", 1, true)
	o := options{id: "a", expiry: -1}
	c := r.connect(o)
	c.subscribe(packets.Subscription{Filter: "g/#", Qos: 2, Identifier: 9, NoLocal: true})
	c.message("retained")
	r.publish("g", "one", 1, false)
	r.publish("g", "two", 2, false)
	c.message("one")
	two := c.message("two")
	c.ack(packets.Pubrec, two.PacketID)
	c.expect(packets.Pubrel)
	c.leave()
	r.publish("g", "three", 2, false)

	r.restart(dir)
	c = r.connect(o)
	if !c.present {
		t.Fatal("the session was not kept")
	}
	if pk := c.expect(packets.Pubrel); pk.PacketID != two.PacketID {
		t.Errorf("%+v", pk)
	}
	if pk := c.message("retained"); !pk.FixedHeader.Dup || !pk.FixedHeader.Retain {
		t.Errorf("%+v", pk)
	}
	if pk := c.message("one"); !pk.FixedHeader.Dup || pk.Properties.SubscriptionIdentifier[0] != 9 {
		t.Errorf("%+v", pk)
	}
	if pk := c.message("three"); pk.FixedHeader.Dup || pk.FixedHeader.Qos != 2 {
		t.Errorf("%+v", pk)
	}
	c.leave()

	o.clean = true
	c = r.connect(o)
	if c.present {
		t.Error("a clean start has found a session")
	}
	c.leave()
	o.clean = false
	o.expiry = 0
	r.restart(dir)
	c = r.connect(o)
	c.subscribe(sub("g/#", 1))
	c.message("retained")
	c.leave()
	c = r.connect(o)
	defer c.leave()
	if c.present {
		t.Error("a session without expiry was kept")
	}
}

func TestAShareOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	r := &rig{T: t}
	r.restart(dir)
	defer func() { r.end() }()
	o := options{id: "a", expiry: -1}
	c := r.connect(o)
	c.subscribe(sub("$share/s/g", 1))
	r.publish("g", "one", 1, false)
	r.publish("g", "two", 1, false)
	c.message("one")
	two := c.message("two")
	c.ack(packets.Puback, two.PacketID)
	c.leave()
	r.publish("g", "three", 1, false)
	r.restart(dir)
	c = r.connect(o)
	defer c.leave()
	c.message("one")
	c.message("three")
}
