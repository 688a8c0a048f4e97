package mqtt

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/store"
)

func TestPropertiesOfAPublishedMessage(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	c.publish("a", "text", 1, 1, func(pk *packets.Packet) {
		pk.Properties = packets.Properties{
			PayloadFormat: 1, PayloadFormatFlag: true, MessageExpiryInterval: 100, ContentType: "text/plain",
			ResponseTopic: "b/c", CorrelationData: []byte{0, 1}, User: []packets.UserProperty{{Key: "k", Val: "1"}, {Key: "k", Val: "2"}, {Key: "$k", Val: ""}},
		}
	})
	c.expectAck(packets.Puback, 1, 0)
	want := [][2]string{{"$utf8", "1"}, {"$type", "text/plain"}, {"$reply", "b/c"}, {"$corr", "AAE="}, {"k", "1"}, {"k", "2"}, {"$$k", ""}}
	if got := r.last("a"); !slices.Equal(got.meta, want) || got.flags&store.HasExpiry == 0 {
		t.Errorf("the message has %q and flags %b", got.meta, got.flags)
	}
	c.publish("a", "\xff", 1, 2, func(pk *packets.Packet) { pk.Properties.PayloadFormatFlag = true })
	c.expectAck(packets.Puback, 2, 0)
	if got := r.last("a").meta; !slices.Equal(got, [][2]string{{"$utf8", "0"}}) {
		t.Errorf("the message of unspecified bytes has %q", got)
	}
	for qos, want := range [][][2]string{{{"$qos", "0"}}, nil, {{"$qos", "2"}}} {
		c.publish("b", "x", byte(qos), uint16(qos), nil)
		c.ping2(qos)
		if got := r.last("b").meta; !slices.Equal(got, want) {
			t.Errorf("QoS %d: %q", qos, got)
		}
	}
	c.publish("a", "\xff", 1, 1, func(pk *packets.Packet) { pk.Properties.PayloadFormat, pk.Properties.PayloadFormatFlag = 1, true })
	c.expectAck(packets.Puback, 1, packets.ErrPayloadFormatInvalid.Code)
	c.publish("a", "x", 1, 1, func(pk *packets.Packet) {
		pk.Properties.User = []packets.UserProperty{{Key: "k", Val: strings.Repeat("v", 2000)}}
	})
	c.expectAck(packets.Puback, 1, packets.ErrQuotaExceeded.Code)
}

// ping2 waits until a message of a QoS is stored.
func (c *wire) ping2(qos int) {
	c.Helper()
	switch qos {
	case 0:
		c.ping()
	case 1:
		c.expectAck(packets.Puback, 1, 0)
	case 2:
		c.expectAck(packets.Pubrec, 2, 0)
	}
}

func TestASubscriberGetsThePropertiesOfThePublisher(t *testing.T) {
	r := serve(t, nil)
	sub := r.admitted("sub", nil)
	sub.send(packets.Subscribe, &packets.Packet{PacketID: 1, Filters: packets.Subscriptions{{Filter: "#", Qos: 2}}})
	sub.expect(packets.Suback)
	want := packets.Properties{
		PayloadFormat: 1, PayloadFormatFlag: true, ContentType: "text/plain", ResponseTopic: "b//c", CorrelationData: []byte{0, 1},
		User: []packets.UserProperty{{Key: "k", Val: "1"}, {Key: "k", Val: "2"}, {Key: "$k", Val: "\"ü\\"}, {Key: "$$qos", Val: "0"}, {Key: "", Val: ""}},
	}
	c := r.admitted("a", nil)
	c.publish("/a", "text", 2, 1, func(pk *packets.Packet) { pk.Properties = want })
	c.expectAck(packets.Pubrec, 1, 0)
	got := sub.expect(packets.Publish)
	if got.TopicName != "/a" || string(got.Payload) != "text" || got.FixedHeader.Qos != 2 {
		t.Errorf("%+v", got)
	}
	p := got.Properties
	if p.PayloadFormat != 1 || p.ContentType != want.ContentType || p.ResponseTopic != want.ResponseTopic ||
		!bytes.Equal(p.CorrelationData, want.CorrelationData) || !slices.Equal(p.User, want.User) {
		t.Errorf("%+v", p)
	}
}
