package mqtt

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func (c *client) unsubscribe(filters ...packets.Subscription) {
	c.Helper()
	c.packet++
	c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: c.packet, Filters: filters})
	c.expect(packets.Unsuback)
}

func TestMessagesInFlightAreSentAgainAfterAnUnsubscribe(t *testing.T) {
	for _, again := range []bool{false, true} {
		name := "not subscribed again"
		if again {
			name = "subscribed again"
		}
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			o := options{id: "a", expiry: -1}
			c := r.connect(o)
			c.subscribe(sub("one/+", 1), sub("two/+", 2), sub("other", 1))
			r.publish("one/x", "one", 1, false)
			r.publish("two/x", "two", 2, false)
			one, two := c.message("one"), c.message("two")
			c.unsubscribe(sub("one/+", 0), sub("two/+", 0))
			r.publish("one/x", "not for the client", 1, false)
			if again {
				c.subscribe(sub("one/+", 1))
			}
			c.leave()
			r.publish("two/x", "not for the client", 2, false)
			c = r.connect(o)
			for _, sent := range []packets.Packet{one, two} {
				if pk := c.message(string(sent.Payload)); pk.PacketID != sent.PacketID || !pk.FixedHeader.Dup || pk.FixedHeader.Qos != sent.FixedHeader.Qos {
					t.Errorf("%+v is not %+v", pk, sent)
				}
			}
			r.publish("two/x", "not for the client", 1, false)
			c.ack(packets.Puback, one.PacketID)
			c.ack(packets.Pubrec, two.PacketID)
			c.expect(packets.Pubrel)
			c.ack(packets.Pubcomp, two.PacketID)
			r.publish("one/x", "new", 1, false)
			r.publish("other", "other", 1, false)
			if again {
				c.ack(packets.Puback, c.message("new").PacketID)
			}
			c.ack(packets.Puback, c.message("other").PacketID)
			want := 1
			if again {
				want = 2
			}
			if p, _ := r.hub.Cursors().Get(c.conn.key); len(p.Filters) != want {
				t.Errorf("the session has the filters %v", p.Filters)
			}
			c.leave()
		})
	}
}

func TestASessionKeepsFewSubscriptionsThatEnd(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a", expiry: -1})
	defer c.leave()
	c.subscribe(sub("g", 1))
	r.publish("g", "x", 1, false)
	id := c.message("x").PacketID
	for i := range 3 * maxEnding {
		f := sub("g/"+string(rune('a'+i)), 1)
		c.subscribe(f)
		c.unsubscribe(f)
	}
	if n := c.subscriptions(); n != 1+maxEnding {
		t.Errorf("%d subscriptions", n)
	}
	c.ack(packets.Puback, id)
	if n := c.subscriptions(); n != 1 {
		t.Errorf("%d subscriptions are left", n)
	}
}

// subscriptions returns how many subscriptions the session has, with those that have ended and are kept.
func (c *client) subscriptions() int {
	s := c.conn.session
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.subs)
}
