package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
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

// TestAClientThatHasLostItsStateLosesNoMessage has a client return to its session with packet ids that the server knows, and
// other messages.
func TestAClientThatHasLostItsStateLosesNoMessage(t *testing.T) {
	r := serve(t, nil)
	kept := func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 1000, true
	}
	c := r.admitted("a", kept)
	for id := range uint16(3) {
		c.publish("a", fmt.Sprint("first ", id+1), 2, id+1, nil)
		c.expectAck(packets.Pubrec, id+1, 0)
	}
	_ = c.Close()
	c = r.admitted("a", kept)
	c.publish("a", "second", 2, 1, nil)
	c.expectAck(packets.Pubrec, 1, 0)
	c.publish("a", "second", 2, 1, func(pk *packets.Packet) { pk.FixedHeader.Dup = true })
	c.expectAck(packets.Pubrec, 1, 0)
	c.publish("a", "third", 1, 2, nil)
	c.expectAck(packets.Puback, 2, 0)
	c.publish("a", "first 3", 2, 3, func(pk *packets.Packet) { pk.FixedHeader.Dup = true })
	c.expectAck(packets.Pubrec, 3, 0)
	r.expectMessages("a", "first 1", "first 2", "first 3", "second", "third")
}

// TestAnIDIsReleasedInTheSegmentOfItsMessage sends a message and its release together, and then another message with the id.
func TestAnIDIsReleasedInTheSegmentOfItsMessage(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	for _, text := range []string{"x", "y"} {
		c.raw(slices.Concat(
			c.encoded(packets.Publish, &packets.Packet{TopicName: "a", Payload: []byte(text), PacketID: 1, FixedHeader: packets.FixedHeader{Qos: 2}}),
			c.encoded(packets.Pubrel, &packets.Packet{PacketID: 1, FixedHeader: packets.FixedHeader{Qos: 1}}),
		))
		c.expectAck(packets.Pubrec, 1, 0)
		c.expectAck(packets.Pubcomp, 1, 0)
	}
	r.expectMessages("a", "x", "y")
}

func TestAMessageOfQoS2IsPublishedOnce(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	for range 3 {
		c.publish("a", "x", 2, 5, func(pk *packets.Packet) { pk.FixedHeader.Dup = true })
		c.expectAck(packets.Pubrec, 5, 0)
	}
	one := c.encoded(packets.Publish, &packets.Packet{TopicName: "a", Payload: []byte("y"), PacketID: 6, FixedHeader: packets.FixedHeader{Qos: 2}})
	c.raw(slices.Concat(one, one)) // together
	c.expectAck(packets.Pubrec, 6, 0)
	c.expectAck(packets.Pubrec, 6, 0)
	r.expectMessages("a", "x", "y")

	c.publish("a", "z", 1, 5, nil)
	c.expectAck(packets.Puback, 5, packets.ErrPacketIdentifierInUse.Code)
	for range 2 {
		c.send(packets.Pubrel, &packets.Packet{PacketID: 5})
	}
	c.expectAck(packets.Pubcomp, 5, 0)
	c.expectAck(packets.Pubcomp, 5, packets.ErrPacketIdentifierNotFound.Code)
	c.publish("a", "z", 2, 5, nil)
	c.expectAck(packets.Pubrec, 5, 0)
	r.expectMessages("a", "x", "y", "z")
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

func TestTopicAliases(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	alias := func(n uint16) func(*packets.Packet) {
		return func(pk *packets.Packet) { pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = n, true }
	}
	c.publish("a", "1", 0, 0, alias(1))
	c.publish("b", "2", 0, 0, alias(16))
	c.publish("", "3", 0, 0, alias(1))
	c.publish("", "4", 0, 0, alias(16))
	c.publish("c", "5", 0, 0, alias(1))
	c.publish("", "6", 1, 9, alias(1))
	c.expectAck(packets.Puback, 9, 0)
	r.expectMessages("a", "1", "3")
	r.expectMessages("b", "2", "4")
	r.expectMessages("c", "5", "6")

	c.publish("", "7", 0, 0, alias(2))
	c.expectEnd(packets.ErrProtocolViolation.Code)
	c = r.admitted("a", nil)
	c.publish("", "8", 0, 0, alias(1)) // aliases end with the connection
	c.expectEnd(packets.ErrProtocolViolation.Code)
	c = r.admitted("a", nil)
	c.publish("a", "9", 0, 0, alias(17))
	c.expectEnd(packets.ErrTopicAliasInvalid.Code)
	c = r.admitted("a", nil)
	c.raw([]byte{0x30, 7, 0, 1, 'a', 3, packets.PropTopicAlias, 0, 0})
	c.expectEnd(packets.ErrTopicAliasInvalid.Code)
}

func TestALongTopicTakesNoMemory(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	pk := packets.Packet{TopicName: strings.Repeat("a", 60_000), PacketID: 1, ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Qos: 1}}
	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 1, true
	var b batch
	for range 2 {
		if err := c.conn.publish(&b, &pk, false); err != nil {
			t.Fatal(err)
		}
		pk.TopicName = "" // by the alias
	}
	if n := len(c.conn.publisher.aliases[0]); n > 1000 {
		t.Errorf("the connection keeps %d bytes", n)
	}
	for _, a := range b.answers {
		if a.err != packets.ErrTopicNameInvalid {
			t.Errorf("the answer is %v", a.err)
		}
	}
}

