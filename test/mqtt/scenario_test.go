//go:build !windows

package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
)

// payloads are texts, JSON and bytes. Each must come back as it is.
var payloads = []string{
	"the kettle is on", "", "null", `{"celsius":93}`, `{ "celsius" : 93.0 }`, `"quoted"`, "1e3", " 17", "äöü → ☕",
	"\x00\x01\xff\xfe", "line\nline\r\n", strings.Repeat("0123456789abcdef", 8<<10), `{"a":1}{"b":2}`, `{"a":1,"a":2}`, `"\u00e4"`, `<&>`,
}

// TestEachLibraryHearsItself: payloads come back as they were sent, with the lower QoS of both sides, in order.
func TestEachLibraryHearsItself(t *testing.T) {
	b := serve(t)
	eachLibrary(t, func(t *testing.T, l library) {
		topic := "home/" + strings.ReplaceAll(l.name, " ", "-")
		for granted := range byte(3) {
			t.Run(fmt.Sprint("QoS ", granted), func(t *testing.T) {
				c := l.must(t, b, connection{})
				c.subscribe(fmt.Sprintf("%s/%d/#", topic, granted), granted)
				var want []message
				for qos := range byte(3) {
					for i, p := range payloads {
						m := message{topic: fmt.Sprintf("%s/%d/%d", topic, granted, i), payload: p, qos: qos}
						c.publish(m)
						want = append(want, message{m.topic, m.payload, min(qos, granted), false})
					}
				}
				got := c.received.wait(t, func(all []message) int { return len(all) / len(want) * len(want) })
				if !slices.Equal(got, want) {
					for i := range got {
						if got[i] != want[i] {
							t.Errorf("received %v, want %v", got[i], want[i])
						}
					}
				}
			})
		}
	})
}

// TestFiltersMatchAsMQTTSays: each client receives exactly the topics that its filter matches, also those with empty levels.
func TestFiltersMatchAsMQTTSays(t *testing.T) {
	b := serve(t)
	topics := []string{"a", "a/b", "a/b/c", "/a", "a/", "a//b", "/", "//", "b/a", "%/a", "a/%/b", "ä/b", "a b/c", "a/./b", "../a"}
	for i, f := range []struct {
		filter  string
		matches []string
	}{
		{"a", []string{"a"}},
		{"a/#", []string{"a", "a/b", "a/b/c", "a/", "a//b", "a/%/b", "a/./b"}},
		{"a/+", []string{"a/b", "a/"}},
		{"+/a", []string{"/a", "b/a", "%/a", "../a"}},
		{"/+", []string{"/a", "/"}},
		{"/#", []string{"/a", "/", "//"}},
		{"+/+", []string{"a/b", "/a", "a/", "/", "b/a", "%/a", "ä/b", "a b/c", "../a"}},
		{"a/+/b", []string{"a//b", "a/%/b", "a/./b"}},
		{"a//b", []string{"a//b"}},
		{"a/%/b", []string{"a/%/b"}},
		{"%/a", []string{"%/a"}},
		{"+", []string{"a"}},
		{"#", topics},
	} {
		l := libraries[i%2]
		t.Run(l.name+" "+f.filter, func(t *testing.T) {
			b := b
			c := l.must(t, b, connection{id: fmt.Sprint("filters-", i)})
			c.subscribe(f.filter, 1)
			for _, topic := range topics {
				c.publish(message{topic: topic, payload: topic, qos: 1})
			}
			c.subscribe("end", 1)
			c.publish(message{topic: "end", payload: "end", qos: 1})
			got := c.received.until(t, "end")
			want := append(slices.Clone(f.matches), "end")
			for _, m := range got {
				if m.topic != m.payload {
					t.Errorf("the topic of %q is %q", m.payload, m.topic)
				}
			}
			var names []string
			for _, m := range got {
				names = append(names, m.topic)
			}
			if !slices.Equal(names, want) {
				t.Errorf("received %q, want %q", names, want)
			}
			c.end()
		})
	}
}

// TestRetained: a new subscription gets the newest retained message of each topic first, with the retain flag, and a
// message that comes later without it. An empty payload removes it.
func TestRetained(t *testing.T) {
	b := serve(t)
	eachLibrary(t, func(t *testing.T, l library) {
		root := "retained/" + strings.ReplaceAll(l.name, " ", "-")
		c := l.must(t, b, connection{})
		for _, m := range []message{
			{root + "/a", "old", 1, true}, {root + "/a", "new", 1, true}, {root + "/b", "b", 2, true},
			{root + "/c", "removed", 1, true}, {root + "/c", "", 1, true}, {root + "/d", "not retained", 1, false},
		} {
			c.publish(m)
		}
		c.subscribe(root+"/#", 1)
		c.received.until(t, "b") // a retained message that is replaced before it is read is not sent
		c.publish(message{root + "/a", "live", 1, true})
		got := c.received.until(t, "live")
		slices.SortFunc(got, func(x, y message) int { return strings.Compare(x.topic+x.payload, y.topic+y.payload) })
		want := []message{{root + "/a", "live", 1, false}, {root + "/a", "new", 1, true}, {root + "/b", "b", 1, true}}
		if !slices.Equal(got, want) {
			t.Errorf("received %v, want %v", got, want)
		}
	})
}

