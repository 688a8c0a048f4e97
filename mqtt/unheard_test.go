package mqtt

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/hub"
)

func TestCONNECTsTakeNoMemoryFromClientsThatAreAdmitted(t *testing.T) {
	r := serve(t, func(o *hub.Options, mo *Options) {
		o.MaxRequests, mo.connectTimeout = 1<<20, time.Hour
	})
	c := r.admitted("a", nil)
	for range 20 { // 8 of them would take all memory for small requests
		half := r.dial()
		half.raw([]byte{0x10, 0xf0, 0x7d, 0, 4, 'M', 'Q', 'T', 'T'})
	}
	for id := range uint16(20) { // some of them are handled by now
		c.publish("a", strings.Repeat("x", 40_000), 1, id+1, nil)
		c.expectAck(packets.Puback, id+1, 0)
	}
}

func TestCONNECTsThatHaveArrivedInPartShareABoundedMemory(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.connectTimeout = time.Hour })
	accepted := r.admitted("accepted", nil)
	small := r.dial()
	small.raw([]byte{0x10, 13, 0, 4, 'M', 'Q'})
	const size, many = 14_000, 600
	large := func(id string) []byte {
		return accepted.encoded(packets.Connect, &packets.Packet{Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: true, PasswordFlag: true, Password: []byte(strings.Repeat("x", size)),
		}})
	}
	ended := make(chan bool, many)
	for i := range many {
		half := r.dial()
		half.raw(large(fmt.Sprint(i))[:size])
		go func() {
			answer, err := io.ReadAll(half)
			ended <- err == nil && len(answer) > 3 && answer[0] == packets.Connack<<4 && answer[3] == packets.ErrServerBusy.Code
		}()
	}
	for range many - maxUnheard/size {
		if !<-ended {
			t.Fatal("a connection was not refused")
		}
	}
	accepted.publish("a", "x", 1, 1, nil)
	accepted.expectAck(packets.Puback, 1, 0)
	r.admitted("at once", func(pk *packets.Packet) { pk.Connect.PasswordFlag, pk.Connect.Password = true, make([]byte, size) })
	small.raw([]byte{'T', 'T', 5, 2, 0, 0, 0, 0, 0})
	if ack := small.expect(packets.Connack); ack.ReasonCode != 0 {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
}

func TestACONNECTThatIsTooLarge(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.connectTimeout = time.Hour })
	begin := []byte{packets.Connect << 4, 0xff, 0xff, 1, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0}
	for at := range begin {
		c := r.dial()
		c.raw(begin[:at])
		c.raw(begin[at:])
		if ack := c.expect(packets.Connack); ack.ReasonCode != packets.ErrPacketTooLarge.Code {
			t.Errorf("CONNACK %#x", ack.ReasonCode)
		}
		c.expectEnd(0)
	}
	for _, text := range []string{"\x00\x04MQTT\x04\x02\x00\x00", "\x00\x06MQIsdp\x03", "\x00\x04HTTP\x05\x02\x00\x00", "\xff\xff1234567"} {
		c := r.dial()
		c.raw(append(begin[:4:4], text...)) // MQTT 3.1.1 has no code for it
		c.expectEnd(0)
	}
}

func TestALargeCONNECTMayArriveInParts(t *testing.T) {
	r := serve(t, func(_ *hub.Options, o *Options) { o.connectTimeout = time.Hour })
	for range 2 * maxUnheard / maxConnect { // all memory is given back each time
		c := r.dial()
		all := c.encoded(packets.Connect, &packets.Packet{Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: "a", Clean: true, PasswordFlag: true, Password: make([]byte, 16_000),
		}})
		before := r.server.unheard.Load()
		c.raw(all[:15_000])
		r.until(func() bool { return r.server.unheard.Load() > before })
		c.raw(all[15_000:])
		if ack := c.expect(packets.Connack); ack.ReasonCode != 0 {
			t.Fatalf("CONNACK %#x", ack.ReasonCode)
		}
		c.send(packets.Disconnect, &packets.Packet{})
		c.expectEnd(0)
	}
}
