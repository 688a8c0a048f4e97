package mqtt

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/delivery"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// TestAnExpiredMessageIsNotGivenBack has a hub that has borrowed a message and whose clock is ahead. The hub that lends it would
// lend it again at once, again and again until it expires there, too.
func TestAnExpiredMessageIsNotGivenBack(t *testing.T) {
	r := newRig(t)
	m := store.Message{Group: "g", Msg: []byte("1"), Expires: time.Now().Add(-time.Second)}
	e := m.Entry(nil)
	b, at := e.AppendFrame(nil, store.ID{Epoch: r.hub.Epoch(), Seq: 5})
	f := store.Frame{Seq: 5, Group: m.Group, Flags: e.Flags(), Msg: at, Bytes: b}
	h := &share{server: r.server, debts: &debts{news: make(chan struct{}, 1)}, read: 4}
	h.keep(lending{seq: 5, gap: gap{after: "before"}})
	if out, wait := h.Append(nil, &f, delivery.Logged); len(out) > 0 || wait {
		t.Errorf("%q, %v", out, wait)
	}
	if done := h.debts.done; !slices.Equal(done, []loan{{5, "before"}}) || len(h.debts.back) > 0 || len(h.lent) > 0 {
		t.Errorf("done: %v, given back: %v, kept: %v", done, h.debts.back, h.lent)
	}
}

// A client gets messages of its own stream and of a share, which are sent by two goroutines.
func TestTheReceiveMaximumHoldsForSharesAndOtherSubscriptionsTogether(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a", limits: limits{receive: 1}})
	defer c.leave()
	c.subscribe(sub("own", 1), sub("$share/s/g", 1))
	const each = 1000
	var senders sync.WaitGroup
	for _, name := range []string{"own", "g"} {
		senders.Go(func() {
			for i := range each {
				r.publish(name, strconv.Itoa(i), 1, false)
			}
		})
	}
	for range 2 * each {
		pk := c.expect(packets.Publish)
		if more, ok := c.next(); ok {
			t.Fatalf("%q arrived though %q is not acknowledged", more.Payload, pk.Payload)
		}
		c.ack(packets.Puback, pk.PacketID)
	}
	senders.Wait()
}

func TestAShareGoesOnWhenItsMemberHasRoomAgain(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a", limits: limits{receive: 1}})
	defer c.leave()
	c.subscribe(sub("own", 1), sub("$share/s/g", 2))
	r.publish("own", "mine", 1, false)
	mine := c.message("mine")
	r.publish("g", "1", 2, false)
	r.publish("g", "2", 2, false)
	c.ack(packets.Puback, mine.PacketID)
	for _, text := range []string{"1", "2"} {
		pk := c.message(text)
		c.ack(packets.Pubrec, pk.PacketID)
		c.expect(packets.Pubrel)
		c.ack(packets.Pubcomp, pk.PacketID)
	}
}

// lose lets a share miss the message "1" while its only member is away.
func (r *rig) lose(o options) {
	r.Helper()
	r.keep(2)
	c := r.connect(o)
	c.subscribe(sub("$share/s/g", 1))
	c.leave()
	r.say("1")
}

func TestAGapOfAShareIsToldAgainUntilItIsAcknowledged(t *testing.T) {
	r := newRig(t)
	o := options{id: "a", expiry: -1}
	begin := r.hub.End().Seq + 1 // after the message of keep
	r.lose(o)
	r.say("2", "3")
	for range 2 { // the gap is kept with the position
		a := r.connect(o)
		a.messageAfterGap("2", begin)
		a.messageAfterGap("3", 0)
		a.leave()
	}
	a, b := r.connect(o), r.connect(options{id: "b"})
	a.messageAfterGap("2", begin)
	a.messageAfterGap("3", 0)
	b.subscribe(sub("$share/s/g", 1))
	a.leave()
	for _, pk := range []packets.Packet{b.messageAfterGap("2", begin), b.messageAfterGap("3", 0)} {
		b.ack(packets.Puback, pk.PacketID)
	}
	b.leave()
	a = r.connect(o)
	r.say("4")
	a.messageAfterGap("4", 0)
	a.leave()
}

func TestAGapOfAShareIsToldWithTheNextMessageThatIsSent(t *testing.T) {
	r := newRig(t)
	o := options{id: "a", expiry: -1, limits: limits{packet: 200}}
	begin := r.hub.End().Seq + 1
	r.lose(o)
	r.say(strings.Repeat("x", 300), "3")
	a := r.connect(o)
	a.messageAfterGap("3", begin)
	a.leave()
}

func TestAGapOfAShareIsToldInAGroupIfTheMessageHasNoRoomForIt(t *testing.T) {
	r := newRig(t)
	o := options{id: "a", expiry: -1, limits: limits{packet: 100}}
	r.lose(o)
	listener := r.connect(options{id: "listener"})
	defer listener.leave()
	listener.subscribe(sub(gapsPrefix+"+", 1))
	large := strings.Repeat("x", 80)
	r.say(large, "3")
	a := r.connect(o)
	defer a.leave()
	a.messageAfterGap(large, 0)
	if pk := listener.expect(packets.Publish); pk.TopicName != gapsPrefix+a.conn.uid() {
		t.Errorf("the gap was told in %s", pk.TopicName)
	}
	a.messageAfterGap("3", 0)
}

func TestAGapOfAShareIsToldInAGroupIfTheMessageGoesToAClientOfMQTT3(t *testing.T) {
	r := newRig(t)
	o := options{id: "a", expiry: -1, version: 4}
	r.lose(o)
	listener := r.connect(options{id: "listener"})
	defer listener.leave()
	listener.subscribe(sub(gapsPrefix+"+", 1))
	r.say("2", "3")
	a := r.connect(o)
	a.message("2")
	a.leave()
	pk := listener.expect(packets.Publish)
	if want := gapsPrefix + sessions.ClientUID("mqtt", "", "a"); pk.TopicName != want {
		t.Errorf("the gap was told in %s, want %s", pk.TopicName, want)
	}
	if !strings.Contains(string(pk.Payload), `"client_id":"a"`) {
		t.Errorf("%s", pk.Payload)
	}
	a = r.connect(o)
	a.message("2")
	a.message("3")
	a.leave()
	if more, ok := listener.next(); ok {
		t.Errorf("the gap was told twice: %s", more.Payload)
	}
}

func TestAShareIsNotKeptForAMemberThatWasKicked(t *testing.T) {
	for _, c := range []struct {
		name       string
		away, here bool // whether the member is away when it is kicked, and another member is here
	}{{"connected", false, false}, {"away", true, false}, {"connected, before another one", false, true}, {"away, before another one", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			uid := sessions.ClientUID("mqtt", "", "a")
			a := r.connect(options{id: "a", expiry: -1})
			a.subscribe(sub("$share/s/g", 1))
			var b *client
			if c.here {
				b = r.connect(options{id: "b"})
				b.subscribe(sub("$share/s/g", 1))
			}
			if c.away {
				a.leave()
			}
			if err := r.hub.EndSession(uid, sessions.Kicked); err != nil {
				t.Fatal(err)
			}
			if !c.away {
				a.expect(packets.Disconnect)
				a.leave()
			}
			if c.here {
				b.leave()
			}
			if p, ok := r.hub.Cursors().Get("share/s/g"); ok {
				t.Errorf("the share is kept for %v", p.Expiry)
			}
		})
	}
}
