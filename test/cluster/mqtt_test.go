//go:build !windows

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/judge"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// brokers are three hubs that serve MQTT.
type brokers struct {
	*testing.T
	*system
	client *http.Client
}

// eachCluster runs a test with three hubs on one server, and on three servers.
func eachCluster(t *testing.T, run func(b *brokers)) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d servers", n), func(t *testing.T) {
			t.Parallel()
			s := &system{servers: servers.ForTest(t, n)}
			s.hubs = hubs.ForTest(t, program, 3, settings("--nats", s.servers.URL(), "--nats-replicas", fmt.Sprint(n), "--mqtt", "{mqtt}")...)
			b := &brokers{T: t, system: s, client: &http.Client{Transport: &http.Transport{}}}
			t.Cleanup(b.client.CloseIdleConnections)
			run(b)
		})
	}
}

// sub runs a part of the test.
func (b *brokers) sub(name string, run func(b *brokers)) {
	b.T.Run(name, func(t *testing.T) { run(&brokers{t, b.system, b.client}) })
}

// ask returns a request to a hub.
func (b *brokers) ask(hub int, method, path, body string) func() (string, error) {
	return func() (string, error) { return call(b.client, method, b.hubs[hub], path, "", body) }
}

func (b *brokers) must(request func() (string, error)) string {
	b.Helper()
	answer, err := request()
	if err != nil {
		b.Fatal(err)
	}
	return answer
}

// history returns the texts in a group's history at each hub, which must be the same.
func (b *brokers) history(group string) (texts []string) {
	b.Helper()
	for i := range b.hubs {
		var list struct{ Messages []struct{ Msg any } }
		if err := json.Unmarshal([]byte(b.must(b.ask(i, http.MethodGet, "/v1/history/"+group+"?last=1000", ""))), &list); err != nil {
			b.Fatal(err)
		}
		var here []string
		for _, m := range list.Messages {
			here = append(here, fmt.Sprint(m.Msg))
		}
		if i > 0 && !slices.Equal(here, texts) {
			b.Errorf("hub %d has %q, others %q", i, here, texts)
		}
		texts = here
	}
	return texts
}

// gone waits until the session of a client id is gone at each hub, or only its position is kept.
func (b *brokers) gone(id string) {
	b.Helper()
	for i := range b.hubs {
		eventually(b.T, "gone", func() (string, error) {
			answer, err := b.ask(i, http.MethodGet, "/v1/sessions/"+deviceUID(id), "")()
			if err != nil && strings.Contains(err.Error(), ": 404 ") || strings.Contains(answer, `"state":"away"`) {
				return "gone", nil
			}
			return answer, err
		})
	}
}

// kill kills a hub. The function that it returns starts it again.
func (b *brokers) kill(hub int) (restart func()) {
	b.hubs[hub].Kill()
	return func() {
		b.Helper()
		if err := b.hubs[hub].Restart(); err != nil {
			b.Fatal(err)
		}
	}
}

