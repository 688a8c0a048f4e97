package mqtt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
)

func TestEachMessageOfAShareGoesToOneMember(t *testing.T) {
	r := newRig(t)
	a, b := r.connect(options{id: "a"}), r.connect(options{id: "b", version: 4})
	defer a.leave()
	defer b.leave()
	r.publish("g/1", "retained", 1, true)
	for _, c := range []*client{a, b} {
		if pk := c.subscribe(packets.Subscription{Filter: "$share/s/g/#", Qos: 1, Identifier: 3}); pk.ReasonCodes[0] != 1 {
			t.Fatalf("%+v", pk)
		}
	}
	other := r.connect(options{id: "c"})
	defer other.leave()
	other.subscribe(sub("$share/t/g/#", 0))
	for i := range 2 * maxWindow {
		r.publish("g/1", strconv.Itoa(i), 2, false)
	}
	got := map[string]int{}
	for range maxWindow {
		pk := a.expect(packets.Publish)
		if pk.FixedHeader.Qos != 1 || pk.FixedHeader.Retain || pk.Properties.SubscriptionIdentifier[0] != 3 {
			t.Errorf("%+v", pk)
		}
		got[string(pk.Payload)]++
		got[string(b.expect(packets.Publish).Payload)]++
	}
	for i := range 2 * maxWindow {
		if got[strconv.Itoa(i)] != 1 {
			t.Errorf("%d arrived %d times", i, got[strconv.Itoa(i)])
		}
		other.message(strconv.Itoa(i))
	}
}

func TestAMemberChangesItsSubscription(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a"})
	defer c.leave()
	c.subscribe(sub("$share/s/g", 0))
	c.subscribe(packets.Subscription{Filter: "$share/s/g", Qos: 1, Identifier: 7})
	r.publish("g", "1", 1, false)
	if pk := c.message("1"); pk.FixedHeader.Qos != 1 || !slices.Equal(pk.Properties.SubscriptionIdentifier, []int{7}) {
		t.Errorf("%+v", pk)
	}
}

func TestMembersLeaveWhileTheShareIsStored(t *testing.T) {
	r := newRig(t)
	a, o := r.connect(options{id: "a"}), options{id: "b", expiry: -1}
	defer a.leave()
	a.subscribe(sub("$share/s/g", 1))
	b := r.connect(o)
	b.subscribe(sub("$share/s/g", 1))
	h := r.server.shares.find(&subscription{share: "s", filter: group.Exact("g")})
	var others sync.WaitGroup
	done := make(chan struct{})
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				h.returned(a.conn.session, 0) // as each PUBACK does
			}
		}
	})
	for range 100 {
		b.leave()
		b = r.connect(o)
	}
	b.leave()
	close(done)
	others.Wait()
}

// TestMessagesOfMembersThatLeaveAreNotLost has members that get messages, and leave without acknowledging them, while others are
// published.
func TestMessagesOfMembersThatLeaveAreNotLost(t *testing.T) {
	r := newRig(t)
	a := r.connect(options{id: "a"})
	defer a.leave()
	a.subscribe(sub("$share/s/g", 1))
	const messages = maxBriefWindow // a takes them all
	published := make(chan struct{})
	go func() {
		defer close(published)
		for i := range messages {
			r.publish("g", strconv.Itoa(i), 1, false)
		}
	}()
	for over := false; !over; {
		b := r.connect(options{id: "b"})
		b.subscribe(sub("$share/s/g", 1))
		b.leave()
		select {
		case <-published:
			over = true
		default:
		}
	}
	got := map[string]bool{}
	for range messages {
		got[string(a.expect(packets.Publish).Payload)] = true
	}
	if len(got) != messages {
		t.Errorf("%d of %d messages have arrived", len(got), messages)
	}
}

