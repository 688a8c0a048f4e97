package mqtt

import (
	"context"
	"errors"
	"fmt"
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

// TestAClientOfQoS2WhoseReturnCannotBeStored has a client return while the store is full. After a kill of the hub, it would take
// new messages for those whose packet ids it holds.
func TestAClientOfQoS2WhoseReturnCannotBeStored(t *testing.T) {
	for version, code := range map[byte]byte{4: 3, 5: packets.ErrQuotaExceeded.Code} {
		shared := sharedtest.New().Open()
		log := &withoutPositions{Store: shared, Noter: shared}
		r := serveOn(t, log, nil)
		keep := func(pk *packets.Packet) {
			pk.ProtocolVersion, pk.Connect.Clean = version, false
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 1000, version == 5
		}
		for qos, id := range []string{"zero", "one", "two"} {
			c := r.admitted(id, keep)
			c.subscribe(sub("g", byte(qos)))
			c.send(packets.Disconnect, &packets.Packet{})
			c.expectEnd(0)
			key := sessionPrefix + sessions.ClientUID("mqtt", "", id)
			r.until(func() bool { p, _ := r.hub.Cursors().Get(key); return !p.Away.IsZero() })
			if err := r.hub.Cursors().Flush(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
		log.err.Store(&store.ErrFull)
		for _, id := range []string{"zero", "one"} {
			if _, ack := r.connect(id, keep); ack.ReasonCode != 0 || !ack.SessionPresent {
				t.Errorf("MQTT %d, %s: CONNACK %#x", version, id, ack.ReasonCode)
			}
		}
		refused, ack := r.connect("two", keep)
		if ack.ReasonCode != code {
			t.Errorf("MQTT %d: CONNACK %#x", version, ack.ReasonCode)
		}
		refused.expectEnd(0)
		log.err.Store(nil)
		r.admitted("other", nil).publish("g", "meanwhile", 2, 1, nil)
		c, ack := r.connect("two", keep)
		if ack.ReasonCode != 0 || !ack.SessionPresent {
			t.Fatalf("MQTT %d: CONNACK %#x", version, ack.ReasonCode)
		}
		if pk := c.expect(packets.Publish); string(pk.Payload) != "meanwhile" {
			t.Errorf("%q", pk.Payload)
		}
	}
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

func TestDISCONNECTMustNotKeepASessionThatEnds(t *testing.T) {
	r := serve(t, nil)
	c := r.admitted("a", nil)
	c.send(packets.Disconnect, &packets.Packet{Properties: packets.Properties{SessionExpiryInterval: 1, SessionExpiryIntervalFlag: true}})
	c.expectEnd(packets.ErrProtocolViolation.Code)
	c = r.admitted("a", nil)
	c.send(packets.Disconnect, &packets.Packet{})
	c.expectEnd(0)
}

func TestCloseRefusesAClientThatWaitsForItsSession(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.takeoverPause = time.Hour })
	r.admitted("a", nil)
	r.admitted("a", nil)
	c := r.waits("a")
	if err := r.server.Close(); err != nil {
		t.Fatal(err)
	}
	if ack := c.expect(packets.Connack); ack.ReasonCode != packets.ErrServerUnavailable.Code {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
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
