package mqtt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

func TestTheAnswerToCONNECTTellsTheLimits(t *testing.T) {
	r := serve(t, func(o *hub.Options, _ *Options) { o.MaxMessage = 1 << 20 })
	_, ack := r.connect("", func(pk *packets.Packet) { pk.Connect.Keepalive = 1000 })
	p := &ack.Properties
	if ack.ReasonCode != 0 || ack.SessionPresent || p.ReceiveMaximum != 256 || p.TopicAliasMaximum != aliasMaximum || p.MaximumPacketSize != 1<<20+64<<10 ||
		p.ServerKeepAlive != 300 || p.AssignedClientID == "" || p.MaximumQosFlag || p.RetainAvailableFlag || p.SharedSubAvailableFlag {
		t.Errorf("%+v", ack)
	}
	_, ack = r.connect("a", func(pk *packets.Packet) { pk.Connect.Keepalive = 100 })
	if p := &ack.Properties; p.ServerKeepAliveFlag || p.AssignedClientID != "" {
		t.Errorf("%+v", ack)
	}
	_, ack = r.connect("a", nil)
	if p := &ack.Properties; p.ServerKeepAlive != 300 {
		t.Errorf("without keep alive: %+v", ack)
	}
	_, ack = r.connect("", old)
	if ack.ReasonCode != 0 || ack.FixedHeader.Remaining != 2 {
		t.Errorf("MQTT 3.1.1: %+v", ack)
	}
}

func TestCONNECTsThatAreRefused(t *testing.T) {
	r := serve(t, nil)
	for name, c := range map[string]struct {
		set  func(*packets.Packet)
		code byte // 0: no CONNACK
	}{
		"MQTT 3.1":                   {func(pk *packets.Packet) { pk.ProtocolVersion, pk.Connect.ProtocolName = 3, []byte("MQIsdp") }, 1},
		"level 3":                    {func(pk *packets.Packet) { pk.ProtocolVersion = 3 }, 1},
		"level 6":                    {func(pk *packets.Packet) { pk.ProtocolVersion = 6 }, packets.ErrUnsupportedProtocolVersion.Code},
		"another protocol":           {func(pk *packets.Packet) { pk.Connect.ProtocolName = []byte("HTTP") }, 0},
		"no id for a kept session":   {func(pk *packets.Packet) { old(pk); pk.Connect.ClientIdentifier, pk.Connect.Clean = "", false }, 2},
		"password without user name": {func(pk *packets.Packet) { old(pk); pk.Connect.PasswordFlag, pk.Connect.Password = true, []byte("x") }, 0},
		"authentication method":      {func(pk *packets.Packet) { pk.Properties.AuthenticationMethod = "SCRAM" }, packets.ErrBadAuthenticationMethod.Code},
		"retained without will":      {func(pk *packets.Packet) { pk.Connect.WillRetain = true }, packets.ErrMalformedPacket.Code},
		"will with QoS 3": {func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillQos = true, "a", 3
		}, packets.ErrMalformedPacket.Code},
		"will to a pattern":  {func(pk *packets.Packet) { pk.Connect.WillFlag, pk.Connect.WillTopic = true, "a/#" }, packets.ErrTopicNameInvalid.Code},
		"will to the server": {func(pk *packets.Packet) { pk.Connect.WillFlag, pk.Connect.WillTopic = true, "$sys/a" }, packets.ErrNotAuthorized.Code},
		"will that is not UTF-8": {func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "a", []byte("\xff")
			pk.Connect.WillProperties = packets.Properties{PayloadFormat: 1, PayloadFormatFlag: true}
		}, packets.ErrPayloadFormatInvalid.Code},
	} {
		t.Run(name, func(t *testing.T) {
			r := *r
			r.T = t
			c2 := r.dial()
			pk := packets.Packet{ProtocolVersion: 5, Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "a", Clean: true}}
			c.set(&pk)
			c2.version = pk.ProtocolVersion
			c2.send(packets.Connect, &pk)
			if c2.version > 5 {
				c2.version = 5
			}
			if c.code != 0 {
				if ack := c2.expect(packets.Connack); ack.ReasonCode != c.code || ack.SessionPresent {
					t.Errorf("CONNACK %#x %s, not %#x", ack.ReasonCode, ack.Properties.ReasonString, c.code)
				}
			}
			c2.expectEnd(0)
		})
	}
}

