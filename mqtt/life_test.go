package mqtt

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// will makes a CONNECT have a will in the group w.
func will(text string, delay, expiry uint32) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "w", []byte(text)
		pk.Connect.WillProperties.WillDelayInterval = delay
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = expiry, true
	}
}

// until waits for a condition.
func (r *wired) until(is func() bool) {
	r.Helper()
	for late := time.Now().Add(wirePatience); !is(); runtime.Gosched() {
		if time.Now().After(late) {
			r.Fatal("it did not happen")
		}
	}
}

// await waits until a group has a number of messages.
func (r *wired) await(name string, n int) []string {
	r.Helper()
	r.until(func() bool { return len(r.messages(name)) >= n })
	return r.messages(name)
}

func TestAWillIsSentIfTheConnectionIsLost(t *testing.T) {
	r := serve(t, nil)
	ends := map[string]struct {
		end  func(*wire)
		sent bool
	}{
		"lost":                 {func(c *wire) { _ = c.Close() }, true},
		"malformed":            {func(c *wire) { c.raw([]byte{0, 0}) }, true},
		"DISCONNECT":           {func(c *wire) { c.send(packets.Disconnect, &packets.Packet{}) }, false},
		"DISCONNECT with will": {func(c *wire) { c.send(packets.Disconnect, &packets.Packet{ReasonCode: 4}) }, true},
		"DISCONNECT by error":  {func(c *wire) { c.send(packets.Disconnect, &packets.Packet{ReasonCode: 0x80}) }, true},
		"taken over":           {func(c *wire) { r.admitted("taken over", nil) }, true},
	}
	sent := 0
	for name, end := range ends {
		for _, expiry := range []uint32{0, 1000} {
			text := fmt.Sprintf("%s %d", name, expiry)
			c := r.admitted(name, will(text, 0, expiry))
			end.end(c)
			r.admitted("after "+name, nil) // so that something happens after the end
			if end.sent {
				sent++
				if list := r.await("w", sent); list[sent-1] != text {
					t.Errorf("%s: %q", text, list)
				}
			}
		}
	}
	r.expectCount("w", sent)
}

func TestAWillHasTheProperties(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", func(pk *packets.Packet) {
		will("text", 0, 0)(pk)
		pk.Connect.WillQos, pk.Connect.WillRetain = 2, true
		pk.Connect.WillProperties = packets.Properties{
			PayloadFormat: 1, PayloadFormatFlag: true, MessageExpiryInterval: 100, ContentType: "t", ResponseTopic: "r",
			CorrelationData: []byte{1}, User: []packets.UserProperty{{Key: "k", Val: "v"}},
		}
	})
	_ = c.Close()
	r.await("w", 1)
	want := [][2]string{{"$qos", "2"}, {"$utf8", "1"}, {"$type", "t"}, {"$reply", "r"}, {"$corr", "AQ=="}, {"k", "v"}}
	if got := r.last("w"); !slices.Equal(got.meta, want) || got.flags&store.HasExpiry == 0 || got.flags&store.IsRetain == 0 {
		t.Errorf("the will has %q and flags %b", got.meta, got.flags)
	}
}

func TestAWillWithADelayIsNotSentIfTheClientReturns(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", will("delayed", 1000, 2000))
	_ = c.Close()
	keep := func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 2000, true
	}
	c, ack := r.connect("a", keep)
	if !ack.SessionPresent {
		t.Error("the session is not present")
	}
	c.send(packets.Disconnect, &packets.Packet{})
	c.expectEnd(0)
	c = r.admitted("a", will("ended", 1000, 2000))
	_ = c.Close()
	r.admitted("a", nil) // a clean start ends the old session
	if got := r.await("w", 1); !slices.Equal(got, []string{"ended"}) {
		t.Errorf("%q", got)
	}
}

func TestAWillWaitsNoLongerThanItsSessionIsKept(t *testing.T) {
	r := serve(t, func(o *hub.Options, _ *Options) { o.SessionTimeout = 100 * time.Millisecond })
	c := r.admitted("a", will("short", 1000, 2000))
	c.send(packets.Disconnect, &packets.Packet{ReasonCode: 4, Properties: packets.Properties{SessionExpiryInterval: 1, SessionExpiryIntervalFlag: true}})
	r.await("w", 1)
}

func TestAWillWaitsLongerIfItsSessionIsKeptLonger(t *testing.T) {
	r := serve(t, func(o *hub.Options, _ *Options) { o.SessionTimeout = 100 * time.Millisecond })
	for id, expiry := range map[string]uint32{"a": 2000, "c": sessionForEver} {
		longer := r.admitted(id, will("longer", 1000, 1))
		longer.send(packets.Disconnect, &packets.Packet{ReasonCode: 4, Properties: packets.Properties{SessionExpiryInterval: expiry, SessionExpiryIntervalFlag: true}})
		longer.expectEnd(0)
	}
	same := r.admitted("b", will("same", 1000, 2))
	same.send(packets.Disconnect, &packets.Packet{ReasonCode: 4})
	same.expectEnd(0)
	if got := r.await("w", 1); !slices.Equal(got, []string{"same"}) {
		t.Errorf("%q", got)
	}
	r.admitted("a", nil) // a clean start ends the session, and with it the delay
	if got := r.await("w", 2); got[1] != "longer" {
		t.Errorf("%q", got)
	}
}

func TestAClientThatIsSilentIsDisconnected(t *testing.T) {
	r := serve(t, nil)
	begun := time.Now()
	c := r.admitted("a", func(pk *packets.Packet) { pk.Connect.Keepalive = 1; will("silent", 0, 0)(pk) })
	c.expectEnd(packets.ErrKeepAliveTimeout.Code)
	if took := time.Since(begun); took < 1500*time.Millisecond {
		t.Errorf("it was disconnected after %v", took)
	}
	r.await("w", 1)
}

