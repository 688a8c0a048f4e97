package mqtt

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/hub"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// away returns the sessions that are away, page by page.
func (r *rig) away(limit int) (list []hub.Away) {
	r.Helper()
	for after := ""; ; {
		next, err := r.hub.AwaySessions(after, limit, func(a *hub.Away) error { list = append(list, *a); return nil })
		if err != nil {
			r.Fatal(err)
		}
		if next == "" {
			return list
		}
		after = next
	}
}

func TestSessionsThatAreAwayAreListedAndRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ids := []string{"a", "b", "c"}
		var seq store.Seq
		for _, id := range ids {
			c := r.connect(options{id: id, expiry: time.Hour})
			c.subscribe(sub("g/#", 1), sub("$share/workers/g/#", 1))
			seq = r.publish("g/"+id, "for "+id, 1, false)
			c.leave()
		}
		left := time.Now()
		if list := r.away(0); len(list) > 0 {
			t.Errorf("lost sessions are away: %+v", list)
		}
		time.Sleep(time.Minute)
		for limit := range 4 {
			list := r.away(limit)
			if len(list) != len(ids) {
				t.Fatalf("%d sessions, limit %d: %+v", len(list), limit, list)
			}
		}
		uid := sessions.ClientUID("mqtt", "", "c")
		a, err := r.hub.AwaySession(uid)
		if err != nil {
			t.Fatal(err)
		}
		if a.UID != uid || a.ClientID != "c" || !a.Since.Equal(left) || !a.Expires.Equal(left.Add(time.Hour)) || strings.Join(a.Filters, " ") != "g/#" || a.Position.Seq >= seq || a.Lag.Messages == 0 {
			t.Errorf("%+v", a)
		}
		for _, id := range ids {
			if err := r.hub.EndSession(sessions.ClientUID("mqtt", "", id), sessions.Kicked); err != nil {
				t.Error(err)
			}
		}
		if list := r.away(0); len(list) > 0 {
			t.Errorf("they are still away: %+v", list)
		}
		time.Sleep(time.Minute)
		if n, _ := r.hub.Cursors().Usage(); n != 0 {
			t.Errorf("%d positions are left", n)
		}
		if err := r.hub.EndSession(uid, sessions.Kicked); !errors.Is(err, sessions.ErrUnknown) {
			t.Error(err)
		}
		c := r.connect(options{id: "c", expiry: time.Hour})
		defer c.leave()
		if c.present {
			t.Error("the session was kept")
		}
	})
}

func TestEndingALostSessionRemovesItsPosition(t *testing.T) {
	r := newRig(t)
	o := options{id: "a", expiry: -1}
	c := r.connect(o)
	c.subscribe(sub("g", 1))
	c.leave()
	if err := r.hub.EndSession(c.conn.uid(), sessions.Kicked); err != nil {
		t.Fatal(err)
	}
	r.publish("g", "not for the new session", 1, false)
	c = r.connect(o)
	defer c.leave()
	if c.present {
		t.Error("the session was kept")
	}
	c.subscribe(sub("g", 1))
	r.publish("g", "new", 1, false)
	c.message("new")
	c.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: 1})
}