// MQTT 5 lists no reason code for a topic alias in a CONNACK.
func TestATopicAliasInACONNECT(t *testing.T) {
	r := serve(t, nil)
	for alias := range byte(2) {
		c := r.dial()
		c.raw([]byte{0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 3, packets.PropTopicAlias, 0, alias, 0, 0})
		if ack := c.expect(packets.Connack); ack.ReasonCode != packets.ErrMalformedPacket.Code {
			t.Errorf("alias %d: CONNACK %#x", alias, ack.ReasonCode)
		}
		c.expectEnd(0)
	}
}

// withoutPositions is a log that takes no positions while err is set.
type withoutPositions struct {
	store.Store
	store.Noter
	err atomic.Pointer[error]
}

func (l *withoutPositions) AppendNoted(ctx context.Context, entries []store.Entry, notes ...store.Note) (store.ID, error) {
	if err := l.err.Load(); err != nil && len(notes) > 0 && strings.HasPrefix(notes[0].Key, cursor.Prefix) {
		return store.ID{}, *err
	}
	return l.Noter.AppendNoted(ctx, entries, notes...)
}

func TestAClientThatIsRefusedLeavesNothing(t *testing.T) {
	shared := sharedtest.New().Open()
	full := &withoutPositions{Store: shared, Noter: shared}
	full.err.Store(&store.ErrFull)
	for name, c := range map[string]struct {
		log   store.Store
		topic string
		code  byte
	}{
		"because of its will":       {memory.New(memory.Options{}), "$sys/a", packets.ErrNotAuthorized.Code},
		"because the store is full": {full, "w", packets.ErrQuotaExceeded.Code},
	} {
		t.Run(name, func(t *testing.T) {
			r := serveOn(t, c.log, nil)
			refused, ack := r.connect("a", func(pk *packets.Packet) {
				will("x", 0, 1000)(pk)
				pk.Connect.WillTopic = c.topic
			})
			if ack.ReasonCode != c.code {
				t.Errorf("CONNACK %#x %s", ack.ReasonCode, ack.Properties.ReasonString)
			}
			refused.expectEnd(0)
			uid := sessions.ClientUID("mqtt", "", "a")
			if s, err := r.hub.Session(uid); !errors.Is(err, sessions.ErrUnknown) {
				t.Errorf("the session is %+v, %v", s, err)
			}
			if p, ok := r.hub.Cursors().Get(sessionPrefix + uid); ok {
				t.Errorf("%+v is kept", p)
			}
			r.expectCount("w", 0)
		})
	}
}

func TestAClientWhosePositionCannotBeStoredHasNoWill(t *testing.T) {
	shared := sharedtest.New().Open()
	log := &withoutPositions{Store: shared, Noter: shared}
	r := serveOn(t, log, nil)
	kept := func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 1000, true
	}
	c := r.admitted("a", kept)
	c.subscribe(sub("g", 2))
	c.send(packets.Disconnect, &packets.Packet{})
	c.expectEnd(0)
	log.err.Store(&store.ErrAway)
	c, ack := r.connect("a", func(pk *packets.Packet) { will("x", 0, 1000)(pk); kept(pk) })
	if ack.ReasonCode != packets.ErrServerBusy.Code {
		t.Errorf("CONNACK %#x %s", ack.ReasonCode, ack.Properties.ReasonString)
	}
	c.expectEnd(0)
	log.err.Store(nil)
	r.expectCount("w", 0)
}

