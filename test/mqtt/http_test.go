//go:build !windows

package mqtt_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/eclipse/paho.golang/packets"

	byhttp "github.com/watchbox-go/watchbox/client"
)

// call makes a request to the hub and returns the answer, which must be good.
func (b *broker) call(method, path, body string, header ...string) []byte {
	b.t.Helper()
	req, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode > 299 {
		b.t.Fatalf("%s %s: %s, %v: %s", method, path, answer.Status, err, text)
	}
	return text
}

// stored is a message as history shows it.
type stored struct {
	Group, Encoding string
	Msg             json.RawMessage
	Meta            [][2]string
}

// history returns the messages of a filter.
func (b *broker) history(filter string) []stored {
	b.t.Helper()
	var page struct{ Messages []stored }
	if err := json.Unmarshal(b.call("GET", "/v1/history/"+strings.ReplaceAll(filter, "#", "%23"), ""), &page); err != nil {
		b.t.Fatal(err)
	}
	return page.Messages
}

// TestPayloadsOverHTTP: JSON without spaces is JSON over HTTP, other text a string, the rest base64. What an HTTP
// client sends comes as the same bytes.
func TestPayloadsOverHTTP(t *testing.T) {
	b := hub(t)
	l := libraries[0]
	sender := l.must(t, b, connection{})
	for i, p := range payloads {
		sender.publish(message{topic: fmt.Sprint("payloads/", i), payload: p, qos: 1})
	}
	for i, m := range b.history("payloads/#") {
		p := payloads[i]
		var text string
		isText := json.Unmarshal(m.Msg, &text) == nil
		var compact bytes.Buffer
		switch _ = json.Compact(&compact, []byte(p)); {
		case !utf8.ValidString(p) || strings.Contains(p, "\x00"):
			if raw, err := base64.StdEncoding.DecodeString(text); m.Encoding != "base64" || err != nil || string(raw) != p {
				t.Errorf("%q is %s in %s", p, m.Msg, m.Encoding)
			}
		case compact.String() == p && !strings.HasPrefix(p, `"`) && p != "" && p != "null":
			if !bytes.Equal(m.Msg, []byte(p)) {
				t.Errorf("%s is %s, want JSON", p, m.Msg)
			}
		case !isText && string(m.Msg) != p, isText && text != p && string(m.Msg) != p:
			t.Errorf("%.100q is %.100s", p, m.Msg)
		}
	}

	listener := l.must(t, b, connection{})
	listener.subscribe("posted/#", 2)
	var want []message
	for i, post := range []struct{ kind, body, payload string }{
		{"text/plain", "the kettle is on", "the kettle is on"},
		{"application/json", `{ "celsius": 93 }`, `{"celsius":93}`},
		{"application/json", `"text"`, "text"},
		{"application/json", `[1,null]`, `[1,null]`},
		{"application/octet-stream", "\x00\xff", "\x00\xff"},
		{"text/plain", "", ""},
	} {
		group := fmt.Sprint("posted/", i)
		b.call("POST", "/v1/groups/"+group, post.body, "Content-Type", post.kind)
		want = append(want, message{group, post.payload, 1, false})
	}
	b.call("POST", "/v1/groups/posted/end", "end")
	want = append(want, message{"posted/end", "end", 1, false})
	if got := listener.received.until(t, "end"); !slices.Equal(got, want) {
		t.Errorf("received %v, want %v", got, want)
	}
}

