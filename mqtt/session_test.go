package mqtt

import (
	"context"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
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

func TestQoS0IsNotQueuedIfTheServerIsToldSo(t *testing.T) {
	r := newRig(t)
	o := options{id: "a", expiry: -1}
	c := r.connect(o)
	c.subscribe(sub("g", 1))
	c.leave()
	r.server.opts.QueueQoS0 = false
	r.publish("g", "zero", 0, false)
	r.publish("g", "one", 1, false)
	c = r.connect(o)
	defer c.leave()
	c.message("one")
	r.publish("g", "live", 0, false)
	c.message("live")
}

func TestAClientDoesNotGetItsOwnMessagesBack(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	c.subscribe(packets.Subscription{Filter: "g/#", Qos: 1, NoLocal: true})
	p := &hub.Publication{Grant: access.Everything, Group: "g/1", UID: c.conn.uid(), Kind: hub.Bytes, Body: []byte("own")}
	publish := func() {
		t.Helper()
		if _, err := r.hub.Publish(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	r.publish("g/1", "another's", 1, false)
	c.message("another's")
	c.subscribe(sub("g/1", 0))
	publish()
	if pk := c.message("own"); pk.FixedHeader.Qos != 0 { // as the subscription that wants it
		t.Errorf("the message has QoS %d", pk.FixedHeader.Qos)
	}
}

func TestLargeMessagesAreLeftOut(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a", limits: limits{packet: 60, aliases: 5}})
	defer c.leave()
	c.subscribe(sub("g", 1))
	r.publish("g", strings.Repeat("x", 60), 1, false)
	r.publish("g", strings.Repeat("y", 52), 1, false)
	if pk := c.message(strings.Repeat("y", 52)); pk.TopicName != "g" || pk.Properties.TopicAlias != 0 { // it fits without an alias
		t.Errorf("%+v", pk)
	}
	r.publish("g", "small", 1, false)
	if pk := c.message("small"); pk.TopicName != "g" || pk.Properties.TopicAlias != 1 {
		t.Errorf("%+v", pk)
	}
	r.publish("g", "next", 1, false)
	if pk := c.message("next"); pk.TopicName != "" || pk.Properties.TopicAlias != 1 {
		t.Errorf("%+v", pk)
	}
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	c.subscribe(sub("#", 1))
	for _, body := range []string{"", "text \"quoted\"\n", "\xff\x00binary", `{"a":[1,2]}`, `"a JSON string"`, "12.50", "é\u2028", strings.Repeat("long", 10_000)} {
		d := hub.Publication{Grant: access.Everything, Group: "%/a", Kind: kindOf([]byte(body)), Body: []byte(body), Meta: metaOf(1, &packets.Properties{
			ContentType: "a/b", ResponseTopic: "re/ply", CorrelationData: []byte{0, 255}, PayloadFormat: 1, PayloadFormatFlag: true,
			User: []packets.UserProperty{{Key: "a", Val: "1"}, {Key: "$b", Val: "\"é"}, {Key: "a", Val: ""}},
		})}
		if _, err := r.hub.Publish(context.Background(), &d); err != nil {
			t.Fatal(err)
		}
		pk := c.message(body)
		p := &pk.Properties
		if pk.TopicName != "/a" || p.ContentType != "a/b" || p.ResponseTopic != "re/ply" || string(p.CorrelationData) != "\x00\xff" || p.PayloadFormat != 1 ||
			len(p.User) != 3 || p.User[1] != (packets.UserProperty{Key: "$b", Val: "\"é"}) || p.User[2] != (packets.UserProperty{Key: "a"}) {
			t.Errorf("%+v", pk)
		}
	}
}