func TestMessagesOfALostMemberGoToAnotherOneFirst(t *testing.T) {
	r := newRig(t)
	a, b := r.connect(options{id: "a"}), r.connect(options{id: "b", limits: limits{receive: 1}})
	defer b.leave()
	a.subscribe(sub("$share/s/g", 1))
	for i := range 3 {
		r.publish("g", strconv.Itoa(i), 1, false)
	}
	for i := range 3 {
		a.message(strconv.Itoa(i))
	}
	a.ack(packets.Puback, 2)
	b.subscribe(sub("$share/s/g", 1))
	r.publish("g", "new", 1, false)
	a.message("new") // it has more room
	a.leave()
	r.publish("g", "newer", 1, false)
	for _, text := range []string{"0", "2", "new", "newer"} {
		b.ack(packets.Puback, b.message(text).PacketID)
	}
}

func TestAShareIsKeptForMembersThatAreAway(t *testing.T) {
	r := newRig(t)
	o := options{id: "a", expiry: -1}
	a := r.connect(o)
	a.subscribe(sub("$share/s/g", 2))
	r.publish("g", "one", 2, false)
	r.publish("g", "two", 1, false)
	one := a.message("one")
	a.message("two")
	a.leave()
	r.publish("g", "three", 1, false)
	b := r.connect(options{id: "b"})
	b.subscribe(sub("$share/s/g", 1))
	b.message("one")
	b.message("two")
	b.message("three")
	b.leave()
	a = r.connect(o)
	if pk := a.expect(packets.Pubrel); pk.PacketID != one.PacketID {
		t.Errorf("%+v", pk)
	}
	for _, text := range []string{"one", "two", "three"} {
		a.message(text)
	}
	a.leave()
	o.clean = true
	r.connect(o).leave()
	if _, ok := r.hub.Cursors().Get("share/s/g"); ok {
		t.Error("the share was kept without a member")
	}
}

// TestRandomShares checks that each message reaches a member, while members come and go at one or two hubs, and only once if
// none of them went before it acknowledged the message.
func TestRandomShares(t *testing.T) {
	for i := range uint64(20) {
		seed := uint64(time.Now().UnixNano()) + i
		t.Run(fmt.Sprint("1 hub ", seed), func(t *testing.T) { randomShare(t, rand.New(rand.NewPCG(seed, 1)), newRig(t)) })
		t.Run(fmt.Sprint("2 hubs ", seed), func(t *testing.T) {
			a, b := twoHubs(t)
			randomShare(t, rand.New(rand.NewPCG(seed, 1)), a, b)
		})
	}
}

func randomShare(t *testing.T, rnd *rand.Rand, hubs ...*rig) {
	r := hubs[0]
	members := map[int]*client{}
	acked := map[string]int{}
	sent := 0
	handle := func(c *client, ack bool) {
		for {
			pk, ok := c.next()
			if !ok {
				return
			}
			if pk.FixedHeader.Type != packets.Publish {
				continue
			}
			if ack {
				acked[string(pk.Payload)]++
				c.ack(packets.Puback, pk.PacketID)
			}
		}
	}
	keeper := r.connect(options{id: "keeper", expiry: -1})
	keeper.subscribe(sub("$share/s/g", 1))
	members[0] = keeper
	for range 150 {
		id := rnd.IntN(4)
		c := members[id]
		switch n := rnd.IntN(10); {
		case n < 5:
			sent++
			hubs[rnd.IntN(len(hubs))].publish("g", strconv.Itoa(sent), 1, false)
		case c == nil:
			c = hubs[rnd.IntN(len(hubs))].connect(options{id: strconv.Itoa(id), limits: limits{receive: uint16(1 + rnd.IntN(5))}})
			c.subscribe2("$share/s/g")
			members[id] = c
		case n < 8:
			handle(c, true)
		case id > 0:
			handle(c, rnd.IntN(2) == 0)
			c.leave()
			delete(members, id)
		}
	}
	for id, c := range members {
		if id > 0 {
			c.leave()
		}
	}
	for late := time.Now().Add(patience); len(acked) < sent && time.Now().Before(late); {
		handle(keeper, true)
	}
	keeper.leave()
	for i := range sent {
		if n := acked[strconv.Itoa(i+1)]; n != 1 {
			t.Errorf("%d of %d was acknowledged %d times", i+1, sent, n)
		}
	}
}

