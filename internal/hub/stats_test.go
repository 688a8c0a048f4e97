package hub_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// statistics is the part of a message of $sys/stats that these tests look at.
type statistics struct {
	time     time.Time
	Interval float64
	Rates    map[string]float64
	Ready    bool
	Why      string
	Latency  struct {
		Publish struct{ Count, P50, P99 float64 }
	}
	Closed map[string]int
}

// history returns the messages of $sys/stats.
func history(t *testing.T, h *hub.Hub) (list []statistics) {
	t.Helper()
	q := &hub.History{Filters: group.Set{group.Exact("$sys/stats")}, From: hub.From{All: true}}
	_, err := h.Replay(t.Context(), q, hub.Answer{Message: func(f *store.Frame) error {
		var m struct {
			Time time.Time
			Msg  statistics
		}
		if err := json.Unmarshal(f.Data(), &m); err != nil {
			return err
		}
		m.Msg.time = m.Time
		list = append(list, m.Msg)
		return nil
	}, Gap: func(delivery.Gap) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func publish(t *testing.T, h *hub.Hub, name string, n int) {
	t.Helper()
	for range n {
		begun := h.PublishBegun()
		if _, err := h.Publish(t.Context(), &hub.Publication{Grant: access.Everything, Group: name, Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		h.PublishEnded(begun)
	}
}

// TestStatisticsAreKeptForAnHour lets two hours pass.
func TestStatisticsAreKeptForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := hub.New(memory.New(memory.Options{}), hub.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		publish(t, h, "foo", 30)
		time.Sleep(6 * time.Second)
		if list := history(t, h); len(list) != 1 || list[0].Rates["in"] != 6 || list[0].Interval != 5 || list[0].Latency.Publish.Count != 30 || !list[0].Ready {
			t.Errorf("after 5 s: %+v", list)
		}
		time.Sleep(2 * time.Hour)
		l, err := h.Subscribe(t.Context(), &hub.Subscription{Grant: access.Everything, Filters: group.Set{group.Exact("foo")}})
		if err != nil {
			t.Fatal(err)
		}
		l.Cancel()
		h.Drain()
		time.Sleep(10 * time.Second)
		list := history(t, h)
		if oldest := time.Since(list[0].time); len(list) < perHour-1 || oldest < time.Hour-10*time.Second {
			t.Errorf("%d messages are held, the oldest is %v old", len(list), oldest)
		}
		last := list[len(list)-1]
		if last.Ready || last.Why == "" || last.Closed["closed"] != 1 || last.Latency.Publish.Count != 0 {
			t.Errorf("%+v", last)
		}
		if !slices.IsSortedFunc(list, func(a, b statistics) int { return a.time.Compare(b.time) }) {
			t.Error("the messages are not in order")
		}
	})
}

// TestStatisticsOfAnHourTakeLittleMemory lets an hour pass on a busy hub.
func TestStatisticsOfAnHourTakeLittleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := hub.New(memory.New(memory.Options{}), hub.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		for range 3700 {
			publish(t, h, "foo", rand.IntN(100))
			time.Sleep(time.Second)
		}
		f, err := group.ParseFilter("$sys/#")
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Groups(access.Everything, &hub.Listing{Filter: f, Sort: hub.SortName}, func(g *hub.Group) error {
			const perMessage = 32 // more than store/memory needs besides the frame
			// The message of an hour ago is evicted at this moment, or a little later.
			if took := g.Bytes + perMessage*g.Messages; g.Messages < perHour-1 || g.Messages > perHour || took > 1<<20 {
				t.Errorf("%d messages of %s take %d bytes", g.Messages, g.Group, took)
			}
			return nil
		})
		if p := h.Policy(group.Exact("$sys/stats")); err != nil || p.MaxBytes == 0 || p.MaxBytes+perHour*32 > 1<<20 {
			t.Errorf("%v, the policy is %+v", err, p)
		}
	})
}

// perHour is how many messages of $sys/stats there are in an hour.
const perHour = 720
