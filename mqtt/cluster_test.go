package mqtt

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/store"
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

// withFaults runs a test with two such servers, with a clock of their own. log is that of the second one, which may be paused or cut off.
func withFaults(t *testing.T, test func(a, b *rig, log *sharedtest.Log)) {
	synctest.Test(t, func(t *testing.T) {
		shared := sharedtest.New()
		a, b := &rig{T: t}, &rig{T: t}
		a.begin(shared.Open())
		defer a.end()
		log := shared.Open()
		b.begin(log)
		defer b.end()
		test(a, b, log)
	})
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

// TestMembersAtAllHubsGetMessagesOfAShare has members that take one message at a time.
func TestMembersAtAllHubsGetMessagesOfAShare(t *testing.T) {
	a, b := twoHubs(t)
	o := options{id: "a", limits: limits{receive: 1}}
	c := a.connect(o)
	o.id = "b"
	d := b.connect(o)
	defer d.leave()
	c.subscribe(sub("$share/s/g", 1))
	d.subscribe(sub("$share/s/g", 1))
	texts := []string{"one", "two", "three", "four"}
	for _, text := range texts {
		b.publish("g", text, 1, false)
	}
	first, second := c.expect(packets.Publish), d.expect(packets.Publish)
	got := []string{string(first.Payload), string(second.Payload)}
	if slices.Sort(got); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the members got %q", got)
	}
	d.ack(packets.Puback, second.PacketID)
	d.ack(packets.Puback, d.message("three").PacketID)
	d.ack(packets.Puback, d.message("four").PacketID)
	c.leave()
	d.ack(packets.Puback, d.message(string(first.Payload)).PacketID)
	a.publish("g", "five", 1, false)
	d.message("five")
	e := a.connect(options{id: "a"})
	defer e.leave()
	e.subscribe(sub("$share/s/g", 1))
	a.publish("g", "six", 1, false)
	e.message("six") // the other member is busy
}

// TestAMemberJoinsAShareThatItsHubDoesNotKnowYet has a hub that learns late that another one has the share's position.
func TestAMemberJoinsAShareThatItsHubDoesNotKnowYet(t *testing.T) {
	withFaults(t, func(a, b *rig, log *sharedtest.Log) {
		one := options{id: "a", limits: limits{receive: 1}}
		c := a.connect(one)
		one.id = "b"
		d := b.connect(one)
		log.Pause()
		c.subscribe(sub("$share/s/g", 1))
		go func() {
			synctest.Wait() // d has sent its SUBSCRIBE
			log.Resume()
		}()
		if pk := d.subscribe(sub("$share/s/g", 1)); pk.ReasonCodes[0] != 1 {
			t.Fatalf("%+v", pk)
		}
		a.publish("g", "one", 1, false)
		a.publish("g", "two", 1, false)
		first, second := c.expect(packets.Publish), d.expect(packets.Publish)
		got := []string{string(first.Payload), string(second.Payload)}
		if slices.Sort(got); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("the members got %q", got)
		}
	})
}

func TestASubscriptionWithAPositionThatCannotBeKnownIsRefused(t *testing.T) {
	withFaults(t, func(a, b *rig, log *sharedtest.Log) {
		c := b.connect(options{id: "c"})
		a.publish("g", "one", 1, false)
		synctest.Wait()
		log.Cut()
		id := store.ID{Epoch: a.hub.Epoch(), Seq: a.publish("g", "two", 1, false)}.String()
		if pk := c.replay("g", [2]string{"since", id}); pk.ReasonCodes[0] != packets.ErrUnspecifiedError.Code {
			t.Errorf("SUBACK %+v", pk.ReasonCodes)
		}
		log.Heal()
		a.publish("g", "three", 1, false)
		if pk := c.replay("g", [2]string{"since", id}); pk.ReasonCodes[0] != 1 {
			t.Errorf("SUBACK %+v", pk.ReasonCodes)
		}
		c.message("three")
	})
}

