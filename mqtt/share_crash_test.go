package mqtt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/sharedtest"
	"github.com/watchbox-go/watchbox/store"
)

// crashable returns two servers whose hubs share a log, and kills the first one.
func crashable(t *testing.T) (a, b *rig, kill func()) {
	shared := sharedtest.New()
	a, b = &rig{T: t}, &rig{T: t}
	log := shared.Open()
	a.begin(log)
	b.begin(shared.Open())
	t.Cleanup(b.end)
	t.Cleanup(a.end)
	return a, b, log.Kill
}

func TestMessagesOfQoS0OfAShareAreNotRepeatedAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, kill := crashable(t)
		c := a.connect(options{id: "c", expiry: -1})
		c.subscribe(sub("$share/s/g", 0))
		for i := range 20 {
			a.say(strconv.Itoa(i))
		}
		for i := range 20 {
			c.message(strconv.Itoa(i))
		}
		time.Sleep(2 * time.Second) // the position is written
		kill()
		time.Sleep(time.Minute)
		d := b.connect(options{id: "d"})
		d.subscribe(sub("$share/s/g", 1))
		b.say("new")
		d.message("new")
	})
}

// fullLog is the log of a hub that is alone. It may be full.
type fullLog struct {
	store.Store
	store.Noter
	full atomic.Bool
}

func (l *fullLog) AppendNoted(ctx context.Context, entries []store.Entry, notes ...store.Note) (store.ID, error) {
	if l.full.Load() {
		return store.ID{}, store.ErrFull
	}
	return l.Noter.AppendNoted(ctx, entries, notes...)
}

func TestAMemberThatReturnsWhileTheLogIsFullGetsMessagesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := sharedtest.New().Open()
		log := &fullLog{Store: shared, Noter: shared}
		r := &rig{T: t}
		r.begin(log)
		defer r.end()
		o := options{id: "c", expiry: -1}
		c := r.connect(o)
		c.subscribe(sub("$share/s/g", 1))
		c.leave()
		time.Sleep(2 * time.Second)
		log.full.Store(true)
		c = r.connect(o)
		time.Sleep(2 * time.Second)
		log.full.Store(false)
		r.say("1")
		c.message("1")
	})
}

// TestRandomSharesOfHubsThatAreKilled checks that each message reaches a member that acknowledges it, while members come and go
// and one of three hubs seems dead. Its calls still reach the others.
func TestRandomSharesOfHubsThatAreKilled(t *testing.T) {
	for i := range uint64(20) {
		seed := uint64(time.Now().UnixNano()) + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomKill(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func randomKill(t *testing.T, rnd *rand.Rand) {
	shared := sharedtest.New()
	var hubs []*rig
	var logs []*sharedtest.Log
	for range 3 {
		r, log := &rig{T: t}, shared.Open()
		r.begin(log)
		defer r.end()
		hubs, logs = append(hubs, r), append(logs, log)
	}
	victim := rnd.IntN(3)
	alive := slices.Delete(slices.Clone(hubs), victim, victim+1)
	acked := map[string]bool{}
	handle := func(c *client, ack bool) {
		for pk, ok := c.next(); ok; pk, ok = c.next() {
			if ack && pk.FixedHeader.Type == packets.Publish {
				acked[string(pk.Payload)] = true
				c.ack(packets.Puback, pk.PacketID)
			}
		}
	}
	keeper := alive[0].connect(options{id: "keeper", expiry: -1})
	keeper.subscribe(sub("$share/s/g", 1))
	members := map[int]*client{}
	sent := 0
	for step := range 120 {
		id := 1 + rnd.IntN(4)
		c := members[id]
		switch n := rnd.IntN(10); {
		case step == 60:
			time.Sleep(2 * time.Second) // what was acknowledged is written
			logs[victim].Kill()
			hubs = alive
			for id, c := range members {
				if c.hub != alive[0].hub && c.hub != alive[1].hub {
					delete(members, id)
				}
			}
		case n < 5:
			sent++
			alive[rnd.IntN(2)].say(strconv.Itoa(sent))
		case c == nil:
			o := options{id: strconv.Itoa(id), limits: limits{receive: uint16(1 + rnd.IntN(5))}}
			c = hubs[rnd.IntN(len(hubs))].connect(o)
			c.subscribe2("$share/s/g")
			members[id] = c
		case n < 7:
			handle(c, true)
		case n < 8:
			handle(keeper, true)
		default:
			handle(c, rnd.IntN(2) == 0)
			c.leave()
			delete(members, id)
		}
		time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond)
	}
	for _, c := range members {
		c.leave()
	}
	for late := time.Now().Add(patience); len(acked) < sent && time.Now().Before(late); time.Sleep(time.Second) {
		handle(keeper, true)
	}
	keeper.leave()
	for i := range sent {
		if !acked[strconv.Itoa(i+1)] {
			t.Errorf("%d of %d was lost", i+1, sent)
		}
	}
}