func TestNoPacketIsLargerThanTheClientAccepts(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) {
		o.Authenticate = func(_ context.Context, l *Login) (*access.Grant, error) {
			if l.Password == "bad" {
				return nil, access.ErrExpired
			}
			return access.Everything, nil
		}
	})
	first := r.admitted("a", nil)
	// sized connects a client and returns its first packet.
	sized := func(id, password string, size int) (*wire, *packets.Packet) {
		c := r.dial()
		pk := packets.Packet{Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: true}}
		pk.Connect.PasswordFlag, pk.Connect.Password = true, []byte(password)
		pk.Properties.MaximumPacketSize = uint32(size)
		c.send(packets.Connect, &pk)
		return c, c.receive()
	}
	const connack, refusal = 19, 5 // bytes, without an assigned client id and a reason
	for size := 1; size < connack; size++ {
		for password, code := range map[string]byte{"good": packets.ErrPacketTooLarge.Code, "bad": packets.ErrBadUsernameOrPassword.Code} {
			c, ack := sized("a", password, size)
			switch {
			case size < refusal && ack == nil:
			case ack == nil, 2+ack.FixedHeader.Remaining > size, ack.FixedHeader.Type != packets.Connack, ack.ReasonCode != code:
				t.Errorf("%d bytes, %s password: %+v", size, password, ack)
			default:
				c.expectEnd(0)
			}
		}
	}
	first.ping() // none of them has taken its session over
	many := make(packets.Subscriptions, connack)
	for i := range many {
		many[i].Filter = fmt.Sprint(i)
	}
	for _, kind := range []byte{packets.Subscribe, packets.Unsubscribe} {
		c, ack := sized("b", "good", connack)
		if ack == nil || ack.ReasonCode != 0 || 2+ack.FixedHeader.Remaining != connack {
			t.Fatalf("%+v", ack)
		}
		c.send(kind, &packets.Packet{PacketID: 1, Filters: many})
		if pk := c.receive(); pk == nil || pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrPacketTooLarge.Code || 2+pk.FixedHeader.Remaining > connack {
			t.Errorf("%+v", pk)
		}
		c.expectEnd(0)
	}
	if c, ack := sized("", "good", connack); ack == nil || ack.ReasonCode != packets.ErrPacketTooLarge.Code {
		t.Errorf("with an assigned client id: %+v", ack)
	} else {
		c.expectEnd(0)
	}
}

func TestACONNECTWhileTheServerCloses(t *testing.T) {
	r := serve(t, nil)
	r.hub.Cursors().Close()
	c, ack := r.connect("a", func(pk *packets.Packet) {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 1, true
	})
	if ack.ReasonCode != packets.ErrServerUnavailable.Code {
		t.Errorf("CONNACK %#x %s", ack.ReasonCode, ack.Properties.ReasonString)
	}
	c.expectEnd(0)
}

func TestTheFirstPacketMustBeCONNECT(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.connectTimeout = time.Millisecond })
	for name, b := range map[string][]byte{
		"PINGREQ": {0xc0, 0}, "HTTP": []byte("GET / HTTP/1.1\r\n\r\n"), "too large": {0x10, 0xff, 0xff, 1}, "long length": {0x10, 0xff, 0xff, 0xff, 0xff, 1},
		"empty": {0x10, 0}, "half": {0x10, 100, 0, 4}, "nothing": nil, "flags": {0x11, 10},
	} {
		c := r.dial()
		c.raw(b)
		if pk := c.receive(); pk != nil {
			t.Errorf("%s was answered with %+v", name, pk)
		}
	}
}