// version returns the version of the position of a client in the stream; 0: there is none.
func (b *brokers) version(id string) uint64 {
	b.Helper()
	nc, err := nats.Connect(b.servers.URL())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	stream, err := js.Stream(b.Context(), "WATCHBOX")
	if err != nil {
		b.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(b.Context(), "wb.WATCHBOX.n.cursor.mqtt."+deviceUID(id))
	if err != nil || len(m.Data) == 0 {
		return 0
	}
	return m.Sequence
}

// stored does something, and waits until another version of the position of a client is in the stream.
func (b *brokers) stored(id string, change func()) {
	b.Helper()
	before := b.version(id)
	change()
	eventually(b.T, "changed", func() (string, error) {
		if b.version(id) != before {
			return "changed", nil
		}
		return "the same", nil
	})
}

// follow follows a group over HTTP at a hub until the test ends.
func (b *brokers) follow(hub int, filter string) *listener {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	l := newListener("listener", filter, b.hubs[hub:hub+1])
	var following sync.WaitGroup
	b.Cleanup(func() { cancel(); following.Wait() })
	following.Go(func() { l.run(ctx, rand.New(rand.NewPCG(1, 1)), func() int { return 1 << 30 }) })
	if !l.until(ctx, func(seen []judge.Event) bool { return len(seen) > 0 }) {
		b.Fatal("the listener has no stream")
	}
	return l
}

// bodies waits for a number of messages and returns their texts.
func (l *listener) bodies(t *testing.T, n int) (texts []string) {
	t.Helper()
	ok := l.until(t.Context(), func(seen []judge.Event) bool {
		texts = nil
		for _, e := range seen {
			if e.Kind == judge.Delivery {
				texts = append(texts, e.Body)
			}
		}
		return len(texts) >= n
	})
	if !ok {
		t.Fatalf("the listener got %d messages of %d", len(texts), n)
	}
	return texts
}

// numbered returns the texts prefix-first to prefix-last.
func numbered(prefix string, first, last int) (texts []string) {
	for i := first; i <= last; i++ {
		texts = append(texts, fmt.Sprint(prefix, i))
	}
	return texts
}

func TestMQTTAtSeveralHubs(t *testing.T) {
	t.Parallel()
	eachCluster(t, func(b *brokers) {
		b.sub("clients of MQTT and of HTTP at all hubs get the same", (*brokers).sameOrder)
		b.sub("a message of QoS 2 that is completed at another hub is there once", (*brokers).publishTwice)
		for name, leave := range departures {
			b.sub("a session goes on at another hub after its client "+name, func(b *brokers) { b.goOn(leave) })
		}
		b.sub("another hub admits a client right after its hub was killed", (*brokers).admitted)
		b.sub("a new connection at another hub ends the older one", (*brokers).takeOver)
		b.sub("two clients that fight over an id at two hubs are slowed", (*brokers).fight)
		b.sub("the will is sent once when the hub is killed", (*brokers).willSent)
		b.sub("the will is not sent when the client is back at another hub", (*brokers).willKept)
		b.sub("each hub shows the client and its retained message, and can kick it", (*brokers).shown)
		b.sub("a session that is ended at any hub stays ended", (*brokers).end)
		b.sub("a hundred hops keep one session", (*brokers).hop)
		b.sub("what was evicted while the client was away is a gap at the hub of its return", (*brokers).gap)
	})
}

// sameOrder publishes at all hubs in all ways.
func (b *brokers) sameOrder() {
	const each = 60
	heard := b.follow(1, "same/#")
	got := attach(b.T, b.hubs[2], hello{id: "same"})
	got.subscribe("same/#", 2)
	var publishing sync.WaitGroup
	for i := range b.hubs {
		d := attach(b.T, b.hubs[i], hello{id: fmt.Sprint("same", i)})
		publishing.Go(func() {
			for n := range each {
				d.publish(fmt.Sprint("same/", i), fmt.Sprint(i, "-", n), byte(n%3))
			}
			d.leave()
		})
		publishing.Go(func() {
			for n := range each {
				if _, err := b.ask(i, http.MethodPost, "/v1/groups/same/http", fmt.Sprint("http", i, "-", n))(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	want := heard.bodies(b.T, 6*each)
	for _, text := range want {
		got.take(text)
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(want))); len(want) != 6*each || len(sorted) != 6*each {
		b.Errorf("%d messages, %d different, want %d", len(want), len(sorted), 6*each)
	}
	got.idle()
	got.leave()
}

// publishTwice breaks the exchange of a message of QoS 2 before and after PUBREC.
func (b *brokers) publishTwice() {
	h := hello{id: "exactly", keep: true}
	d := attach(b.T, b.hubs[0], h)
	d.id = 7
	d.offer("exactly", "one", 2, false)
	eventually(b.T, "one", b.ask(1, http.MethodGet, "/v1/history/exactly", ""))
	d.cut()
	d = attach(b.T, b.hubs[1], h)
	d.id = 7
	d.offer("exactly", "one", 2, true)
	expect[*packets.Pubrec](d)
	d.cut()
	d = attach(b.T, b.hubs[2], h)
	d.id = 7
	d.offer("exactly", "one", 2, true)
	expect[*packets.Pubrec](d)
	d.complete()
	d.publish("exactly", "two", 2)
	d.leave()
	if got := b.history("exactly"); !slices.Equal(got, []string{"one", "two"}) {
		b.Errorf("the group has %q", got)
	}
}

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

func (b *brokers) hubIsDown(hub int) bool {
	select {
	case <-b.hubs[hub].Done():
		return true
	default:
		return false
	}
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

func (b *brokers) willSent() {
	attach(b.T, b.hubs[0], hello{id: "lost", keep: true, will: "lost", soon: true})
	restart := b.kill(0)
	eventually(b.T, "lost", b.ask(1, http.MethodGet, "/v1/history/wills/lost", ""))
	restart()
	b.gone("lost")
	if got := b.history("wills/lost"); !slices.Equal(got, []string{"lost"}) {
		b.Errorf("the wills are %q", got)
	}
}

func (b *brokers) willKept() {
	h := hello{id: "back", keep: true, will: "lost"}
	attach(b.T, b.hubs[0], h)
	restart := b.kill(0)
	d := attach(b.T, b.hubs[1], h)
	if !d.present {
		b.Error("the session is not present")
	}
	restart()
	eventually(b.T, `"streams":1`, b.ask(0, http.MethodGet, "/v1/sessions/"+deviceUID(h.id), ""))
	d.leave()
	b.gone(h.id)
	if got := b.history("wills/back"); len(got) > 0 {
		b.Errorf("the wills are %q", got)
	}
}

func (b *brokers) shown() {
	h := hello{id: "shown", keep: true}
	uid := deviceUID(h.id)
	seen := watch(b.T, "shown/#", b.hubs[2])
	d := attach(b.T, b.hubs[0], h)
	d.subscribe("shown/#", 1)
	d.send(packets.PUBLISH, &packets.Publish{Topic: "shown/retained", Payload: []byte("kept"), Retain: true, QoS: 1, PacketID: 9, Properties: &packets.Properties{}})
	expect[*packets.Puback](d)
	d.take("kept")
	if !seen.until(b.Context(), func(all []judge.Event) bool { return saw(all, "join") == 1 }) {
		b.Error("the client is not present")
	}
	for i := range b.hubs {
		for _, part := range []string{`"protocol":"mqtt"`, `"client_id":"shown"`, `"shown/#"`} {
			eventually(b.T, part, b.ask(i, http.MethodGet, "/v1/sessions/"+uid, ""))
			eventually(b.T, part, b.ask(i, http.MethodGet, "/v1/sessions", ""))
		}
		eventually(b.T, `"kept"`, b.ask(i, http.MethodGet, "/v1/retained/shown/retained", ""))
		late := attach(b.T, b.hubs[i], hello{id: fmt.Sprint("late", i)})
		late.subscribe("shown/retained", 1)
		if m := late.message("kept"); !m.Retain {
			b.Error("the retained message does not say so")
		}
		late.leave()
	}
	b.must(b.ask(1, http.MethodDelete, "/v1/sessions/"+uid, ""))
	if code := d.disconnected(); code != packets.DisconnectAdministrativeAction {
		b.Errorf("a client that was kicked is disconnected with 0x%x", code)
	}
	if !seen.until(b.Context(), func(all []judge.Event) bool { return count(all, uid, "gone") == 1 }) {
		b.Errorf("the client is not gone: %v", seen.history().Events)
	}
	b.gone(h.id)
	for i := range b.hubs {
		eventually(b.T, "no such", func() (string, error) {
			list, err := b.ask(i, http.MethodGet, "/v1/sessions?state=away", "")()
			if strings.Contains(list, uid) {
				return list, err
			}
			return "no such", err
		})
	}
	if d = attach(b.T, b.hubs[2], h); d.present {
		b.Error("the session of a client that was kicked is present")
	}
	d.leave()
}

// end ends sessions at hub 1 whose hub 0 has been stopped, or killed with the client connected, or that is killed, with all
// others, right after the answer.
func (b *brokers) end() {
	for name, before := range map[string]func(d *device){
		"away": func(d *device) {
			d.leave()
			if err := b.hubs[0].Stop(); err != nil {
				b.Error(err)
			}
		},
		"killed":    func(*device) { b.hubs[0].Kill() },
		"connected": func(*device) {},
	} {
		h := hello{id: "ended " + name, keep: true}
		d := attach(b.T, b.hubs[0], h)
		d.subscribe("ended", 1)
		before(d)
		eventually(b.T, "ended", func() (string, error) { // while hub 0 may be alive and does not answer, this is refused
			answer, err := b.ask(1, http.MethodDelete, "/v1/sessions/"+deviceUID(h.id), "")()
			return answer + "ended", err
		})
		for _, hub := range b.hubs {
			hub.Kill()
		}
		for _, hub := range b.hubs {
			if err := hub.Restart(); err != nil {
				b.Fatal(err)
			}
		}
		for i := range b.hubs {
			if answer, err := b.ask(i, http.MethodGet, "/v1/sessions/"+deviceUID(h.id), "")(); err == nil || !strings.Contains(err.Error(), ": 404 ") {
				b.Errorf("%s: hub %d: %s, %v", name, i, answer, err)
			}
		}
		if d = attach(b.T, b.hubs[2], h); d.present {
			b.Errorf("%s: the session is present", name)
		}
		d.leave()
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

func (b *brokers) gap() {
	h := hello{id: "gap", keep: true}
	b.must(b.ask(0, http.MethodPut, "/v1/policies/few", `{"max_messages":3}`))
	d := attach(b.T, b.hubs[0], h)
	d.subscribe("few", 1)
	var receipt struct{ ID string }
	for n := range 10 {
		if n == 1 {
			d.take("0")
			d.idle()
			d.leave()
		}
		if err := json.Unmarshal([]byte(b.must(b.ask(n%3, http.MethodPost, "/v1/groups/few", fmt.Sprint(n)))), &receipt); err != nil {
			b.Fatal(err)
		}
	}
	d = attach(b.T, b.hubs[1], h)
	m := d.message("7")
	if i := slices.IndexFunc(m.Properties.User, func(u packets.User) bool { return u.Key == "gap" && strings.Contains(u.Value, "..") }); i < 0 {
		b.Errorf("there is no gap: %v", m.Properties)
	}
	d.acknowledge(m)
	d.take("8", "9")
	d.leave()
}
