package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/store"
)

func TestRetainedMessagesByRetainHandling(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	r.publish("g/1", "one", 2, true)
	r.publish("g/2", "two", 1, true)

	c.subscribe(packets.Subscription{Filter: "g/#", Qos: 1, Identifier: 7})
	one := c.message("one")
	if !one.FixedHeader.Retain || one.FixedHeader.Qos != 1 || len(one.Properties.SubscriptionIdentifier) != 1 {
		t.Errorf("%+v", one)
	}
	c.message("two")
	c.subscribe(packets.Subscription{Filter: "g/#", Qos: 0, RetainHandling: 1})
	c.subscribe(packets.Subscription{Filter: "g/#", Qos: 0, RetainHandling: 2})
	r.publish("g/3", "live", 1, true)
	if pk := c.message("live"); pk.FixedHeader.Retain || pk.FixedHeader.Qos != 0 || len(pk.Properties.SubscriptionIdentifier) > 0 {
		t.Errorf("%+v", pk)
	}
	c.subscribe(packets.Subscription{Filter: "g/1", RetainHandling: 2})
	c.subscribe(packets.Subscription{Filter: "g/2", RetainHandling: 1})
	if pk := c.message("two"); !pk.FixedHeader.Retain || pk.FixedHeader.Qos != 0 {
		t.Errorf("%+v", pk)
	}
	c.subscribe(packets.Subscription{Filter: "g/1", RetainAsPublished: true})
	c.message("one")
	r.publish("g/1", "four", 1, true)
	if pk := c.message("four"); !pk.FixedHeader.Retain {
		t.Errorf("%+v", pk)
	}
}

func TestOneCopyWithAllSubscriptionIdentifiers(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	c.subscribe(packets.Subscription{Filter: "a/#", Identifier: 1}, packets.Subscription{Filter: "a/+", Qos: 2, Identifier: 300}, sub("a/b", 1))
	r.publish("a/b", "x", 2, false)
	r.publish("a/c/d", "y", 2, false)
	if pk := c.message("x"); pk.FixedHeader.Qos != 2 || len(pk.Properties.SubscriptionIdentifier) != 2 || pk.Properties.SubscriptionIdentifier[1] != 300 {
		t.Errorf("%+v", pk)
	}
	if pk := c.message("y"); pk.FixedHeader.Qos != 0 || len(pk.Properties.SubscriptionIdentifier) != 1 {
		t.Errorf("%+v", pk)
	}
}

func TestAClientThatSubscribesAgainMissesNothing(t *testing.T) {
	r := newRig(t)
	r.publish("g/retained", "retained", 1, true)
	o := options{id: "a", expiry: -1}
	c := r.connect(o)
	c.subscribe(packets.Subscription{Filter: "g/#", Qos: 1, RetainHandling: retainedNever})
	c.leave()
	const count = 3 * maxWindow
	for i := range count {
		r.publish("g", strconv.Itoa(i), 1, false)
	}
	c = r.connect(o)
	defer c.leave()
	for _, again := range []packets.Subscription{sub("g/#", 1), {Filter: "g/#", Qos: 1, RetainHandling: retainedIfNew}} {
		c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{again}})
	}
	next, retained := 0, false
	for next < count || !retained {
		pk := c.wait()
		switch {
		case pk.FixedHeader.Type != packets.Publish:
			continue
		case pk.FixedHeader.Retain:
			retained = true
		case string(pk.Payload) != strconv.Itoa(next):
			t.Fatalf("message %q instead of %d", pk.Payload, next)
		default:
			next++
		}
		c.ack(packets.Puback, pk.PacketID)
	}
}

