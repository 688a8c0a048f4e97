package mqtt

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/group"
	sessions "github.com/watchbox-go/watchbox/internal/session"
)

// shareIsKept reports whether the hub knows a position of $share/s/g.
func (r *rig) shareIsKept() bool {
	_, ok := r.hub.Cursors().Get("share/s/g")
	return ok
}

func TestACleanStartDoesNotReadTheSessionsOfOthers(t *testing.T) {
	r := newRig(t)
	var filters []packets.Subscription
	for i := range 40 {
		filters = append(filters, sub(fmt.Sprintf("$share/s/g/%d", i), 1))
	}
	for i := range 500 {
		c := r.connect(options{id: strconv.Itoa(i), expiry: -1})
		c.subscribe(filters...)
		c.leave()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r.connect(options{id: "0", clean: true}).leave()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 { // all sessions take 2 MB, once
		t.Errorf("it takes %d bytes", n)
	}
}

func TestAShareIsKeptUntilTheLastSessionOfAMemberExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for id, expiry := range map[string]time.Duration{"a": -1, "b": time.Minute} {
			c := r.connect(options{id: id, expiry: expiry})
			c.subscribe(sub("$share/s/g", 1))
			c.leave()
		}
		if err := r.hub.EndSession(sessions.ClientUID("mqtt", "", "a"), sessions.Kicked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - time.Second)
		if !r.shareIsKept() {
			t.Error("the share is not kept for a session")
		}
		time.Sleep(2 * time.Second)
		if r.shareIsKept() {
			t.Error("the share is kept without a session")
		}
	})
}

func TestAShareIsNotKeptForAMemberThatHasUnsubscribed(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "a", expiry: -1})
	c.subscribe(sub("$share/s/g", 1))
	c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1, Filters: packets.Subscriptions{sub("$share/s/g", 0)}})
	c.expect(packets.Unsuback)
	if r.shareIsKept() {
		t.Error("it is kept")
	}
	c.leave()
}

// A member is away when its session is ended at another hub than the one that has the position.
func TestAShareIsNotKeptForASessionThatAnotherHubHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := twoHubs(t)
		c, d := a.connect(options{id: "c", expiry: -1}), a.connect(options{id: "d"})
		c.subscribe(sub("$share/s/g", 1))
		d.subscribe(sub("$share/s/g", 1))
		c.leave()
		time.Sleep(2 * time.Second) // the other hub knows
		if err := b.hub.EndSession(sessions.ClientUID("mqtt", "", "c"), sessions.Kicked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		d.leave()
		time.Sleep(time.Minute)
		for _, r := range []*rig{a, b} {
			if r.shareIsKept() {
				t.Error("it is kept")
			}
		}
	})
}

func TestAKilledHubLeavesNoShareThatIsNotNeeded(t *testing.T) {
	for name, expiry := range map[string]time.Duration{"not needed": 0, "needed": -1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, kill := crashable(t)
				c := a.connect(options{id: "c", expiry: expiry})
				c.subscribe(sub("$share/s/g", 1))
				time.Sleep(2 * time.Second)
				kill()
				time.Sleep(time.Minute)
				if b.shareIsKept() != (expiry != 0) {
					t.Errorf("the share is kept: %v", expiry == 0)
				}
			})
		})
	}
}

// left returns how many shares and positions the hub has.
func (r *rig) left() (shares, positions int) {
	r.server.shares.mu.Lock()
	defer r.server.shares.mu.Unlock()
	positions, _ = r.hub.Cursors().Usage()
	return len(r.server.shares.byKey), positions
}

// TestAThousandSharesLeaveNothing has members of all kinds at two hubs that come and go.
func TestAThousandSharesLeaveNothing(t *testing.T) {
	ends := map[string]func(c *client, filter string){
		"connection": func(c *client, _ string) { c.leave() },
		"unsubscribed": func(c *client, filter string) {
			c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1, Filters: packets.Subscriptions{sub(filter, 0)}})
			c.leave()
		},
		"kicked": func(c *client, _ string) {
			c.leave()
			if err := c.hub.EndSession(c.conn.uid(), sessions.Kicked); err != nil {
				c.Fatal(err)
			}
		},
		"clean": func(c *client, _ string) {
			c.leave()
			c.connect(options{id: c.conn.clientID, clean: true}).leave()
		},
		"expired": func(c *client, _ string) { c.leave() },
	}
	expiry := map[string]time.Duration{"unsubscribed": time.Second, "kicked": -1, "clean": -1, "expired": time.Second}
	synctest.Test(t, func(t *testing.T) {
		a, b := twoHubs(t)
		for round := range 3 {
			for kind, end := range ends {
				for i := range 70 {
					filter := fmt.Sprintf("$share/%s/%d/%d", kind, round, i)
					first, second := a, b
					if i%2 > 0 {
						first, second = b, a
					}
					c := first.connect(options{id: fmt.Sprint(filter, "c"), expiry: expiry[kind]})
					c.subscribe(sub(filter, 1))
					d := second.connect(options{id: fmt.Sprint(filter, "d")})
					d.subscribe(sub(filter, 1))
					if i%3 > 0 {
						end(c, filter)
						d.leave()
					} else {
						d.leave()
						end(c, filter)
					}
				}
			}
			time.Sleep(time.Minute)
			for _, r := range []*rig{a, b} {
				r.clients = nil
				if shares, positions := r.left(); shares != 0 || positions != 0 {
					t.Fatalf("%d shares and %d positions are left", shares, positions)
				}
			}
		}
	})
}

// heap returns how many bytes of memory are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // the first one leaves what is in a sync.Pool
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestSharesLeaveNoMemory(t *testing.T) {
	r := newRig(t)
	c, d := r.connect(options{id: "c", expiry: -1}), r.connect(options{id: "d"})
	before := int64(0)
	for round := range 3 {
		for i := range 1000 {
			filter := fmt.Sprintf("$share/s/%d/%d", round, i)
			for _, m := range []*client{c, d} {
				m.subscribe(sub(filter, 1))
			}
			for _, m := range []*client{c, d} {
				m.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1, Filters: packets.Subscriptions{sub(filter, 0)}})
				m.expect(packets.Unsuback)
			}
		}
		for _, m := range []*client{c, d} {
			m.pipe.mu.Lock()
			m.pipe.got, m.read = nil, 0
			m.pipe.mu.Unlock()
		}
		if round == 0 {
			before = heap()
		}
	}
	if n := heap() - before; n > 128<<10 {
		t.Errorf("2,000 shares that are gone take %d bytes", n)
	}
	c.leave()
	d.leave()
}

// A hub that is alone has nobody to give messages back to.
func TestAShareThatNeverGotItsPositionEnds(t *testing.T) {
	r := newRig(t)
	c := r.connect(options{id: "c"})
	r.hub.Cursors().Close()
	s, x := c.conn.session, subscription{topic: "$share/s/g", filter: group.Exact("g"), options: 1, share: "s"}
	s.mu.Lock()
	s.subs = append(s.subs, x)
	s.mu.Unlock()
	s.enterAgain(&x)
	c.leave()
	if shares, _ := r.left(); shares != 0 {
		t.Errorf("%d shares are left", shares)
	}
}