func TestASessionWhosePositionCannotBeKnownIsRefused(t *testing.T) {
	withFaults(t, func(a, b *rig, log *sharedtest.Log) {
		o := options{id: "moves", version: 5, expiry: time.Hour, limits: limits{receive: 10}}
		c := a.connect(o)
		c.subscribe(sub("g", 1))
		a.publish("g", "one", 1, false)
		c.ack(packets.Puback, c.message("one").PacketID)
		synctest.Wait()
		log.Cut()
		a.publish("g", "two", 1, false)
		c.ack(packets.Puback, c.message("two").PacketID)
		c.leave()
		moved := newConn(b.server, newPipe(), "127.0.0.1:1")
		moved.version, moved.clientID, moved.key = o.version, o.id, c.conn.key
		moved.grant, moved.limits, moved.expiry = c.conn.grant, o.limits, o.expiry
		if _, _, err := b.server.open(moved); codeOf(err).Code != packets.ErrServerBusy.Code {
			t.Errorf("the session is opened: %v", err)
		}
		a.publish("g", "three", 1, false)
		log.Heal()
		d := b.connect(o)
		if !d.present {
			t.Error("the session is not known")
		}
		d.message("three")
	})
}

// TestAHubThatSeemedDeadBorrows pauses the hub with the position until the other one has it. Its clients have to connect again then.
func TestAHubThatSeemedDeadBorrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := sharedtest.New()
		a, b := &rig{T: t}, &rig{T: t}
		log := shared.Open()
		a.begin(log)
		defer a.end()
		b.begin(shared.Open())
		defer b.end()
		one := options{id: "a", limits: limits{receive: 1}}
		c := a.connect(one)
		one.id = "b"
		d := b.connect(one)
		c.subscribe(sub("$share/s/g", 1))
		d.subscribe(sub("$share/s/g", 1))
		b.publish("g", "1", 1, false)
		b.publish("g", "2", 1, false)
		first, second := c.expect(packets.Publish), d.expect(packets.Publish)
		log.Pause()
		time.Sleep(3 * store.SilentFor)
		d.ack(packets.Puback, second.PacketID)
		d.ack(packets.Puback, d.message(string(first.Payload)).PacketID)
		log.Resume()
		time.Sleep(store.SilentFor)
		c.leave()
		one.id = "c"
		c = a.connect(one)
		c.subscribe(sub("$share/s/g", 1))
		b.publish("g", "3", 1, false)
		b.publish("g", "4", 1, false)
		got := []string{string(c.expect(packets.Publish).Payload), string(d.expect(packets.Publish).Payload)}
		if slices.Sort(got); !slices.Equal(got, []string{"3", "4"}) {
			t.Errorf("the members got %q", got)
		}
	})
}

// TestMessagesOfALostMemberAtAnotherHubGoToAnotherMember has members with two connections at one hub.
func TestMessagesOfALostMemberAtAnotherHubGoToAnotherMember(t *testing.T) {
	a, b := twoHubs(t)
	one := options{limits: limits{receive: 1}}
	connect := func(r *rig, id string) *client {
		one.id = id
		c := r.connect(one)
		c.subscribe(sub("$share/s/g", 1))
		return c
	}
	c, d, e := connect(a, "c"), connect(b, "d"), connect(b, "e")
	defer c.leave()
	defer e.leave()
	for _, text := range []string{"1", "2", "3"} {
		a.publish("g", text, 1, false)
	}
	c.expect(packets.Publish)
	lost, other := d.expect(packets.Publish), e.expect(packets.Publish)
	a.publish("g", "later", 1, false)
	d.leave()
	e.ack(packets.Puback, other.PacketID)
	e.ack(packets.Puback, e.message(string(lost.Payload)).PacketID)
	e.message("later")
}