func TestPacketsThatClientsMustNotSend(t *testing.T) {
	r := serve(t, nil)
	for name, b := range map[string][]byte{
		"CONNACK": {0x20, 2, 0, 0}, "SUBACK": {0x90, 4, 0, 1, 0, 0}, "UNSUBACK": {0xb0, 4, 0, 1, 0, 0}, "PINGRESP": {0xd0, 0},
		"AUTH": {0xf0, 2, 0x18, 0}, "second CONNECT": {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0, 0},
		"PUBLISH without an id": {0x32, 6, 0, 1, 'a', 0, 0, 0}, "SUBSCRIBE without filters": {0x82, 3, 0, 1, 0},
		"Retain Handling 3": {0x82, 7, 0, 1, 0, 0, 1, 'a', 0x30}, "a property twice": {0x30, 8, 0, 1, 'a', 4, 1, 0, 1, 0},
		"payload format 2": {0x30, 6, 0, 1, 'a', 2, 1, 2}, "subscription identifier 0": {0x82, 9, 0, 1, 2, 11, 0, 0, 1, 'a', 0},
		"PUBLISH with a subscription identifier": {0x30, 6, 0, 1, 'a', 2, 11, 1}, "a response topic with a wildcard": {0x30, 8, 0, 1, 'a', 4, 8, 0, 1, '#'},
		"PUBREL with an invalid reason": {0x62, 3, 0, 1, 0x80}, "DUP with QoS 0": {0x38, 4, 0, 1, 'a', 0},
	} {
		c := r.admitted("a", nil)
		c.raw(b)
		if pk := c.receive(); pk == nil || pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrProtocolViolation.Code {
			t.Errorf("%s: %+v", name, pk)
		}
	}
	for name, b := range map[string][]byte{
		"type 0": {0, 0}, "flags of SUBSCRIBE": {0x80, 0}, "flags of PINGREQ": {0xc1, 0}, "topic that is not UTF-8": {0x30, 4, 0, 1, 0xff, 0},
		"topic with NUL": {0x30, 4, 0, 1, 0, 0}, "short topic": {0x30, 4, 0, 9, 'a', 0}, "long PINGREQ": {0xc0, 1, 0}, "length of 5 bytes": {0x30, 0xff, 0xff, 0xff, 0xff, 0},
		"QoS of a subscription": {0x82, 7, 0, 1, 0, 0, 1, 'a', 3}, "subscription without options": {0x82, 6, 0, 1, 0, 0, 1, 'a'},
		"properties beyond the packet": {0x30, 4, 0, 1, 'a', 9}, "a property beyond its properties": {0x30, 8, 0, 1, 'a', 1, 2, 0, 0, 0},
		"unknown property": {0x30, 6, 0, 1, 'a', 2, 0x7f, 0}, "PUBACK of 1 byte": {0x40, 1, 0}, "bytes behind PUBACK": {0x40, 6, 0, 1, 0, 0, 0, 0},
		"bytes behind DISCONNECT": {0xe0, 3, 0, 0, 0}, "QoS 3": {0x36, 6, 0, 1, 'a', 0, 1, 0},
	} {
		c := r.admitted("a", nil)
		c.raw(b)
		if pk := c.receive(); pk == nil || pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != packets.ErrMalformedPacket.Code {
			t.Errorf("%s: %+v", name, pk)
		}
	}
}

func TestReasonCodesThatClientsMayAndMustNotSend(t *testing.T) {
	const acks, completions = "\x00\x10\x80\x83\x87\x90\x91\x97\x99", "\x00\x92"
	r := serve(t, nil)
	for _, p := range []struct {
		first     byte
		good, bad string
	}{
		{packets.Puback << 4, acks, "\x01\x11\x7f\x81\x92\xff"}, {packets.Pubrec << 4, acks, "\x02\x11\x7f\x82\x92\xff"},
		{packets.Pubrel<<4 | 2, completions, "\x01\x10\x80\x91\xff"}, {packets.Pubcomp << 4, completions, "\x01\x10\x80\x91\xff"},
		{packets.Disconnect << 4, "\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99", "\x01\x03\x10\x84\x87\x8b\x8e\x92\xa3\xff"},
		{packets.Auth << 4, "", "\x00\x01\x18\x19\x80\xff"},
	} {
		send := func(c *wire, code byte) {
			body := []byte{code}
			if kind := p.first >> 4; kind != packets.Disconnect && kind != packets.Auth {
				body = []byte{0, 9, code}
			}
			c.raw(append([]byte{p.first, byte(len(body))}, body...))
		}
		for _, code := range []byte(p.good) {
			c := r.admitted("a", nil)
			send(c, code)
			if p.first>>4 != packets.Disconnect {
				c.send(packets.Disconnect, &packets.Packet{})
			}
			for pk := c.receive(); pk != nil; pk = c.receive() { // PUBREL and PUBCOMP are answers
				if pk.FixedHeader.Type == packets.Disconnect {
					t.Errorf("%#x with %#x: DISCONNECT %#x", p.first, code, pk.ReasonCode)
				}
			}
		}
		for _, code := range []byte(p.bad) {
			c := r.admitted("a", nil)
			send(c, code)
			c.expectEnd(packets.ErrProtocolViolation.Code)
		}
	}
}