// subscribe2 subscribes without waiting for the SUBACK: messages may come before the test reads it.
func (c *client) subscribe2(filter string) {
	c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{sub(filter, 1)}})
}

func TestAShareGoesOnWhenItsMemberTakesMessagesAgain(t *testing.T) {
	for _, count := range []int{1, 2} {
		t.Run(fmt.Sprint(count, " members"), func(t *testing.T) {
			r := newRig(t)
			var members []*client
			for i := range count {
				c := r.connect(options{id: strconv.Itoa(i)})
				defer c.leave()
				c.subscribe(sub("$share/s/g", 0))
				c.pipe.allow(0)
				members = append(members, c)
			}
			const sent = 300
			text := strings.Repeat("x", 1<<10)
			for range sent {
				r.publish("g", text, 0, false)
			}
			r.clog(members)
			for _, c := range members {
				c.pipe.allow(-1)
			}
			got := 0
			for late := time.Now().Add(patience); got < sent; runtime.Gosched() {
				for _, c := range members {
					if _, ok := c.next(); ok {
						got++
					}
				}
				if time.Now().After(late) {
					t.Fatalf("%d messages of %d arrived", got, sent)
				}
			}
		})
	}
}

// clog waits until no member takes any more.
func (r *rig) clog(members []*client) {
	r.Helper()
	for late := time.Now().Add(patience); ; runtime.Gosched() {
		full := 0
		for _, c := range members {
			c.conn.mu.Lock()
			if len(c.conn.own) > maxOwn/2 {
				full++
			}
			c.conn.mu.Unlock()
		}
		if full == len(members) {
			return
		}
		if time.Now().After(late) {
			r.Fatal("the members are not clogged")
		}
	}
}

func TestAGrantThatShrinksEndsTheMembershipsThatItDoesNotCover(t *testing.T) {
	grant := func(filters ...string) *access.Grant {
		g, err := access.NewGrant("me", "", filters, nil, false, time.Time{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	r := serve(t, func(_ *hub.Options, o *Options) {
		o.Authenticate = func(context.Context, *Login) (*access.Grant, error) { return grant("g", "own"), nil }
	})
	subscribe := func(c *wire, filter string) byte {
		c.send(packets.Subscribe, &packets.Packet{PacketID: 1, Filters: packets.Subscriptions{sub(filter, 1)}})
		return c.expect(packets.Suback).ReasonCodes[0]
	}
	a, b := r.admitted("a", nil), r.admitted("b", nil)
	for _, c := range []*wire{a, b} {
		if code := subscribe(c, "$share/s/g"); code != 1 {
			t.Fatalf("SUBACK %#x", code)
		}
	}
	if code := subscribe(a, "own"); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	if err := r.hub.Renew(sessions.ClientUID("mqtt", "me", "a"), grant("own")); err != nil {
		t.Fatal(err)
	}
	x := subscription{share: "s", filter: group.Exact("g")}
	r.until(func() bool {
		h := r.server.shares.find(&x)
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.members) == 1
	})
	for i := range uint16(4) {
		p := &hub.Publication{Grant: access.Everything, Group: "g", Kind: hub.Bytes, Body: []byte("x")}
		if _, err := r.hub.Publish(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		b.expect(packets.Publish)
		b.send(packets.Puback, &packets.Packet{PacketID: i + 1})
	}
	if code := subscribe(a, "$share/s/g"); code != packets.ErrNotAuthorized.Code {
		t.Errorf("SUBACK %#x for a share that the grant does not cover", code)
	}
	a.ping()
}