func TestAClientIsASession(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("name", nil)
	c.send(packets.Subscribe, &packets.Packet{PacketID: 1, Filters: packets.Subscriptions{{Filter: "a/+", Qos: 1}}})
	c.expect(packets.Suback)
	uid := sessions.ClientUID("mqtt", "", "name")
	s, err := r.hub.Session(uid)
	if err != nil {
		t.Fatal(err)
	}
	if c := &s.Client; c.Agent.Value().Protocol != "mqtt" || c.ClientID() != "name" || len(s.Filters) != 1 || !strings.HasPrefix(s.Client.Address, "127.0.0.1:") {
		t.Errorf("%+v", s)
	}
	if err := r.hub.EndSession(uid, sessions.Kicked); err != nil {
		t.Fatal(err)
	}
	c.expectEnd(packets.ErrAdministrativeAction.Code)
}

func TestReceivedIDsAreKeptAsLongAsTheirSession(t *testing.T) {
	r := serve(t, nil)
	uid := sessions.ClientUID("mqtt", "", "a")
	kept := func(clean bool, expiry uint32) func(*packets.Packet) {
		return func(pk *packets.Packet) {
			pk.Connect.Clean = clean
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = expiry, true
		}
	}
	publish := func(c *wire) {
		c.publish("a", "x", 2, 7, func(pk *packets.Packet) { pk.FixedHeader.Dup = true })
		c.expectAck(packets.Pubrec, 7, 0)
	}
	c := r.admitted("a", kept(true, 1000))
	publish(c)
	_ = c.Close()
	c = r.admitted("a", kept(false, 1000))
	publish(c) // a duplicate
	r.expectMessages("a", "x")
	c.send(packets.Disconnect, &packets.Packet{Properties: packets.Properties{SessionExpiryInterval: 0, SessionExpiryIntervalFlag: true}})
	c.expectEnd(0)
	r.until(func() bool { return r.hub.ClientNote(uid) == nil })

	c = r.admitted("a", kept(false, 1000))
	publish(c)
	r.expectMessages("a", "x", "x")
	c = r.admitted("a", kept(true, 1)) // a clean start
	if r.hub.ClientNote(uid) != nil {
		t.Error("the ids outlived a clean start")
	}
	publish(c)
	r.expectMessages("a", "x", "x", "x")
	_ = c.Close()
	r.until(func() bool { return r.hub.ClientNote(uid) == nil }) // it expires
}

func TestATakeoverKeepsTheSession(t *testing.T) {
	r := serve(t, nil)
	keep := func(pk *packets.Packet) {
		will("w", 0, 1000)(pk)
		pk.Connect.Clean = false
	}
	a := r.admitted("a", keep)
	a.send(packets.Subscribe, &packets.Packet{PacketID: 1, Filters: packets.Subscriptions{{Filter: "a", Qos: 1}}})
	a.expect(packets.Suback)
	b, ack := r.connect("a", keep)
	if !ack.SessionPresent {
		t.Error("the session is not present")
	}
	a.expectEnd(packets.ErrSessionTakenOver.Code)
	b.publish("a", "x", 0, 0, nil)
	if pk := b.expect(packets.Publish); string(pk.Payload) != "x" {
		t.Errorf("%q", pk.Payload)
	}
	r.await("w", 1) // the connection of the first one was lost
	if n := r.hub.Stats().MQTT.Takeovers; n != 1 {
		t.Errorf("%d takeovers", n)
	}
}

func TestAClientThatKeepsSendingGetsTheDisconnect(t *testing.T) {
	r := serve(t, nil)
	much := bytes.Repeat([]byte{packets.Pingreq << 4, 0}, 32<<10)
	t.Run("after a wrong packet", func(t *testing.T) {
		c := r.admitted("a", nil)
		c.raw(append([]byte{packets.Reserved << 4, 0}, much...))
		expectDisconnect(t, c, packets.ErrMalformedPacket.Code, much)
	})
	t.Run("after the end of its session", func(t *testing.T) {
		c := r.admitted("b", nil)
		if err := r.hub.EndSession(sessions.ClientUID("mqtt", "", "b"), sessions.Kicked); err != nil {
			t.Fatal(err)
		}
		expectDisconnect(t, c, packets.ErrAdministrativeAction.Code, much)
	})
}

// expectDisconnect sends more after the DISCONNECT has arrived, and expects the orderly end of the connection.
func expectDisconnect(t *testing.T, c *wire, code byte, more []byte) {
	t.Helper()
	if pk := c.expect(packets.Disconnect); pk.ReasonCode != code {
		t.Errorf("DISCONNECT %#x", pk.ReasonCode)
	}
	for range 8 {
		c.raw(more)
	}
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("% x, %v", b, err)
	}
}

func TestSentMessagesAreCounted(t *testing.T) {
	r := serve(t, nil)
	for i, filter := range []packets.Subscription{sub("g", 0), sub("g", 0), sub("g", 1), sub("$share/s/g", 0), sub("$share/t/g", 2)} {
		r.admitted(fmt.Sprint(i), nil).subscribe(filter)
	}
	c := r.admitted("sender", nil)
	c.publish("g", "x", 2, 1, nil)
	c.expectAck(packets.Pubrec, 1, 0)
	r.until(func() bool {
		s := r.hub.Stats().MQTT
		return s.Sent == 5 && s.Sent1 == 1 && s.Sent2 == 1
	})
}