func TestABatchHasABound(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	x := new(turn)
	all := bytes.Repeat([]byte{0x62, 2, 0, 1}, 50*maxBatch) // PUBREL of an unknown id
	if used, err := c.conn.handle(x, all); used != len(all) || err != nil {
		t.Fatal(used, err)
	}
	if n := cap(x.batch.answers); n > 2*maxBatch {
		t.Errorf("the batch had room for %d packets", n)
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

func TestMoreMessagesThanReceiveMaximum(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	var all []byte
	for id := range uint16(receiveMaximum) {
		all = append(all, c.encoded(packets.Publish, &packets.Packet{TopicName: "a", PacketID: id + 1, FixedHeader: packets.FixedHeader{Qos: 2}})...)
	}
	c.raw(all)
	for id := range uint16(receiveMaximum) {
		c.expectAck(packets.Pubrec, id+1, 0)
	}
	c.send(packets.Pubrel, &packets.Packet{PacketID: 3})
	c.expectAck(packets.Pubcomp, 3, 0)
	c.publish("a", "", 2, 3, nil)
	c.expectAck(packets.Pubrec, 3, 0)
	c.publish("a", "", 1, 1000, nil)
	c.expectEnd(packets.ErrReceiveMaximum.Code)
}

func TestAPacketThatIsTooLarge(t *testing.T) {
	r := serve(t, func(o *hub.Options, _ *Options) { o.MaxMessage = 1000 })
	c := r.admitted("a", nil)
	c.publish("a", strings.Repeat("x", 1000), 1, 1, nil)
	c.expectAck(packets.Puback, 1, 0)
	c.publish("a", strings.Repeat("x", 1001), 1, 1, nil)
	c.expectAck(packets.Puback, 1, packets.ErrQuotaExceeded.Code)
	c.raw([]byte{0x30, 0xff, 0xff, 0x7f}) // refused before it arrives
	c.expectEnd(packets.ErrPacketTooLarge.Code)
}

func TestALargePacketMustArriveInTime(t *testing.T) {
	r := serve(t, func(o *hub.Options, _ *Options) { o.BodyTimeout = 100 * time.Millisecond })
	c := r.admitted("a", nil)
	c.raw([]byte{0x30, 0x80, 0x80, 0x04, 0, 1, 'a'}) // 64 KiB, of which nothing else arrives
	c.expectEnd(packets.ErrKeepAliveTimeout.Code)
}

func TestABufferIsNotKeptForTheNextPacket(t *testing.T) {
	var c conn
	for _, large := range []int{100 << 10, 1 << 20} {
		c.keep(new(turn), make([]byte, 1, large))
		if cap(c.part) > 1<<10 {
			t.Errorf("%d bytes are kept for one byte", cap(c.part))
		}
		c.keep(new(turn), make([]byte, large/2, large))
		if cap(c.part) != large {
			t.Errorf("%d bytes of a packet were copied", large/2)
		}
	}
}

// counted is a log that counts its appends, and fails on demand.
type counted struct {
	store.Store
	mu      sync.Mutex
	appends int
	err     error
}

func (l *counted) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	l.mu.Lock()
	l.appends++
	err := l.err
	l.mu.Unlock()
	if err != nil && entries[0].Group[0] != '$' {
		return store.ID{}, err
	}
	return l.Store.Append(ctx, entries)
}

func (l *counted) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func TestMessagesThatArriveTogetherAreAppendedTogether(t *testing.T) {
	log := &counted{Store: memory.New(memory.Options{MaxMemory: 64 << 20, MaxGroups: 100})}
	r := serveOn(t, log, nil)
	c := r.admitted("a", nil)
	log.mu.Lock()
	before := log.appends
	log.mu.Unlock()
	var all []byte
	var want []string
	for id := range uint16(200) {
		qos := byte(id % 3)
		text := fmt.Sprint(id)
		pk := packets.Packet{TopicName: "a", Payload: []byte(text), PacketID: id + 1, FixedHeader: packets.FixedHeader{Qos: qos}}
		switch id % 10 {
		case 7:
			pk.TopicName = "$not"
		case 8:
			pk.TopicName = "a//////////////////b"
		default:
			want = append(want, text)
		}
		all = append(all, c.encoded(packets.Publish, &pk)...)
	}
	c.raw(all)
	for id := range uint16(200) {
		code := byte(0)
		switch id % 10 {
		case 7:
			code = packets.ErrNotAuthorized.Code
		case 8:
			code = packets.ErrTopicNameInvalid.Code
		}
		switch id % 3 {
		case 1:
			c.expectAck(packets.Puback, id+1, code)
		case 2:
			c.expectAck(packets.Pubrec, id+1, code)
		}
	}
	r.expectMessages("a", want...)
	log.mu.Lock()
	defer log.mu.Unlock()
	if n := log.appends - before; n > 10 {
		t.Errorf("%d appends for 200 messages in %d bytes", n, len(all))
	}
}

func TestAMessageThatTheStoreRefusesHarmsNoOther(t *testing.T) {
	r := serveOn(t, memory.New(memory.Options{MaxMemory: 64 << 20, MaxGroups: 2}), nil)
	c := r.admitted("a", nil)
	var all []byte
	for i, topic := range []string{"a", "b", "c", "d", "a"} {
		pk := packets.Packet{TopicName: topic, Payload: []byte{'0' + byte(i)}, PacketID: uint16(i) + 1, FixedHeader: packets.FixedHeader{Qos: 1}}
		all = append(all, c.encoded(packets.Publish, &pk)...)
	}
	c.raw(all)
	for i, code := range []byte{0, 0, packets.ErrQuotaExceeded.Code, packets.ErrQuotaExceeded.Code, 0} {
		c.expectAck(packets.Puback, uint16(i)+1, code)
	}
	r.expectMessages("a", "0", "4")
	r.expectMessages("b", "1")
}

func TestAStoreThatCannotTakeMessages(t *testing.T) {
	log := &counted{Store: memory.New(memory.Options{MaxMemory: 64 << 20, MaxGroups: 100})}
	r := serveOn(t, log, nil)
	for _, c := range []struct {
		err error
		v5  byte // PUBACK; 0: the connection ends
	}{{store.ErrFull, packets.ErrQuotaExceeded.Code}, {store.ErrAway, 0}, {store.ErrUnknownOutcome, 0}, {store.ErrReadOnly, 0}} {
		log.fail(c.err)
		v5 := r.admitted("a", nil)
		v5.publish("a", "x", 0, 0, nil) // lost, as QoS 0 may be
		v5.publish("a", "x", 1, 1, nil)
		if c.v5 != 0 {
			v5.expectAck(packets.Puback, 1, c.v5)
			v5.ping()
		} else {
			v5.expectEnd(packets.ErrServerBusy.Code)
		}
		v3 := r.admitted("b", old)
		v3.publish("a", "x", 1, 1, nil)
		v3.expectEnd(0) // so that it sends the message again
	}
	log.fail(nil)
	c := r.admitted("a", nil)
	c.publish("a", "x", 1, 1, nil)
	c.expectAck(packets.Puback, 1, 0)
	r.expectMessages("a", "x")
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

func TestAnOldClientMayHaveManyMessagesWithoutAnAnswer(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", old)
	const many = 3000
	var all []byte
	for id := range uint16(many) {
		all = append(all, c.encoded(packets.Publish, &packets.Packet{TopicName: "a", PacketID: id + 1, FixedHeader: packets.FixedHeader{Qos: 1}})...)
	}
	sent := make(chan error, 1)
	go func() { _, err := c.Write(all); sent <- err }()
	for id := range uint16(many) {
		c.expectAck(packets.Puback, id+1, 0)
	}
	if err := <-sent; err != nil {
		t.Error(err)
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
