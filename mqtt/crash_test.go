package mqtt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestQoS2IsExactlyOnceWhenTheServerIsKilled publishes messages of QoS 2 to a server with a disk, which is killed again and
// again while it answers. The client follows the specification: it sends again what is not acknowledged.
func TestQoS2IsExactlyOnceWhenTheServerIsKilled(t *testing.T) {
	const messages, window = 300, 10
	dir := t.TempDir()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	type flight struct {
		text     string
		received bool // PUBREC has arrived
	}
	flights := map[uint16]*flight{}
	next, id := 0, uint16(0)
	for kills := 0; next < messages || len(flights) > 0; kills++ {
		server := startChild(t, dir)
		r := &wired{T: t, addr: server.addr}
		c, ack := r.connect("a", func(pk *packets.Packet) {
			pk.Connect.Clean = kills == 0
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 10000, true
		})
		if kills > 0 && !ack.SessionPresent {
			t.Fatalf("after %d kills, the session is lost", kills)
		}
		send := func(id uint16, f *flight, dup bool) {
			if f.received {
				c.send(packets.Pubrel, &packets.Packet{PacketID: id})
				return
			}
			c.publish("a", f.text, 2, id, func(pk *packets.Packet) { pk.FixedHeader.Dup = dup })
		}
		ids := make([]uint16, 0, len(flights))
		for id := range flights {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		for _, id := range ids {
			send(id, flights[id], true)
		}
		answers := 5 + random.IntN(100) // until it is killed
		for ; answers > 0 && (next < messages || len(flights) > 0); answers-- {
			for len(flights) < window && next < messages {
				for id++; id == 0 || id > 50 || flights[id] != nil; id++ { // ids are used again soon
					if id > 50 {
						id = 0
					}
				}
				f := &flight{text: strconv.Itoa(next)}
				flights[id] = f
				next++
				send(id, f, false)
			}
			pk := c.receive()
			if pk == nil {
				t.Fatal("the connection ended")
			}
			f := flights[pk.PacketID]
			switch {
			case f == nil:
				t.Fatalf("an answer to %d", pk.PacketID)
			case pk.FixedHeader.Type == packets.Pubrec && pk.ReasonCode == 0:
				f.received = true
				send(pk.PacketID, f, false)
			case pk.FixedHeader.Type == packets.Pubcomp && f.received:
				delete(flights, pk.PacketID)
			default:
				t.Fatalf("%s %#x of %d", packets.PacketNames[pk.FixedHeader.Type], pk.ReasonCode, pk.PacketID)
			}
		}
		_ = c.Close()
		server.kill()
	}
	log, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := serveOn(t, log, nil)
	count := map[string]int{}
	for _, text := range r.messages("a") {
		count[text]++
	}
	for n := range messages {
		if text := fmt.Sprint(n); count[text] != 1 {
			t.Errorf("message %s is in the log %d times", text, count[text])
		}
	}
}

// TestIDsOfAClientThatReturnedAreReleasedAfterACrash kills the server before it stores a position of the returned client, which
// then holds a packet id that no position has. A new message with this id would be a repetition for it.
func TestIDsOfAClientThatReturnedAreReleasedAfterACrash(t *testing.T) {
	dir := t.TempDir()
	keep := func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 10000, true
	}
	first := startChild(t, dir)
	r := &wired{T: t, addr: first.addr}
	c := r.admitted("a", keep)
	c.subscribe(sub("g", 2))
	c.send(packets.Disconnect, &packets.Packet{})
	_ = c.Close()
	first.end()

	second := startChild(t, dir)
	r = &wired{T: t, addr: second.addr}
	c = r.admitted("a", keep)
	r.admitted("b", nil).publish("g", "one", 2, 1, nil)
	id := c.expect(packets.Publish).PacketID
	second.kill()

	third := startChild(t, dir)
	r = &wired{T: t, addr: third.addr}
	c = r.admitted("a", keep)
	for {
		switch pk := c.receive(); {
		case pk == nil:
			t.Fatal("the connection ended")
		case pk.FixedHeader.Type == packets.Publish && pk.PacketID == id:
			t.Fatalf("a message has the packet id %d, which is not released", id)
		case pk.FixedHeader.Type == packets.Pubrel && pk.PacketID == id:
			return
		}
	}
}