// TestBothWaysOverARestart: while the hub on disk restarts, an EventSource misses nothing of what MQTT clients
// send, and an MQTT client nothing of what is posted.
func TestBothWaysOverARestart(t *testing.T) {
	b := hub(t, "--data-dir", t.TempDir())
	web, err := byhttp.New(b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = web.Close() }()
	heard := newList()
	if _, err := web.Join(t.Context(), "both/#", func(m byhttp.Message) {
		heard.add(message{topic: m.Group, payload: m.Text()})
	}); err != nil {
		t.Fatal(err)
	}
	l := libraries[0]
	device := connection{id: "device", keep: true}
	d := l.must(t, b, device)
	d.subscribe("both/#", 1)
	d.end()
	var want []message
	for round := range 3 {
		sender := libraries[1].must(t, b, connection{})
		for i := range 20 {
			m := message{fmt.Sprint("both/", i%2), fmt.Sprintf("round %d, message %d", round, i), 1, false}
			if i%2 == 0 {
				sender.publish(m)
			} else {
				b.call("POST", "/v1/groups/"+m.topic, m.payload)
			}
			want = append(want, m)
		}
		sender.end()
		b.restart()
	}
	last := want[len(want)-1].payload
	if got := l.must(t, b, device).received.until(t, last); !slices.Equal(got, want) {
		t.Errorf("by MQTT it received %v, want %v", got, want)
	}
	for i := range want {
		want[i].qos = 0 // not told over HTTP
	}
	if got := heard.until(t, last); !slices.Equal(got, want) {
		t.Errorf("by HTTP it received %v, want %v", got, want)
	}
}

// TestMetaBothWays: user properties, content type, response topic and correlation data are kept as meta of the message,
// and headers of a POST arrive as user properties.
func TestMetaBothWays(t *testing.T) {
	b := hub(t)
	c := b.dial()
	defer closer(c)()
	if _, err := open(c, "meta", 10); err != nil {
		t.Fatal(err)
	}
	p := &packets.Publish{Topic: "meta", Payload: []byte("x"), Properties: &packets.Properties{
		ContentType: "text/plain", ResponseTopic: "answers/1", CorrelationData: []byte{0, 255},
		User: []packets.User{{Key: "a", Value: "2"}, {Key: "c", Value: "3"}, {Key: "a", Value: "4"}},
	}}
	exchange(t, c, &packets.Subscribe{PacketID: 1, Properties: &packets.Properties{},
		Subscriptions: []packets.SubOptions{{Topic: "meta", QoS: 1}}})
	if _, err := p.WriteTo(c); err != nil {
		t.Fatal(err)
	}
	got := next(t, c).Content.(*packets.Publish).Properties
	if got.ContentType != "text/plain" || got.ResponseTopic != "answers/1" || !bytes.Equal(got.CorrelationData, []byte{0, 255}) ||
		!slices.Equal(got.User, p.Properties.User) {
		t.Errorf("received %+v", got)
	}
	b.call("POST", "/v1/groups/meta", "posted", "Watchbox-Meta-trace", "17")
	if got := next(t, c).Content.(*packets.Publish).Properties.User; !slices.Equal(got, []packets.User{{Key: "trace", Value: "17"}}) {
		t.Errorf("the user properties of a POST are %v", got)
	}
	m := b.history("meta")[0].Meta
	for _, want := range [][2]string{{"a", "2"}, {"c", "3"}, {"a", "4"}, {"$type", "text/plain"}, {"$reply", "answers/1"}, {"$corr", "AP8="}, {"$qos", "0"}} {
		if !slices.Contains(m, want) {
			t.Errorf("meta has no %q: %q", want, m)
		}
	}
}

