package mqtt

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
)

// A client gets as many messages as fit into its window, each with an id of its own, and the others when it acknowledges.
func TestAClientGetsAsManyMessagesAsFitIntoItsWindow(t *testing.T) {
	for name, c := range map[string]struct {
		expiry  uint32
		receive uint16
		window  int
	}{
		"a session that is kept":              {60, 0, maxWindow},
		"a session that ends with its client": {0, 0, maxBriefWindow},
		"a client that takes few":             {0, 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, nil)
			sub := r.admitted("sub", func(pk *packets.Packet) {
				pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = c.expiry, c.expiry > 0
				pk.Properties.ReceiveMaximum = c.receive
			})
			sub.send(packets.Subscribe, &packets.Packet{PacketID: 1, Filters: packets.Subscriptions{{Filter: "a", Qos: 1}}})
			sub.expect(packets.Suback)
			pub := r.admitted("pub", nil)
			total := 2*c.window + 1
			for i := range total {
				pub.publish("a", fmt.Sprint(i), 1, 1, nil)
				pub.expectAck(packets.Puback, 1, 0)
			}
			flying := map[uint16]bool{}
			var order []uint16
			for i := range total {
				if len(flying) == c.window { // the oldest half, so that ids are free between others
					if i == c.window {
						sub.send(packets.Pingreq, &packets.Packet{})
						sub.expect(packets.Pingresp) // and no message before it
					}
					for _, id := range order[:(c.window+1)/2] {
						sub.send(packets.Puback, &packets.Packet{PacketID: id})
						delete(flying, id)
					}
					order = order[(c.window+1)/2:]
				}
				pk := sub.expect(packets.Publish)
				if string(pk.Payload) != fmt.Sprint(i) || flying[pk.PacketID] {
					t.Fatalf("message %d is %q with the id %d, which is in use: %v", i, pk.Payload, pk.PacketID, flying[pk.PacketID])
				}
				flying[pk.PacketID] = true
				order = append(order, pk.PacketID)
			}
		})
	}
}

func TestAWindowKnowsWhichOfItsMessagesWereAppended(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := window{size: 20}
	seq := store.Seq(0)
	for range 10_000 {
		pass := delivery.Pass(rnd.IntN(3))
		switch rnd.IntN(6) {
		case 0:
			if !w.full() {
				seq++
				w.add(entry{seq: seq, id: w.next(), state: awaitAck, flags: isAppended, pass: pass})
			}
		case 1:
			if !w.full() {
				seq++
				w.add(entry{seq: seq, id: w.next(), state: awaitRec, flags: isAgain})
			}
		case 2:
			if e := w.again(store.Seq(rnd.IntN(int(seq) + 1))); e != nil {
				w.appendAgain(e, pass)
			}
		case 3:
			w.sent(seq-min(seq, store.Seq(rnd.IntN(10))), pass)
		case 4:
			if len(w.list) > 0 {
				w.remove(rnd.IntN(len(w.list)))
			}
		case 5:
			w.passed(seq - min(seq, store.Seq(rnd.IntN(20))))
		}
		appended, flying := int32(0), 0
		for _, e := range w.list {
			if e.is(isAppended) {
				appended++
			}
			if !e.is(isAgain) {
				flying++
			}
		}
		if w.appended != appended || w.flying() != flying {
			t.Fatalf("%d messages were appended, want %d; %d in flight, want %d (seed %d)", w.appended, appended, w.flying(), flying, seed)
		}
	}
}