// TestAGapOfAShareTravelsWithTheMessageThatAnotherHubGets has a gap that a hub finds whose member takes no message.
func TestAGapOfAShareTravelsWithTheMessageThatAnotherHubGets(t *testing.T) {
	for _, version := range []byte{5, 4} {
		t.Run(fmt.Sprint("MQTT ", version), func(t *testing.T) {
			a, b := twoHubs(t)
			begin := a.hub.End().Seq + 1 // after the message of keep
			a.lose(options{id: "keeper", expiry: -1})
			a.say("2", "3")
			c := a.connect(options{id: "c", limits: limits{receive: 1}})
			defer c.leave()
			c.subscribe(sub("own", 1))
			a.publish("own", "mine", 1, false)
			mine := c.message("mine")
			c.subscribe(sub("$share/s/g", 1))
			listener := b.connect(options{id: "listener"})
			defer listener.leave()
			listener.subscribe(sub(gapsPrefix+"+", 1))
			d := b.connect(options{id: "d", version: version, limits: limits{receive: 2}})
			d.subscribe(sub("$share/s/g", 1))
			if version == 5 {
				d.messageAfterGap("2", begin)
			} else {
				d.message("2")
				listener.expect(packets.Publish)
			}
			d.messageAfterGap("3", 0)
			c.ack(packets.Puback, mine.PacketID)
			a.limit(10)
			a.say("4")
			pk := c.messageAfterGap("4", 0)
			d.leave()
			c.ack(packets.Puback, pk.PacketID)
			if version == 5 { // it was not acknowledged
				c.ack(packets.Puback, c.messageAfterGap("2", begin).PacketID)
			} else {
				c.ack(packets.Puback, c.messageAfterGap("2", 0).PacketID)
			}
			c.ack(packets.Puback, c.messageAfterGap("3", 0).PacketID)
			if pk, ok := listener.next(); ok {
				t.Errorf("a gap was told twice: %+v", pk)
			}
		})
	}
}

// A message that is too large for the only member with room tells no gap.
func TestAGapOfAShareIsToldWithTheNextMessageThatAnotherHubSends(t *testing.T) {
	a, b := twoHubs(t)
	begin := a.hub.End().Seq + 1
	a.lose(options{id: "keeper", expiry: -1})
	a.say(strings.Repeat("x", 300), "3")
	c := a.connect(options{id: "c", limits: limits{receive: 1}})
	defer c.leave()
	c.subscribe(sub("own", 1))
	a.publish("own", "mine", 1, false)
	c.message("mine")
	c.subscribe(sub("$share/s/g", 1))
	d := b.connect(options{id: "d", limits: limits{packet: 200, receive: 1}})
	defer d.leave()
	d.subscribe(sub("$share/s/g", 1))
	d.ack(packets.Puback, d.messageAfterGap("3", begin).PacketID)
	a.say("4")
	d.messageAfterGap("4", 0)
}

// TestAnotherHubContinuesAShare closes the hub with the position, or kills it. What the member of the other hub has not
// acknowledged is not sent again.
func TestAnotherHubContinuesAShare(t *testing.T) {
	for name, end := range map[string]func(r *rig, log *sharedtest.Log){
		"closed": func(r *rig, _ *sharedtest.Log) { r.end() },
		"killed": func(r *rig, log *sharedtest.Log) { log.Kill(); r.end() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shared := sharedtest.New()
				a, b := &rig{T: t}, &rig{T: t}
				log := shared.Open()
				a.begin(log)
				b.begin(shared.Open())
				defer b.end()
				c, d := a.connect(options{id: "a", limits: limits{receive: 1}}), b.connect(options{id: "b"})
				c.subscribe(sub("$share/s/g", 1))
				a.publish("g", "one", 1, false)
				c.message("one")
				d.subscribe(sub("$share/s/g", 1))
				a.publish("g", "two", 1, false)
				two := d.message("two")
				time.Sleep(2 * time.Second) // the position is written
				c.leave()
				end(a, log)
				d.message("one")
				b.publish("g", "three", 1, false)
				d.message("three")
				time.Sleep(time.Second) // the position is written
				d.ack(packets.Puback, two.PacketID)
				d.leave()
			})
		})
	}
}