func TestThePasswordIsTheToken(t *testing.T) {
	grant, err := access.NewGrant("me", "", []string{"#"}, []string{"#"}, false, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	anonymous := &access.Grant{Anonymous: true}
	r := serve(t, func(_ *hub.Options, o *Options) {
		o.Authenticate = func(_ context.Context, l *Login) (*access.Grant, error) {
			switch {
			case l.Password == "good" && l.UserName == "name" && l.ClientID == "a" && strings.HasPrefix(l.Remote, "127.0.0.1:"):
				return grant, nil
			case l.Password == "":
				return anonymous, nil
			}
			return nil, access.ErrExpired
		}
	})
	for password, codes := range map[string][2]byte{
		"good": {0, 0}, "bad": {packets.ErrBadUsernameOrPassword.Code, 4}, "": {packets.ErrNotAuthorized.Code, 5},
	} {
		for i, version := range []byte{5, 4} {
			c, ack := r.connect("a", func(pk *packets.Packet) {
				pk.ProtocolVersion = version
				pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte("name")
				pk.Connect.PasswordFlag, pk.Connect.Password = password != "", []byte(password)
			})
			if ack.ReasonCode != codes[i] {
				t.Errorf("MQTT %d, password %q: %#x %s", version, password, ack.ReasonCode, ack.Properties.ReasonString)
			}
			if codes[i] != 0 {
				c.expectEnd(0)
			}
		}
	}
	anonymous.Publish = filters(t, "a")
	c := r.admitted("b", nil)
	c.publish("a", "x", 1, 1, nil)
	c.expectAck(packets.Puback, 1, 0)
	c.publish("b", "x", 1, 1, nil)
	c.expectAck(packets.Puback, 1, packets.ErrNotAuthorized.Code)
}

func TestASecondConnectionTakesTheSessionOver(t *testing.T) {
	r := serve(t, nil)
	first := r.admitted("a", nil)
	other := r.admitted("b", nil)
	begun := time.Now()
	second := r.admitted("a", nil)
	first.expectEnd(packets.ErrSessionTakenOver.Code)
	third := r.admitted("a", old)
	second.expectEnd(packets.ErrSessionTakenOver.Code)
	if took := time.Since(begun); took < takeoverPause {
		t.Errorf("the second takeover came after %v", took)
	}
	r.admitted("a", nil)
	third.expectEnd(0)
	other.ping()
}

func TestTheNewestOfTheConnectionsThatWaitGetsTheSession(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.takeoverPause = 5 * time.Second })
	first := r.admitted("a", nil)
	second := r.admitted("a", nil)
	first.expectEnd(packets.ErrSessionTakenOver.Code)
	third := r.waits("a")
	fourth := r.waits("a")
	if ack := third.expect(packets.Connack); ack.ReasonCode != packets.ErrServerBusy.Code {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
	if ack := fourth.expect(packets.Connack); ack.ReasonCode != 0 {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
	second.expectEnd(packets.ErrSessionTakenOver.Code)
	third.expectEnd(0)
	fourth.ping()
}

func TestOnlyTakeoversThatHappenCount(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.takeoverPause = time.Hour })
	first := r.admitted("a", nil)
	second := r.admitted("a", nil)
	first.expectEnd(packets.ErrSessionTakenOver.Code)
	newest := r.waits("a")
	for range 20 {
		older := newest
		newest = r.waits("a")
		if ack := older.expect(packets.Connack); ack.ReasonCode != packets.ErrServerBusy.Code {
			t.Errorf("CONNACK %#x", ack.ReasonCode)
		}
		older.expectEnd(0)
	}
	second.send(packets.Disconnect, &packets.Packet{})
	second.expectEnd(0)
	if ack := newest.expect(packets.Connack); ack.ReasonCode != 0 {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
	r.admitted("a", nil) // it need not wait, since nobody has taken the session over from the second one
	newest.expectEnd(packets.ErrSessionTakenOver.Code)
	if n := r.hub.Stats().MQTT.Takeovers; n != 2 {
		t.Errorf("%d takeovers, want 2", n)
	}
}

func TestAConnectionThatEndsByItselfIsNotTakenOver(t *testing.T) {
	r := newRig(t)
	for range 50 {
		c := newConn(r.server, newPipe(), "127.0.0.1:1")
		c.turns.Store(true)
		_ = c.Close()
		c.done.reach()
		if err := r.server.takeOver(c, nil); err != nil || c.leaving.Load() != nil {
			t.Fatalf("it was taken over: %v", err)
		}
	}
	if n := r.hub.Stats().MQTT.Takeovers; n != 0 {
		t.Errorf("%d takeovers", n)
	}
}

