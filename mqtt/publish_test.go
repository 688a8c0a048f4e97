package mqtt

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

func TestPublishedMessagesAreInTheLogWhenTheyAreAcknowledged(t *testing.T) {
	for _, version := range []byte{4, 5} {
		r := serve(t, nil)
		c := r.admitted("a", func(pk *packets.Packet) { pk.ProtocolVersion = version })
		c.publish("home/kitchen", "zero", 0, 0, nil)
		c.publish("home/kitchen", "one", 1, 7, nil)
		c.expectAck(packets.Puback, 7, 0)
		r.expectMessages("home/kitchen", "zero", "one")
		c.publish("home/kitchen", "two", 2, 8, nil)
		c.expectAck(packets.Pubrec, 8, 0)
		r.expectMessages("home/kitchen", "zero", "one", "two")
		c.send(packets.Pubrel, &packets.Packet{PacketID: 8})
		c.expectAck(packets.Pubcomp, 8, 0)
	}
}

func TestPayloadsComeBackByteByByte(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	check := func(t interface{ Fatalf(string, ...any) }, payload []byte) {
		c.publish("a", string(payload), 1, 1, nil)
		c.expectAck(packets.Puback, 1, 0)
		last := r.last("a")
		if !bytes.Equal(last.payload, payload) {
			t.Fatalf("%q came back as %q", payload, last.payload)
		}
	}
	for text, msg := range map[string]string{
		`{"a":[1,2.50,null]}`: `{"a":[1,2.50,null]}`, `[]`: `[]`, `42`: `42`, `true`: `true`,
		`{"a": 1}`: `"{\"a\": 1}"`, "1\n": `"1\n"`, `"text"`: `"\"text\""`, `text`: `"text"`, ``: `""`,
		"\xff": `"/w=="`, "{\"a\":\"\xff\"}": `"eyJhIjoi/yJ9"`, "\x00": `"\u0000"`, "\u2028": "\"\u2028\"",
	} {
		check(t, []byte(text))
		if got := r.last("a").msg; got != msg {
			t.Errorf("%q is stored as %s, not %s", text, got, msg)
		}
	}
	json := rapid.StringMatching(`[{}\[\]",: 0-9eE.+\\ntrufalsn-]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		check(t, rapid.OneOf(
			rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }),
			rapid.Map(json, func(s string) []byte { return []byte(s) }),
		).Draw(t, "payload"))
	})
}

// last is the newest message of a group.
type last struct {
	payload []byte
	msg     string
	meta    [][2]string
	flags   store.Flags
}

func (r *wired) last(name string) (l last) {
	r.Helper()
	one := 1
	err := r.frames(name, hub.From{Last: &one}, func(f *store.Frame) {
		l = last{payload(r, f), string(f.JSON()), f.Meta(), f.Flags}
	})
	if err != nil {
		r.Fatal(err)
	}
	return l
}

func TestAMessageExpiryIntervalOf0(t *testing.T) {
	r := serve(t, nil)
	keep := func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 1000, true
	}
	subscribe := func(c *wire) {
		c.send(packets.Subscribe, &packets.Packet{PacketID: 1, Filters: packets.Subscriptions{{Filter: "#", Qos: 0}}})
		c.expect(packets.Suback)
	}
	// expired makes the interval of an encoded packet 0, which the codec does not encode.
	expired := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte{2, 1, 2, 3, 4}, []byte{2, 0, 0, 0, 0}) }
	const interval = 0x01020304
	pub, here, away := r.admitted("pub", nil), r.admitted("here", nil), r.admitted("away", keep)
	subscribe(here)
	subscribe(away)
	away.send(packets.Disconnect, &packets.Packet{})
	away.expectEnd(0)
	pub.publish("a", "before", 1, 1, func(pk *packets.Packet) { pk.FixedHeader.Retain = true })
	pub.expectAck(packets.Puback, 1, 0)
	pub.raw(expired(pub.encoded(packets.Publish, &packets.Packet{
		TopicName: "a", Payload: []byte("expired"), PacketID: 2, FixedHeader: packets.FixedHeader{Qos: 1, Retain: true},
		Properties: packets.Properties{MessageExpiryInterval: interval},
	})))
	pub.expectAck(packets.Puback, 2, 0)
	end := r.hub.End()
	lost := r.dial()
	lost.raw(expired(lost.encoded(packets.Connect, &packets.Packet{Connect: packets.ConnectParams{
		ProtocolName: []byte("MQTT"), ClientIdentifier: "lost", Clean: true, WillFlag: true, WillTopic: "w", WillPayload: []byte("expired"),
		WillProperties: packets.Properties{MessageExpiryInterval: interval},
	}})))
	lost.expect(packets.Connack)
	_ = lost.Close()
	r.until(func() bool { return r.hub.End().Seq > end.Seq })
	late := r.admitted("late", nil)
	subscribe(late)
	away, _ = r.connect("away", keep)
	pub.publish("a", "after", 1, 3, nil)
	pub.expectAck(packets.Puback, 3, 0)
	for c, want := range map[*wire][]string{here: {"before", "after"}, away: {"before", "after"}, late: {"after"}} {
		for _, text := range want {
			if pk := c.expect(packets.Publish); string(pk.Payload) != text {
				t.Errorf("%q instead of %q", pk.Payload, text)
			}
		}
	}
	r.expectMessages("a", "before", "after")
	r.expectCount("w", 0)
}

func TestTopicsThatCannotBePublishedTo(t *testing.T) {
	for topic, code := range map[string]byte{
		strings.Repeat("a/", 20): packets.ErrTopicNameInvalid.Code, "a\x01": packets.ErrTopicNameInvalid.Code,
		"$sys/a": packets.ErrNotAuthorized.Code, "$a": packets.ErrNotAuthorized.Code,
	} {
		r := serve(t, nil)
		c := r.admitted("a", nil)
		c.publish(topic, "x", 0, 0, nil)
		c.publish(topic, "x", 1, 1, nil)
		c.expectAck(packets.Puback, 1, code)
		c.publish(topic, "x", 2, 2, nil)
		c.expectAck(packets.Pubrec, 2, code)
		c.send(packets.Pubrel, &packets.Packet{PacketID: 2})
		c.expectAck(packets.Pubcomp, 2, packets.ErrPacketIdentifierNotFound.Code)

		v3 := r.admitted("b", old) // it cannot be told, and would send the message for ever
		v3.publish(topic, "x", 1, 1, nil)
		v3.expectAck(packets.Puback, 1, 0)
		v3.publish(topic, "x", 2, 2, nil)
		v3.expectAck(packets.Pubrec, 2, 0)
		v3.send(packets.Pubrel, &packets.Packet{PacketID: 2})
		v3.expectAck(packets.Pubcomp, 2, 0)
		if s := r.hub.Stats().MQTT; s.Refused != 5 || s.Dropped != 3 || s.Published != 0 || s.Connections != 2 {
			t.Errorf("%+v", s)
		}
	}
}

func TestATopicWithAWildcardEndsTheConnection(t *testing.T) {
	for _, topic := range []string{"a/+", "#"} {
		for _, version := range []byte{4, 5} {
			r := serve(t, nil)
			c := r.admitted("a", func(pk *packets.Packet) { pk.ProtocolVersion = version })
			c.publish(topic, "x", 0, 0, nil)
			c.expectEnd(packets.ErrTopicNameInvalid.Code)
		}
	}
}

func TestReasonsThatAreTooLongForTheClientAreLeftOut(t *testing.T) {
	r := serve(t, nil)
	for _, most := range []uint32{20, 1000} {
		c := r.admitted("a", func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = most })
		long := packets.UserProperty{Key: "k", Val: strings.Repeat("v", 2000)}
		c.publish("a", "x", 1, 1, func(pk *packets.Packet) { pk.Properties.User = []packets.UserProperty{long} })
		ack := c.expect(packets.Puback)
		c.send(packets.Subscribe, &packets.Packet{PacketID: 1, Filters: packets.Subscriptions{{Filter: "$session"}},
			Properties: packets.Properties{User: []packets.UserProperty{{Key: "last", Val: "many"}}}})
		suback := c.expect(packets.Suback)
		if told := most == 1000; (ack.Properties.ReasonString != "") != told || (suback.Properties.ReasonString != "") != told || ack.ReasonCode < 0x80 || suback.ReasonCodes[0] < 0x80 {
			t.Errorf("%d: %#x %q, %x %q", most, ack.ReasonCode, ack.Properties.ReasonString, suback.ReasonCodes, suback.Properties.ReasonString)
		}
	}
}

func TestRetainedMessages(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	retained := func() (list []string) {
		q := hub.Retained{Filters: filters(t, "#")}
		if _, err := r.hub.Retained(t.Context(), &q, func(f *store.Frame) error {
			list = append(list, f.Group+" "+string(payload(t, f)))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return list
	}
	retain := func(pk *packets.Packet) { pk.FixedHeader.Retain = true }
	c.publish("a", "1", 1, 1, retain)
	c.publish("b", "2", 1, 2, retain)
	c.publish("b", "3", 1, 3, nil)
	c.publish("a", "", 1, 4, retain)
	for id := range uint16(4) {
		c.expectAck(packets.Puback, id+1, 0)
	}
	if got := retained(); !slices.Equal(got, []string{"b 2"}) {
		t.Errorf("retained: %q", got)
	}
	r.expectMessages("a", "1", "")
}

func TestAClientThatPublishesTooFast(t *testing.T) {
	r := serve(t, func(o *hub.Options, _ *Options) { o.PublishRate = 3 })
	c := r.admitted("a", nil)
	codes := map[byte]int{}
	for id := range uint16(100) {
		c.publish("a", "x", 1, id+1, nil)
		codes[c.expect(packets.Puback).ReasonCode]++
	}
	if codes[0] < 3 || codes[packets.ErrQuotaExceeded.Code] == 0 || len(codes) != 2 {
		t.Errorf("codes: %v", codes)
	}
}

func TestRightsToPublish(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) {
		o.Authenticate = func(context.Context, *Login) (*access.Grant, error) {
			return access.NewGrant("me", "", nil, []string{"a/#", "u/{uid}"}, false, time.Time{}, time.Time{})
		}
	})
	c := r.admitted("a", nil)
	for topic, code := range map[string]byte{"a/b": 0, "b": packets.ErrNotAuthorized.Code, "u/x": packets.ErrNotAuthorized.Code} {
		c.publish(topic, "x", 1, 1, nil)
		c.expectAck(packets.Puback, 1, code)
	}
	c.publish("u/"+sessions.ClientUID("mqtt", "me", "a"), "x", 1, 1, nil)
	c.expectAck(packets.Puback, 1, 0)
}