// next reads a packet.
func next(t testing.TB, c io.Reader) *packets.ControlPacket {
	t.Helper()
	p, err := packets.ReadPacket(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// exchange sends a packet and reads the answer.
func exchange(t testing.TB, c io.ReadWriter, p io.WriterTo) *packets.ControlPacket {
	t.Helper()
	if _, err := p.WriteTo(c); err != nil {
		t.Fatal(err)
	}
	return next(t, c)
}

// TestAGapIsTold: a client that comes back after what it missed was evicted is told which ids are gone.
func TestAGapIsTold(t *testing.T) {
	b := hub(t)
	b.call("PUT", "/v1/policies/gap", `{"max_messages":5}`, "Content-Type", "application/json")
	c := b.dial()
	if _, err := open(c, "gap", 10); err != nil {
		t.Fatal(err)
	}
	exchange(t, c, &packets.Subscribe{PacketID: 1, Properties: &packets.Properties{},
		Subscriptions: []packets.SubOptions{{Topic: "gap", QoS: 1}}})
	b.call("POST", "/v1/groups/gap", "received")
	p := next(t, c).Content.(*packets.Publish)
	if _, err := (&packets.Puback{PacketID: p.PacketID}).WriteTo(c); err != nil {
		t.Fatal(err)
	}
	exchange(t, c, &packets.Pingreq{}) // the acknowledgement was read
	closer(c)()
	for i := range 10 {
		b.call("POST", "/v1/groups/gap", fmt.Sprint("missed ", i))
	}
	c = b.dial()
	defer closer(c)()
	if present, err := open(c, "gap", 10); err != nil || !present {
		t.Fatal(present, err)
	}
	p = next(t, c).Content.(*packets.Publish)
	if string(p.Payload) != "missed 5" {
		t.Errorf("the first message is %q", p.Payload)
	}
	i := slices.IndexFunc(p.Properties.User, func(u packets.User) bool { return u.Key == "gap" })
	if i < 0 || !strings.Contains(p.Properties.User[i].Value, "..") {
		t.Errorf("its user properties are %v", p.Properties.User)
	}
}

// TestReplay: a SUBSCRIBE may ask for messages from before it.
func TestReplay(t *testing.T) {
	b := hub(t)
	for i := range 10 {
		b.call("POST", "/v1/groups/replay/a", fmt.Sprint(i))
	}
	for _, c := range []struct {
		property packets.User
		first    string
		n        int
	}{{packets.User{Key: "since", Value: "all"}, "0", 10}, {packets.User{Key: "last", Value: "3"}, "7", 3}} {
		t.Run(c.property.Key, func(t *testing.T) {
			conn := b.dial()
			defer closer(conn)()
			if _, err := open(conn, "replay "+c.property.Key, 20); err != nil {
				t.Fatal(err)
			}
			exchange(t, conn, &packets.Subscribe{PacketID: 1, Properties: &packets.Properties{User: []packets.User{c.property}},
				Subscriptions: []packets.SubOptions{{Topic: "replay/#", QoS: 1}}})
			for i := range c.n {
				p := next(t, conn).Content.(*packets.Publish)
				if i == 0 && string(p.Payload) != c.first {
					t.Errorf("the first message is %q, want %q", p.Payload, c.first)
				}
				if i == c.n-1 && string(p.Payload) != "9" {
					t.Errorf("the last message is %q", p.Payload)
				}
			}
		})
	}
}

// TestPresence: an MQTT client is a session as others are, until it is gone.
func TestPresence(t *testing.T) {
	b := hub(t)
	web, err := byhttp.New(b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = web.Close() }()
	heard := newList()
	if _, err := web.Join(context.Background(), "$presence/#", func(m byhttp.Message) {
		heard.add(message{topic: m.Group, payload: m.Text()})
	}); err != nil {
		t.Fatal(err)
	}
	c := libraries[0].must(t, b, connection{id: "thermometer"})
	c.subscribe("home/#", 1)
	has := func(part string) func([]message) int {
		return func(all []message) int {
			return 1 + slices.IndexFunc(all, func(m message) bool { return strings.Contains(m.payload, part) })
		}
	}
	heard.wait(t, has(`"join"`))
	if list := string(b.call("GET", "/v1/sessions", "")); !strings.Contains(list, `"mqtt"`) {
		t.Errorf("the sessions are %s", list)
	}
	if list := string(b.call("GET", "/v1/presence/home/%23", "")); !strings.Contains(list, `"uid"`) {
		t.Errorf("present are %s", list)
	}
	c.end()
	heard.wait(t, has(`"gone"`))
}
