package mqtt

import (
	"context"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
)

func TestMessagesToASessionReachTheClientThatSubscribesToThem(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		r := newRig(t)
		c, other := r.connect(options{id: "a"}), r.connect(options{id: "b"})
		defer c.leave()
		defer other.leave()
		tell := func(to *client, text string) {
			p := &hub.Publication{Grant: access.Everything, Kind: hub.Bytes, Body: []byte(text)}
			if _, err := r.hub.Send(context.Background(), to.conn.uid(), p); err != nil {
				t.Fatal(err)
			}
		}
		c.subscribe(sub("g", qos))
		other.subscribe(sub("$session/+", qos), sub("g", qos))
		tell(c, "before it has subscribed")
		r.publish("g", "after that", 1, false)
		c.message("after that")
		c.subscribe(sub("$session/+", qos))
		tell(other, "other")
		tell(c, "own")
		if pk := c.message("own"); pk.TopicName != "$session/"+c.conn.uid() || pk.FixedHeader.Qos != qos {
			t.Errorf("%+v", pk)
		}
		other.message("after that")
		if pk := other.message("other"); pk.TopicName != "$session/"+other.conn.uid() {
			t.Errorf("%+v", pk)
		}
		if pk := c.subscribe(sub("$session/"+other.conn.uid(), 1)); pk.ReasonCodes[0] != packets.ErrNotAuthorized.Code {
			t.Errorf("% x", pk.ReasonCodes)
		}
		c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 9, Filters: packets.Subscriptions{sub("$session/+", 0)}})
		c.expect(packets.Unsuback)
		tell(c, "not any more")
		r.publish("g", "end", 1, false)
		c.message("end")
	}
}

func TestASubscriptionToTheSessionItselfIsKept(t *testing.T) {
	r := newRig(t)
	o := options{id: "a", expiry: -1}
	c := r.connect(o)
	c.subscribe(sub("$session/+", 1))
	uid := c.conn.uid()
	c.leave()
	p := &hub.Publication{Grant: access.Everything, Kind: hub.Bytes, Body: []byte("while lost")}
	if _, err := r.hub.Send(context.Background(), uid, p); err != nil {
		t.Fatal(err)
	}
	c = r.connect(o)
	defer c.leave()
	c.message("while lost")
}