// waits connects a client that has to wait for its session.
func (r *wired) waits(id string) *wire {
	r.Helper()
	c, before := r.dial(), r.waiting()
	c.send(packets.Connect, &packets.Packet{Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: true}})
	r.until(func() bool { now := r.waiting(); return now != nil && now != before })
	return c
}

// waiting returns a connection that waits for its session, or nil.
func (r *wired) waiting() *conn {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for _, c := range r.server.waiting {
		return c
	}
	return nil
}

func TestCONNECTsTakeNoMemoryFromClientsThatAreAdmitted(t *testing.T) {
	r := serve(t, func(o *hub.Options, mo *Options) {
		o.MaxRequests, mo.connectTimeout = 1<<20, time.Hour
	})
	c := r.admitted("a", nil)
	for range 20 { // 8 of them would take all memory for small requests
		half := r.dial()
		half.raw([]byte{0x10, 0xf0, 0x7d, 0, 4, 'M', 'Q', 'T', 'T'})
	}
	for id := range uint16(20) { // some of them are handled by now
		c.publish("a", strings.Repeat("x", 40_000), 1, id+1, nil)
		c.expectAck(packets.Puback, id+1, 0)
	}
}

func TestCONNECTsThatHaveArrivedInPartShareABoundedMemory(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.connectTimeout = time.Hour })
	accepted := r.admitted("accepted", nil)
	small := r.dial()
	small.raw([]byte{0x10, 13, 0, 4, 'M', 'Q'})
	const size, many = 14_000, 600
	large := func(id string) []byte {
		return accepted.encoded(packets.Connect, &packets.Packet{Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: true, PasswordFlag: true, Password: []byte(strings.Repeat("x", size)),
		}})
	}
	ended := make(chan bool, many)
	for i := range many {
		half := r.dial()
		half.raw(large(fmt.Sprint(i))[:size])
		go func() {
			_, err := half.Read(make([]byte, 1))
			late, ok := errors.AsType[net.Error](err)
			ended <- !ok || !late.Timeout()
		}()
	}
	for range many - maxUnheard/size {
		if !<-ended {
			t.Fatal("a connection did not end")
		}
	}
	accepted.publish("a", "x", 1, 1, nil)
	accepted.expectAck(packets.Puback, 1, 0)
	r.admitted("at once", func(pk *packets.Packet) { pk.Connect.PasswordFlag, pk.Connect.Password = true, make([]byte, size) })
	small.raw([]byte{'T', 'T', 5, 2, 0, 0, 0, 0, 0})
	if ack := small.expect(packets.Connack); ack.ReasonCode != 0 {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
}

func TestALargeCONNECTMayArriveInParts(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.connectTimeout = time.Hour })
	for range 2 * maxUnheard / maxConnect { // all memory is given back each time
		c := r.dial()
		all := c.encoded(packets.Connect, &packets.Packet{Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: "a", Clean: true, PasswordFlag: true, Password: make([]byte, 16_000),
		}})
		before := r.server.unheard.Load()
		c.raw(all[:15_000])
		r.until(func() bool { return r.server.unheard.Load() > before })
		c.raw(all[15_000:])
		if ack := c.expect(packets.Connack); ack.ReasonCode != 0 {
			t.Fatalf("CONNACK %#x", ack.ReasonCode)
		}
		c.send(packets.Disconnect, &packets.Packet{})
		c.expectEnd(0)
	}
}

func TestDISCONNECTMustNotKeepASessionThatEnds(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	c.send(packets.Disconnect, &packets.Packet{Properties: packets.Properties{SessionExpiryInterval: 1, SessionExpiryIntervalFlag: true}})
	c.expectEnd(packets.ErrProtocolViolation.Code)
	c = r.admitted("a", nil)
	c.send(packets.Disconnect, &packets.Packet{})
	c.expectEnd(0)
}

func TestCloseDisconnectsEveryClient(t *testing.T) {
	r := serve(t, nil)
	a, b, half := r.admitted("a", nil), r.admitted("b", old), r.dial()
	half.raw([]byte{0x10, 100})
	if err := r.server.Close(); err != nil {
		t.Fatal(err)
	}
	a.expectEnd(packets.ErrServerShuttingDown.Code)
	b.expectEnd(0)
	half.expectEnd(0)
}
