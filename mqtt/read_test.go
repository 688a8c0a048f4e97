package mqtt

import (
	"strings"
	"testing"
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
