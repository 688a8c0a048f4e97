package mqtt

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// keep limits how many messages of each group the log keeps.
func (r *rig) keep(messages int64) {
	r.Helper()
	r.limit(messages)
	r.say("0") // so that no position is 0
}

func (r *rig) limit(messages int64) {
	r.Helper()
	f, _ := group.ParseFilter("#")
	if err := r.hub.SetPolicy(f, store.Policy{MaxMessages: messages}); err != nil {
		r.Fatal(err)
	}
}

// say publishes messages with QoS 1.
func (r *rig) say(texts ...string) {
	r.Helper()
	for _, text := range texts {
		r.publish("g", text, 1, false)
	}
}

// gapOf returns the position after which a message says that others were lost, or 0.
func (c *client) gapOf(pk *packets.Packet) store.Seq {
	c.Helper()
	u := pk.Properties.User
	if len(u) == 0 {
		return 0
	}
	var after store.ID
	for i, x := range u[0].Val {
		if x == '.' {
			after, _ = store.ParseID(u[0].Val[:i])
			break
		}
	}
	if len(u) > 1 || u[0].Key != "gap" || after.Seq == 0 {
		c.Fatalf("%+v", u)
	}
	return after.Seq
}

// messageAfterGap expects a message that tells a gap after a position or a lower one; 0: none.
func (c *client) messageAfterGap(payload string, after store.Seq) packets.Packet {
	c.Helper()
	pk := c.message(payload)
	if got := c.gapOf(&pk); got > after || got == 0 && after > 0 {
		c.Errorf("the message %s tells a gap after %d, want %d", payload, got, after)
	}
	return pk
}

// A message of QoS 0 that tells a gap may be lost with the connection.
func TestAGapIsToldAgainUntilItIsKnownToHaveArrived(t *testing.T) {
	r := newRig(t)
	r.keep(2)
	o := options{id: "a", expiry: -1}
	c := r.connect(o)
	c.subscribe(sub("g", 1))
	c.leave()
	begin := r.hub.End().Seq
	r.say("1", "2")
	r.publish("g", "3", 0, false)
	r.publish("g", "4", 0, false)
	for range 2 {
		c = r.connect(o)
		c.wait()
		c.wait()
		c.leave()
		r.publish("g", "6", 0, false)
		r.publish("g", "7", 0, false)
	}
	c = r.connect(o)
	c.messageAfterGap("6", begin)
	c.messageAfterGap("7", 0)
	r.say("8")
	pk := c.messageAfterGap("8", 0)
	c.ack(packets.Puback, pk.PacketID)
	c.leave()
	c = r.connect(o)
	r.say("9")
	c.messageAfterGap("9", 0)
	c.leave()
}

// Without acknowledgements nothing shows that a gap has arrived, so that it is told once.
func TestAGapIsToldOnceIfNothingIsAcknowledged(t *testing.T) {
	r := newRig(t)
	r.keep(2)
	o := options{id: "a", expiry: -1}
	c := r.connect(o)
	c.subscribe(sub("g", 0))
	c.leave()
	begin := r.hub.End().Seq
	r.say("1", "2", "3")
	c = r.connect(o)
	c.messageAfterGap("2", begin)
	c.messageAfterGap("3", 0)
	c.leave()
	c = r.connect(o)
	r.say("4")
	c.messageAfterGap("4", 0)
	c.leave()
}

func TestAMessageIsNotTooLargeBecauseOfAGap(t *testing.T) {
	r := newRig(t)
	r.keep(2)
	o := options{id: "a", expiry: -1, limits: limits{packet: 100}}
	c := r.connect(o)
	c.subscribe(sub("g", 1))
	c.leave()
	begin := r.hub.End().Seq
	large := strings.Repeat("x", 80)
	r.say("1", large, "3")
	c = r.connect(o)
	c.messageAfterGap(large, 0)
	c.messageAfterGap("3", begin)
	c.leave()
}