func TestAFilterThatComesManyTimesInOneSUBSCRIBE(t *testing.T) {
	r := serve(t, nil)
	c, other := r.admitted("a", nil), r.admitted("other", nil)
	other.publish("a", "retained", 1, 1, func(pk *packets.Packet) { pk.FixedHeader.Retain = true })
	other.expectAck(packets.Puback, 1, 0)
	const many = 100_000
	list := make(packets.Subscriptions, many)
	for i := range list {
		list[i] = packets.Subscription{Filter: "a", Qos: 1, RetainHandling: retainedNever}
	}
	list[1].RetainHandling = retainedAlways
	list[many-1].Qos = 2
	c.send(packets.Subscribe, &packets.Packet{PacketID: 1, Filters: list})
	if ack := c.expect(packets.Suback); len(ack.ReasonCodes) != many || strings.Trim(string(ack.ReasonCodes), "\x02") != "" {
		t.Errorf("%d codes, the first %x", len(ack.ReasonCodes), ack.ReasonCodes[:2])
	}
	if pk := c.expect(packets.Publish); !pk.FixedHeader.Retain || string(pk.Payload) != "retained" {
		t.Errorf("%+v", pk)
	}
	other.publish("a", "live", 2, 2, nil)
	other.expectAck(packets.Pubrec, 2, 0)
	if pk := c.expect(packets.Publish); pk.FixedHeader.Retain || string(pk.Payload) != "live" || pk.FixedHeader.Qos != 2 {
		t.Errorf("the retained message came again: %+v", pk)
	}
	c.send(packets.Unsubscribe, &packets.Packet{PacketID: 2, Filters: list})
	if ack := c.expect(packets.Unsuback); len(ack.ReasonCodes) != many || ack.ReasonCodes[0] != 0 || ack.ReasonCodes[1] != packets.CodeNoSubscriptionExisted.Code {
		t.Errorf("%d codes, the first %x", len(ack.ReasonCodes), ack.ReasonCodes[:2])
	}
}

func TestUnsubscribe(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	c.subscribe(sub("a", 1), sub("b", 1))
	c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 9, Filters: packets.Subscriptions{sub("a", 0), sub("c", 0)}})
	if pk := c.expect(packets.Unsuback); string(pk.ReasonCodes) != "\x00\x11" || pk.PacketID != 9 {
		t.Errorf("%+v", pk)
	}
	r.publish("a", "not for it", 1, false)
	r.publish("b", "for it", 1, false)
	c.message("for it")
}

func TestFiltersThatAreRefused(t *testing.T) {
	grant, err := access.NewGrant("me", "", []string{"ok/#"}, nil, false, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, func(o *hub.Options, mo *Options) {
		o.MaxFilters = 3
		mo.Authenticate = func(context.Context, *Login) (*access.Grant, error) { return grant, nil }
	})
	c := r.admitted("a", func(pk *packets.Packet) {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 100, true
	})
	long := strings.Repeat("x", 252)
	for _, f := range []struct {
		filter string
		code   byte
	}{
		{"a/#/b", 0x8f}, {"a#", 0x8f}, {"a+/b", 0x8f}, {"a/\x01", 0x8f}, {"", 0x8f}, {"ok/" + long + "x", 0x8f}, {strings.Repeat("a/", 16) + "a", 0x8f},
		{"$share//ok/a", 0x8f}, {"$share/x", 0x8f}, {"$share/x/", 0x8f}, {"$share/+/ok/a", 0x8f}, {"$share/x/ok/a+", 0x8f},
		{"$share/" + strings.Repeat("n", maxShareName+1) + "/ok/a", 0x8f}, {"$share/" + strings.Repeat("n", 60_000) + "/ok/a", 0x8f},
		{"other", 0x87}, {"#", 0x87}, {"$share/x/other", 0x87}, {"$session/x", 0x87}, {"$sys/stats", 0x87}, {"$SYS/#", 0x87},
		{"$share/" + strings.Repeat("n", maxShareName) + "/ok/" + long, 0}, {"ok/" + long, 1}, {"ok/+", 2}, {"ok/4", 0x97}, {"$share/x/ok/4", 0x97},
	} {
		qos := f.code
		if qos > 2 {
			qos = 0
		}
		c.send(packets.Subscribe, &packets.Packet{PacketID: 1, Filters: packets.Subscriptions{{Filter: f.filter, Qos: qos}}})
		if code := c.expect(packets.Suback).ReasonCodes[0]; code != f.code {
			t.Errorf("%.40q: %#x, want %#x", f.filter, code, f.code)
		}
	}
}

