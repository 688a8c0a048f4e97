package mqtt

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/hub"
)

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
	c.raw([]byte{0x30, 0x80, 0x80, 0x04, 0, 1, 'a'}) // the rest of 64 KiB does not arrive
	c.expectEnd(packets.ErrKeepAliveTimeout.Code)
}

// takeMemory takes all memory for packets of more than 64 KiB. The function that it returns gives it back.
func (r *rig) takeMemory() func() {
	r.Helper()
	const all = 1 << 40
	if err := r.hub.TakeBody(r.Context(), all); err != nil {
		r.Fatal(err)
	}
	return func() { r.hub.GiveBody(all) }
}

// largePacket is the start of a PUBLISH of 128 KiB.
var largePacket = []byte{packets.Publish << 4, 0x80, 0x80, 8, 0, 1, 'a', 0}

func TestAClientWhosePacketGetsNoMemoryIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.takeMemory()()
		c := r.connect(options{id: "a"})
		c.pipe.give(largePacket)
		c.left = true
		c.conn.turn() // it waits for memory, and ends the connection
		if pk := c.expect(packets.Disconnect); pk.ReasonCode != packets.ErrQuotaExceeded.Code || !strings.Contains(pk.Properties.ReasonString, "--max-request-memory") {
			t.Errorf("DISCONNECT %#x %s", pk.ReasonCode, pk.Properties.ReasonString)
		}
	})
}

func TestTheSessionOfAClientThatWaitsForMemoryIsTakenOverInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.takeMemory()()
		c := r.connect(options{id: "a"})
		if err := r.server.hold(c.conn); err != nil {
			t.Fatal(err)
		}
		c.conn.admitted.Store(true)
		c.pipe.give(largePacket)
		c.left = true
		go c.conn.turn()
		synctest.Wait()
		begun := time.Now()
		newer, _ := r.contender(c.conn.key)
		if err := r.server.hold(newer); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > leaveTimeout {
			t.Errorf("it took %v", took)
		}
		if pk := c.expect(packets.Disconnect); pk.ReasonCode != packets.ErrSessionTakenOver.Code {
			t.Errorf("DISCONNECT %#x", pk.ReasonCode)
		}
	})
}

func TestAClientThatWaitsForMemoryTakesLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, arrived = 500, 64 << 10
		r := newRig(t)
		give := r.takeMemory()
		var list []*client
		for i := range clients {
			list = append(list, r.connect(options{id: strconv.Itoa(i)}))
		}
		var reading sync.WaitGroup
		begin := func(c *client) {
			reading.Go(func() {
				_ = c.conn.read()
				c.leave()
			})
		}
		before := heap()
		for _, c := range list {
			c.pipe.give(largePacket)
			begin(c)
		}
		synctest.Wait()
		if n := heap() - before; n > clients*16<<10 { // of 128 KiB each; other things use the heap, too
			t.Errorf("%d clients that wait take %d bytes", clients, n)
		}
		eager := r.connect(options{id: "eager"})
		eager.pipe.give(append(bytes.Clone(largePacket), make([]byte, arrived)...))
		begin(eager)
		synctest.Wait()
		eager.pipe.mu.Lock()
		n := len(largePacket) + arrived - len(eager.pipe.sent)
		eager.pipe.mu.Unlock()
		if n > hub.FreeBytes {
			t.Errorf("%d bytes were read without memory for them", n)
		}
		give()
		reading.Wait()
	})
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
