//go:build !windows

package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/packets"

	"github.com/watchbox-go/watchbox/test/cluster/judge"
)

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
		b.sub("sessions go on after somebody has purged the stream", (*brokers).purged)
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