func TestReasonCodesOfSUBACK(t *testing.T) {
	for version, want := range map[byte]string{4: "\x80\x80\x01\x80", 5: "\x8f\x87\x01\x8f"} {
		r := newRig(t)
		c := r.connect(options{id: "a", version: version})
		pk := c.subscribe(sub("a/#/b", 1), sub("$session/x", 1), sub("ok", 1), sub("$share//x", 0))
		if string(pk.ReasonCodes) != want {
			t.Errorf("version %d: codes % x", version, pk.ReasonCodes)
		}
		c.leave()
	}
}

func TestASharedSubscriptionMustNotBeNoLocal(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, Filters: packets.Subscriptions{{Filter: "$share/s/a", NoLocal: true}}}
	if err := c.conn.session.packet(&pk); err != packets.ErrProtocolViolationInvalidSharedNoLocal {
		t.Error(err)
	}
}

func TestTooManySubscriptionsAreRefused(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	var list []packets.Subscription
	for i := range r.hub.Options().MaxFilters + 1 {
		list = append(list, sub(fmt.Sprint("g/", i), 1))
	}
	codes := c.subscribe(list...).ReasonCodes
	if last := len(codes) - 1; codes[last] != packets.ErrQuotaExceeded.Code || codes[last-1] != 1 {
		t.Errorf("codes % x", codes)
	}
	for _, filter := range []string{"$share/s/g", "$SYS/#", "$session/+"} {
		if codes := c.subscribe(sub(filter, 0)).ReasonCodes; codes[0] != packets.ErrQuotaExceeded.Code {
			t.Errorf("%s: code %x", filter, codes)
		}
	}
	if codes := c.subscribe(sub("g/0", 2)).ReasonCodes; codes[0] != 2 {
		t.Errorf("the subscription again: code %x", codes)
	}
}

func TestEarlierMessagesOnRequest(t *testing.T) {
	r := newRig(t)
	for _, text := range []string{"one", "two", "three"} {
		r.publish("g", text, 1, false)
	}
	for property, want := range map[[2]string][]string{
		{"since", "all"}:              {"one", "two", "three"},
		{"since", "1h"}:               {"one", "two", "three"},
		{"last", "2"}:                 {"two", "three"},
		{"last", "0"}:                 {},
		{"stream-offset", "earliest"}: {"one", "two", "three"},
		{"stream-offset", "latest"}:   {},
	} {
		c := r.connect(options{id: "a"})
		if pk := c.replay("g", property); pk.ReasonCodes[0] != 1 {
			t.Errorf("%v: % x", property, pk.ReasonCodes)
		}
		for _, text := range want {
			c.message(text)
		}
		c.subscribe(packets.Subscription{Filter: "g/end", RetainHandling: 2})
		r.publish("g/end", "end", 1, false)
		c.message("end")
		c.leave()
	}
	c := r.connect(options{id: "a"})
	defer c.leave()
	if pk := c.replay("g", [2]string{"since", "yesterday"}); pk.ReasonCodes[0] != packets.ErrImplementationSpecificError.Code {
		t.Errorf("% x", pk.ReasonCodes)
	}
}

// replay subscribes with a user property.
func (c *client) replay(filter string, property [2]string) packets.Packet {
	c.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 3, Filters: packets.Subscriptions{sub(filter, 1)}}
	pk.Properties.User = []packets.UserProperty{{Key: property[0], Val: property[1]}}
	c.do(pk)
	return c.expect(packets.Suback)
}