// TestWills: the will of a client whose connection breaks is published, that of one that disconnects is not.
func TestWills(t *testing.T) {
	b := serve(t)
	eachLibrary(t, func(t *testing.T, l library) {
		root := "wills/" + strings.ReplaceAll(l.name, " ", "-")
		watcher := l.must(t, b, connection{})
		watcher.subscribe(root+"/#", 2)
		l.must(t, b, connection{will: &message{root, "not sent", 1, false}}).end()
		l.must(t, b, connection{will: &message{root, "gone", 2, true}}).cut()
		got := watcher.received.until(t, "gone")
		if want := []message{{root, "gone", 2, false}}; !slices.Equal(got, want) {
			t.Errorf("received %v, want %v", got, want)
		}
		late := l.must(t, b, connection{})
		late.subscribe(root, 1)
		if got, want := late.received.until(t, "gone"), []message{{root, "gone", 1, true}}; !slices.Equal(got, want) {
			t.Errorf("later received %v, want %v", got, want)
		}
	})
}

// TestADisconnectWithItsWill: the will is published after a DISCONNECT that asks for it, also one without properties.
func TestADisconnectWithItsWill(t *testing.T) {
	b := serve(t)
	watcher := libraries[0].must(t, b, connection{})
	watcher.subscribe("will", 1)
	for i, packet := range []string{"\xe0\x02\x04\x00", "\xe0\x01\x04"} {
		c := b.dial()
		defer closer(c)()
		p := packets.NewControlPacket(packets.CONNECT)
		p.Content = &packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: "leaves", CleanStart: true,
			WillFlag: true, WillTopic: "will", WillMessage: []byte(fmt.Sprint(i)), Properties: &packets.Properties{}, WillProperties: &packets.Properties{}}
		exchange(t, c, p)
		if _, err := c.Write([]byte(packet)); err != nil {
			t.Fatal(err)
		}
		watcher.received.until(t, fmt.Sprint(i))
	}
}

// TestTakeover: a second client with the same id gets the session, and the first one is disconnected.
func TestTakeover(t *testing.T) {
	b := serve(t)
	eachLibrary(t, func(t *testing.T, l library) {
		id := "takeover " + l.name
		topic := "takeover/" + strings.ReplaceAll(l.name, " ", "-")
		first := l.must(t, b, connection{id: id, keep: true})
		first.subscribe(topic, 1)
		second := l.must(t, b, connection{id: id, keep: true})
		if !second.present {
			t.Error("the second client did not get the session")
		}
		if why := receive(t, first.lost); l.v5 && why != 0x8e && !reference { // mosquitto 2.0.11 says nothing
			t.Errorf("the first client is disconnected with 0x%x, want 0x8e", why)
		}
		second.publish(message{topic, "for the second", 1, false})
		second.received.until(t, "for the second")
		if all, _ := first.received.now(); len(all) > 0 {
			t.Errorf("the first client received %v", all)
		}
	})
}

// TestOffline: a client that comes back gets what it missed, in order, also after the broker was restarted.
func TestOffline(t *testing.T) {
	b := serve(t, "--data-dir", t.TempDir())
	connect := func(l library) *client {
		return l.must(t, b, connection{id: "offline " + l.name, keep: true})
	}
	for _, l := range libraries {
		c := connect(l)
		if c.present {
			t.Errorf("%s: the first connection finds a session", l.name)
		}
		c.subscribe("offline/+", 1)
		c.end()
	}
	sender := libraries[0].must(t, b, connection{})
	send := func(from, to int) (want []message) {
		for i := from; i < to; i++ {
			m := message{fmt.Sprint("offline/", i%3), fmt.Sprint("message ", i), 1 + byte(i%2), false}
			sender.publish(m)
			want = append(want, message{m.topic, m.payload, 1, false})
		}
		return want
	}
	want := send(0, 20)
	sender.end()
	b.restart()
	sender = libraries[0].must(t, b, connection{})
	want = append(want, send(20, 40)...)
	for _, l := range libraries {
		t.Run(l.name, func(t *testing.T) {
			c := connect(l)
			if !c.present {
				t.Error("its session is gone")
			}
			if got := c.received.until(t, "message 39"); !slices.Equal(got, want) {
				t.Errorf("received %v, want %v", got, want)
			}
		})
	}
}

// TestACleanStartForgetsTheSession: what was missed is not sent, and the filters are gone.
func TestACleanStartForgetsTheSession(t *testing.T) {
	b := serve(t)
	eachLibrary(t, func(t *testing.T, l library) {
		id := "clean " + l.name
		topic := "clean/" + strings.ReplaceAll(l.name, " ", "-")
		first := l.must(t, b, connection{id: id, keep: true})
		first.subscribe(topic+"/#", 1)
		first.end()
		l.must(t, b, connection{}).publish(message{topic + "/a", "missed", 1, false})
		l.must(t, b, connection{id: id}).end()
		c := l.must(t, b, connection{id: id, keep: true})
		if c.present {
			t.Error("the session is still there")
		}
		c.subscribe(topic+"/b", 1)
		for _, m := range []message{{topic + "/a", "to a", 1, false}, {topic + "/b", "to b", 1, false}} {
			c.publish(m)
		}
		if got, want := c.received.until(t, "to b"), []message{{topic + "/b", "to b", 1, false}}; !slices.Equal(got, want) {
			t.Errorf("received %v, want %v", got, want)
		}
	})
}
