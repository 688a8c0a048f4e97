package mqtt

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// This test runs sessions at random: messages are published, a client subscribes, acknowledges some of what it gets,
// loses its connection within a packet, and returns. It checks the promises of a session with the client's own state.

// device is a client with its side of a session, which outlives connections.
type device struct {
	r       *rand.Rand
	rig     *rig
	o       options
	on      *client // nil: it is not connected
	crashed bool    // the server has lost the newest version of the position since the last message

	exact    map[uint16]bool // packet ids of QoS 2 that were received and not released
	pending  []func()        // acknowledgements that it has not sent
	got      map[string]int  // deliveries of a text
	last     int             // the highest number that arrived for the first time
	gaps     [][2]store.Seq  // messages between two positions may be missing
	problems []string
}

// published is a message.
type published struct {
	no   int
	seq  store.Seq
	text string
	qos  byte
}

func TestRandomSessions(t *testing.T) {
	rounds := 30
	if scale, err := strconv.Atoi(os.Getenv("WATCHBOX_TEST_SCALE")); err == nil {
		rounds *= scale
	}
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("WATCHBOX_TEST_SEED"), 10, 64); err == nil {
		seed, rounds = s, 1
	}
	for i := range uint64(rounds) {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) { randomSession(t, seed+i) })
	}
}

func randomSession(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t)
	evicts, crashes := rnd.IntN(3) == 0, rnd.IntN(3) == 0
	if evicts {
		f, _ := group.ParseFilter("#")
		if err := r.hub.SetPolicy(f, store.Policy{MaxMessages: 20}); err != nil {
			t.Fatal(err)
		}
	}
	d := &device{r: rnd, rig: r, exact: map[uint16]bool{}, got: map[string]int{}}
	d.o = options{id: "device", version: 5, expiry: -1, limits: limits{receive: uint16(1 + rnd.IntN(8)), aliases: uint16(rnd.IntN(4))}}
	d.connect()
	d.on.pipe.allow(-1)
	granted := byte(rnd.IntN(3))
	d.on.do(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: []packets.Subscription{sub("g/#", granted), sub("g/+", granted)}})
	var sent []published
	var saved *cursor.Position
	for range 200 {
		switch n := rnd.IntN(12); {
		case n < 5:
			no := len(sent) + 1
			p := published{no: no, text: strconv.Itoa(no), qos: byte(rnd.IntN(3))}
			if rnd.IntN(10) == 0 {
				p.text += strings.Repeat(" ", rnd.IntN(3000))
			}
			p.seq = r.publish("g/"+strconv.Itoa(rnd.IntN(3)), p.text, p.qos, false)
			sent = append(sent, p)
		case d.on == nil:
			d.connect()
		case n < 8:
			d.receive()
		case n < 10:
			d.acknowledge(1 + rnd.IntN(4))
		case n == 10:
			d.on.pipe.allow(rnd.IntN(400))
		case rnd.IntN(3) == 0:
			d.disconnect()
			if crashes && saved != nil && rnd.IntN(2) == 0 {
				if err := r.hub.Cursors().Save(saved); err != nil {
					t.Fatal(err)
				}
				d.crashed = true
			}
			saved = nil
		default:
			if p, ok := r.hub.Cursors().Get(d.on.conn.key); ok {
				saved = &p
			}
		}
	}
	d.finish(sent, granted)
	for _, p := range d.problems {
		t.Error(p)
	}
	if t.Failed() {
		t.Logf("seed %d, evicts %v, crashes %v, granted %d, %d messages, gaps %v", seed, evicts, crashes, granted, len(sent), d.gaps)
	}
}

func (d *device) problem(format string, args ...any) {
	d.problems = append(d.problems, fmt.Sprintf(format, args...))
}

func (d *device) connect() {
	d.on = d.rig.connect(d.o)
	if !d.on.present {
		clear(d.exact)
	}
	if d.r.IntN(2) == 0 {
		d.on.pipe.allow(d.r.IntN(1000))
	}
	if d.crashed {
		d.last = 0
	}
}