func TestEarlierMessagesGoOnAfterALostConnection(t *testing.T) {
	r := newRig(t)
	for i := range 10 {
		r.publish("g", string(rune('0'+i)), 1, false)
	}
	o := options{id: "a", expiry: -1, limits: limits{receive: 3}}
	c := r.connect(o)
	c.replay("g", [2]string{"since", "all"})
	c.message("0")
	one := c.message("1")
	c.message("2")
	c.ack(packets.Puback, one.PacketID)
	c.message("3")
	c.leave()
	r.publish("g", "live", 1, false)
	c = r.connect(o)
	defer c.leave()
	for _, text := range []string{"0", "2", "3"} {
		if pk := c.message(text); !pk.FixedHeader.Dup {
			t.Errorf("%+v", pk)
		}
	}
	for _, text := range []string{"4", "5", "6", "7", "8", "9", "live"} {
		c.ack(packets.Puback, c.oldest())
		if pk := c.message(text); pk.FixedHeader.Dup {
			t.Errorf("%+v", pk)
		}
	}
}

// oldest returns the packet id of the oldest message that is not acknowledged.
func (c *client) oldest() uint16 {
	s := c.conn.session
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.window.list[0].id
}

func TestAnEvictedMessageIsAGap(t *testing.T) {
	r := newRig(t)
	f, _ := group.ParseFilter("#")
	if err := r.hub.SetPolicy(f, store.Policy{MaxMessages: 2}); err != nil {
		t.Fatal(err)
	}
	for version, o := range map[byte]options{4: {id: "old", version: 4, expiry: -1}, 5: {id: "new", version: 5, expiry: -1}} {
		watch := r.connect(options{id: "watch"})
		watch.subscribe(sub("$sys/gaps/+", 0))
		c := r.connect(o)
		c.subscribe(sub("g", 1))
		c.leave()
		after := r.hub.End()
		for _, text := range []string{"1", "2", "3", "4"} {
			r.publish("g", text, 1, false)
		}
		c = r.connect(o)
		pk := c.message("3")
		oldest := r.hub.End()
		oldest.Seq--
		switch version {
		case 5:
			if u := pk.Properties.User; len(u) != 1 || u[0].Key != "gap" || u[0].Val[:len(after.Epoch)] != after.Epoch {
				t.Errorf("%+v", pk)
			}
		default:
			if pk := watch.expect(packets.Publish); pk.TopicName != "$sys/gaps/"+c.conn.uid() {
				t.Errorf("%s %s", pk.TopicName, pk.Payload)
			}
		}
		if pk := c.message("4"); len(pk.Properties.User) > 0 {
			t.Errorf("%+v", pk)
		}
		c.leave()
		watch.leave()
	}
	if s := r.hub.Stats().MQTT; s.Gaps != 2 || s.Sent1 != 4 || s.Sent2 != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSystemTopics(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	c.subscribe(packets.Subscription{Filter: "$SYS/broker/clients/+", Identifier: 5}, sub("#", 0))
	pk := c.expect(packets.Publish)
	if pk.TopicName != "$SYS/broker/clients/connected" || string(pk.Payload) != "1" || !pk.FixedHeader.Retain || pk.Properties.SubscriptionIdentifier[0] != 5 {
		t.Errorf("%+v", pk)
	}
	if pk := c.expect(packets.Publish); pk.TopicName != "$SYS/broker/clients/total" {
		t.Errorf("%+v", pk)
	}
	small := r.connect(options{id: "b", limits: limits{packet: 31}})
	defer small.leave()
	small.subscribe(sub("$SYS/broker/clients/+", 0))
	if pk := small.expect(packets.Publish); pk.TopicName != "$SYS/broker/clients/total" { // the other one is larger
		t.Errorf("%+v", pk)
	}
}

func TestASubscriptionThatCannotBeStoredIsNone(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a", expiry: -1, limits: limits{problemInfo: true}})
	defer c.leave()
	c.subscribe(sub("before", 1), sub("$share/s/before", 1))
	r.hub.Cursors().Close()
	for _, changed := range []packets.Subscription{{Filter: "before", Qos: 2, Identifier: 7}, {Filter: "$share/s/before", Qos: 2, Identifier: 7}} {
		if pk := c.subscribe(changed); pk.ReasonCodes[0] != packets.ErrUnspecifiedError.Code {
			t.Errorf("%s: %#x", changed.Filter, pk.ReasonCodes[0])
		}
	}
	if pk := c.subscribe(sub("refused", 1)); pk.ReasonCodes[0] != packets.ErrUnspecifiedError.Code || pk.Properties.ReasonString == "" {
		t.Errorf("%#x %q", pk.ReasonCodes[0], pk.Properties.ReasonString)
	}
	r.publish("refused", "no", 1, false)
	r.publish("before", "yes", 2, false)
	for range 2 { // of each subscription
		if pk := c.message("yes"); pk.FixedHeader.Qos != 1 || len(pk.Properties.SubscriptionIdentifier) > 0 {
			t.Errorf("a subscription was changed: %+v", pk)
		}
	}
}

func TestARefusedSubscriptionIsNotStoredLater(t *testing.T) {
	shared := sharedtest.New().Open()
	log := &withoutPositions{Store: shared, Noter: shared}
	r := serveOn(t, log, nil)
	c := r.admitted("a", func(pk *packets.Packet) {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 1000, true
	})
	c.subscribe(sub("before", 1))
	log.err.Store(&store.ErrFull)
	c.send(packets.Subscribe, &packets.Packet{PacketID: 2, Filters: packets.Subscriptions{sub("before", 2), sub("refused", 1)}})
	if pk := c.expect(packets.Suback); !bytes.Equal(pk.ReasonCodes, []byte{packets.ErrQuotaExceeded.Code, packets.ErrQuotaExceeded.Code}) {
		t.Errorf("% x", pk.ReasonCodes)
	}
	log.err.Store(nil)
	key := sessionPrefix + sessions.ClientUID("mqtt", "", "a")
	if err := r.hub.Cursors().Flush(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	p, _ := r.hub.Cursors().Get(key)
	if len(p.Filters) != 1 || p.Filters[0].Filter != "before" || p.Filters[0].Options[0] != 1 {
		t.Errorf("%+v", p.Filters)
	}
}

// TestASubscriptionThatIsRefusedKeepsItsOptions has a client subscribe again and again and read nothing, until the stream
// takes no more changes.
func TestASubscriptionThatIsRefusedKeepsItsOptions(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	c.subscribe(sub("g", 1))
	c.pipe.allow(0)
	r.publish("g", "not read", 1, false)
	for i := range delivery.MaxChanges + 1 {
		x := sub("g", 1)
		if i == delivery.MaxChanges {
			x = packets.Subscription{Filter: "g", Qos: 2, Identifier: 7}
		}
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 9, Filters: packets.Subscriptions{x}}
		if err := c.conn.session.packet(&pk); err != nil {
			t.Fatal(err)
		}
	}
	c.pipe.allow(-1)
	if err := c.conn.flush(); err != nil {
		t.Fatal(err)
	}
	r.publish("g", "last", 2, false)
	var codes []byte
	for {
		pk := c.wait()
		if pk.FixedHeader.Type == packets.Suback {
			codes = append(codes, pk.ReasonCodes...)
			continue
		}
		if string(pk.Payload) == "last" {
			if pk.FixedHeader.Qos != 1 || len(pk.Properties.SubscriptionIdentifier) > 0 {
				t.Errorf("the subscription was changed: %+v", pk)
			}
			break
		}
	}
	if n := len(codes); codes[n-1] != packets.ErrQuotaExceeded.Code {
		t.Errorf("% x", codes)
	}
}
