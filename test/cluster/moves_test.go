//go:build !windows

package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// departures are ways in which a client leaves hub 0.
var departures = map[string]func(b *brokers, d *device) (restart func()){
	"has said good bye": func(_ *brokers, d *device) func() { d.leave(); return func() {} },
	"was cut off":       func(_ *brokers, d *device) func() { d.cut(); return func() {} },
	"lost its hub":      func(b *brokers, _ *device) func() { return b.kill(0) },
}

// goOn has a client leave while it has not acknowledged all.
func (b *brokers) goOn(leave func(*brokers, *device) func()) {
	h := hello{id: "goes on " + b.Name(), keep: true}
	topic := "on/" + deviceUID(h.id)
	publisher := attach(b.T, b.hubs[1], hello{id: "publisher"})
	d := attach(b.T, b.hubs[0], h)
	d.subscribe(topic, 2)
	for i, text := range numbered("m", 1, 6) {
		publisher.publish(topic, text, byte(1+i%2))
	}
	b.stored(h.id, func() { d.take("m1", "m2"); d.idle() })
	b.stored(h.id, func() { d.take("m3"); d.idle() }) // m1 and m2 are stored whatever the first version was
	four, five := d.message("m4"), d.message("m5")
	d.send(packets.PUBREC, &packets.Pubrec{PacketID: four.PacketID, Properties: &packets.Properties{}})
	expect[*packets.Pubrel](d)
	restart := leave(b, d)
	for _, text := range numbered("m", 7, 9) {
		publisher.publish(topic, text, 2)
	}
	d = attach(b.T, b.hubs[1], h)
	if !d.present {
		b.Error("the other hub does not know the session")
	}
	first := expect[*packets.Publish](d)
	repeated := map[string]bool{"m4": b.hubIsDown(0), "m3": b.hubIsDown(0)} // acknowledged just before it was killed
	for repeated[string(first.Payload)] {
		if !first.Duplicate {
			b.Errorf("%s comes again without DUP", first.Payload)
		}
		d.acknowledge(first)
		first = expect[*packets.Publish](d)
	}
	if string(first.Payload) != "m5" || !first.Duplicate || first.PacketID != five.PacketID {
		b.Fatalf("the first message is %q, packet %d, DUP %v, want m5, packet %d", first.Payload, first.PacketID, first.Duplicate, five.PacketID)
	}
	d.acknowledge(first)
	if six := d.message("m6"); !six.Duplicate {
		b.Error("m6 comes again without DUP")
	} else {
		d.acknowledge(six)
	}
	d.take(numbered("m", 7, 9)...)
	d.idle()
	d.leave()
	publisher.leave()
	restart()
	d = attach(b.T, b.hubs[0], h)
	b.must(b.ask(2, http.MethodPost, "/v1/groups/"+topic, "last"))
	d.take("last")
	d.leave()
}

// admitted connects a client to a hub that does not know yet that the client's hub is dead.
func (b *brokers) admitted() {
	h := hello{id: "admitted", keep: true}
	attach(b.T, b.hubs[0], h)
	restart := b.kill(0)
	d, code := tryAttach(b.T, b.hubs[1], h)
	if code != 0 {
		b.Errorf("the client is refused: CONNACK 0x%x", code)
	}
	d.cut()
	restart()
}

func (b *brokers) takeOver() {
	for _, h := range []hello{{id: "kept", keep: true}, {id: "brief"}} {
		old := attach(b.T, b.hubs[0], h)
		old.subscribe("taken", 1)
		attach(b.T, b.hubs[0], hello{id: "other"}).leave() // after it, hub 0 has written the positions
		d := attach(b.T, b.hubs[1], h)
		if code := old.disconnected(); code != packets.DisconnectSessionTakenOver {
			b.Errorf("%s: the older connection is ended with 0x%x", h.id, code)
		}
		if d.present != h.keep {
			b.Errorf("%s: the session is present: %v", h.id, d.present)
		}
		if !h.keep {
			d.subscribe("taken", 1)
		}
		b.must(b.ask(2, http.MethodPost, "/v1/groups/taken", h.id))
		d.take(h.id)
		eventually(b.T, `"streams":1`, b.ask(2, http.MethodGet, "/v1/sessions/"+deviceUID(h.id), ""))
		d.leave()
	}
}

// fight has two clients connect again as soon as they are disconnected.
func (b *brokers) fight() {
	const rounds = 4
	for _, h := range []hello{{id: "fight", keep: true}, {id: "brief fight"}} {
		began := time.Now()
		old := attach(b.T, b.hubs[0], h)
		for n := range rounds {
			d := attach(b.T, b.hubs[1-n%2], h)
			if code := old.disconnected(); code != packets.DisconnectSessionTakenOver {
				b.Errorf("%s: the connection is ended with 0x%x", h.id, code)
			}
			old = d
		}
		if passed := time.Since(began); passed < (rounds-1)*time.Second {
			b.Errorf("%s: %d takeovers took %v", h.id, rounds, passed)
		}
		old.idle()
		old.leave()
	}
}

// hop leaves in both ways.
func (b *brokers) hop() {
	h := hello{id: "hops", keep: true}
	d := attach(b.T, b.hubs[0], h)
	d.subscribe("hops", 2)
	for n := range 100 {
		if n%2 == 0 {
			d.leave()
		} else {
			d.cut()
		}
		b.must(b.ask(n%2, http.MethodPost, "/v1/groups/hops", fmt.Sprint(n)))
		if d = attach(b.T, b.hubs[(n+1)%3], h); !d.present {
			b.Fatalf("hop %d: the session is not present", n)
		}
		d.take(fmt.Sprint(n))
		d.idle()
	}
	list := b.must(b.ask(0, http.MethodGet, "/v1/sessions", ""))
	if n := strings.Count(list, `"client_id":"hops"`); n != 1 {
		b.Errorf("there are %d sessions: %s", n, list)
	}
	d.leave()
}
