package mqtt

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAPacketThatHasBegunMustArriveInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		c := r.connect(options{id: "a", version: 4})
		defer c.leave()
		patience := r.hub.Options().BodyTimeout
		for range 3 { // each PINGREQ has its own deadline
			for _, half := range [][]byte{{0xc0}, {0}} {
				time.Sleep(patience * 2 / 3)
				c.pipe.give(half)
				if err := c.conn.read(); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(2 * patience) // there is none while nothing arrives
		if c.pipe.closed() {
			t.Fatal("the connection has ended")
		}
		c.pipe.give([]byte{0xc0})
		if err := c.conn.read(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(patience + 1)
		synctest.Wait()
		if !c.pipe.closed() {
			t.Error("the connection has not ended")
		}
	})
}