func (d *device) disconnect() {
	if d.r.IntN(2) == 0 {
		d.receive()
	}
	d.on.leave()
	d.on, d.pending = nil, nil
}

// receive handles everything that has arrived.
func (d *device) receive() {
	for {
		pk, ok := d.on.next()
		if !ok {
			return
		}
		switch pk.FixedHeader.Type {
		case packets.Publish:
			d.message(&pk)
		case packets.Pubrel:
			delete(d.exact, pk.PacketID)
			d.later(packets.Pubcomp, pk.PacketID)
		}
	}
}

// later acknowledges a packet some time.
func (d *device) later(kind byte, id uint16) {
	on := d.on
	d.pending = append(d.pending, func() { on.ack(kind, id) })
}

func (d *device) acknowledge(n int) {
	d.on.pipe.allow(-1) // a client that does not read is not read from
	for ; n > 0 && len(d.pending) > 0; n-- {
		f := d.pending[0]
		d.pending = d.pending[1:]
		f()
	}
}

func (d *device) message(pk *packets.Packet) {
	for _, u := range pk.Properties.User {
		after, oldest, ok := strings.Cut(u.Val, "..")
		if u.Key != "gap" || !ok {
			d.problem("the user property %s: %s", u.Key, u.Val)
			continue
		}
		a, _ := store.ParseID(after)
		if o, err := store.ParseID(oldest); err != nil || o.Seq <= a.Seq {
			d.problem("the gap %s", u.Val)
		}
		d.gaps = append(d.gaps, [2]store.Seq{a.Seq, d.rig.hub.End().Seq})
	}
	text := string(pk.Payload)
	switch pk.FixedHeader.Qos {
	case 1:
		d.later(packets.Puback, pk.PacketID)
	case 2:
		d.later(packets.Pubrec, pk.PacketID)
		if d.exact[pk.PacketID] {
			if !pk.FixedHeader.Dup {
				d.problem("%.9s came with the packet id %d, which another message has", text, pk.PacketID)
			}
			return
		}
		d.exact[pk.PacketID] = true
	}
	d.got[text]++
	no, _ := strconv.Atoi(strings.TrimSpace(text))
	switch {
	case d.got[text] == 1 && no < d.last && !d.crashed:
		d.problem("%d came after %d", no, d.last)
	case d.got[text] > 1 && pk.FixedHeader.Qos != 1 && !d.crashed:
		d.problem("%d came %d times with QoS %d", no, d.got[text], pk.FixedHeader.Qos)
	case d.got[text] > 1 && !pk.FixedHeader.Dup && !d.crashed:
		d.problem("%d came again without DUP", no)
	}
	d.last = max(d.last, no)
}

// finish receives the rest, and checks that nothing is missing.
func (d *device) finish(sent []published, granted byte) {
	if d.on == nil {
		d.connect()
	}
	d.on.pipe.allow(-1)
	d.rig.publish("g/end", "1000000", 1, false)
	for late := time.After(patience); d.got["1000000"] == 0; {
		d.on.pipe.mu.Lock()
		news := d.on.pipe.news
		d.on.pipe.mu.Unlock()
		d.receive()
		d.acknowledge(len(d.pending))
		d.receive()
		if d.got["1000000"] > 0 || len(d.pending) > 0 {
			continue
		}
		select {
		case <-news:
		case <-late:
			s := d.on.conn.session
			s.mu.Lock()
			defer s.mu.Unlock()
			d.problem("the last message has not arrived: window %+v", s.window.list)
			return
		}
	}
	d.acknowledge(len(d.pending))
	for _, p := range sent {
		if min(p.qos, granted) == 0 || d.got[p.text] > 0 {
			continue
		}
		if !slices.ContainsFunc(d.gaps, func(g [2]store.Seq) bool { return g[0] < p.seq && p.seq <= g[1] }) {
			d.problem("%d (seq %d, QoS %d) is missing", p.no, p.seq, p.qos)
		}
	}
	for text := range maps.Keys(d.got) {
		if no, err := strconv.Atoi(strings.TrimSpace(text)); err != nil || no > len(sent) && no != 1000000 {
			d.problem("%q was not published", text)
		}
	}
	d.on.leave()
}
