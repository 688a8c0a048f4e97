//go:build !windows

package cluster

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/test/cluster/hubs"
)

// device is a connection of a client of MQTT 5, packet by packet.
type device struct {
	*testing.T
	conn    net.Conn
	present bool // the hub had the session
	id      uint16
	others  []*packets.ControlPacket // that came while expect waited for packets of another type
}

// hello is what a device says when it connects.
type hello struct {
	id     string
	keep   bool   // the session outlives the connection, for an hour
	clean  bool   // it begins anew
	will   string // its text; "": none. It goes to the topic wills/ and the client id, if the client is away for an hour
	soon   bool   // the will is sent 2 seconds after the connection is lost
	window uint16 // Receive Maximum; 0: the most
}

// deviceUID is the uid of the session of a client id.
func deviceUID(id string) string { return sessions.ClientUID("mqtt", "", id) }

// attach connects a device to a hub. It tries again while the hub is busy, as it is for a while if it asks another one that has just died.
func attach(t *testing.T, h *hubs.Hub, in hello) *device {
	t.Helper()
	for late := time.Now().Add(patience); ; {
		d, code := tryAttach(t, h, in)
		switch {
		case code == 0:
			return d
		case code != packets.ConnackServerBusy || time.Now().After(late):
			t.Fatalf("%s at %s: CONNACK 0x%x", in.id, h.Name, code)
		}
		d.cut()
	}
}

// tryAttach is attach for a connection that the hub may refuse. It returns the reason code.
func tryAttach(t *testing.T, h *hubs.Hub, in hello) (*device, byte) {
	t.Helper()
	conn, err := net.Dial("tcp", h.MQTT)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	d := &device{T: t, conn: conn}
	c := &packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: in.id, KeepAlive: 60, CleanStart: in.clean, Properties: &packets.Properties{}}
	hour, delay := uint32(3600), uint32(3600)
	if in.keep {
		c.Properties.SessionExpiryInterval = &hour
	}
	if in.window > 0 {
		c.Properties.ReceiveMaximum = &in.window
	}
	if in.soon {
		delay = 2
	}
	if in.will != "" {
		c.WillFlag, c.WillTopic, c.WillMessage, c.WillQOS = true, "wills/"+in.id, []byte(in.will), 1
		c.WillProperties = &packets.Properties{WillDelayInterval: &delay}
	}
	d.send(packets.CONNECT, c)
	answer := d.next()
	ack, ok := answer.Content.(*packets.Connack)
	if !ok {
		t.Fatalf("%s at %s: CONNECT was answered with %v", in.id, h.Name, answer)
	}
	d.present = ack.SessionPresent
	return d, ack.ReasonCode
}

func (d *device) send(kind byte, content packets.Packet) {
	d.Helper()
	p := packets.NewControlPacket(kind)
	p.Content = content
	if kind == packets.PUBREL || kind == packets.SUBSCRIBE {
		p.Flags = 2
	}
	if _, err := content.WriteTo(d.conn); err != nil {
		d.Fatal(err)
	}
}

// next returns the next packet.
func (d *device) next() *packets.ControlPacket {
	d.Helper()
	_ = d.conn.SetReadDeadline(time.Now().Add(patience)) // it is open, or the read fails
	p, err := packets.ReadPacket(d.conn)
	if err != nil {
		d.Fatal(err)
	}
	return p
}

// expect returns the next packet of a type. Those of other types are left for later.
func expect[P packets.Packet](d *device) (c P) {
	d.Helper()
	for i, p := range d.others {
		if c, ok := p.Content.(P); ok {
			d.others = slices.Delete(d.others, i, i+1)
			return c
		}
	}
	for {
		p := d.next()
		if c, ok := p.Content.(P); ok {
			return c
		}
		if p.Type == packets.DISCONNECT {
			d.Fatalf("got %v, want a %T", p, c)
		}
		d.others = append(d.others, p)
	}
}

func (d *device) subscribe(topic string, qos byte) {
	d.Helper()
	d.id++
	d.send(packets.SUBSCRIBE, &packets.Subscribe{PacketID: d.id, Properties: &packets.Properties{}, Subscriptions: []packets.SubOptions{{Topic: topic, QoS: qos}}})
	if ack := expect[*packets.Suback](d); !slices.Equal(ack.Reasons, []byte{qos}) {
		d.Fatalf("the subscription to %s is answered with %v", topic, ack)
	}
}

// publish publishes a message and completes its exchange.
func (d *device) publish(topic, text string, qos byte) {
	d.Helper()
	d.id++
	d.offer(topic, text, qos, false)
	switch qos {
	case 1:
		if ack := expect[*packets.Puback](d); ack.ReasonCode >= 0x80 {
			d.Fatalf("%s is answered with %v", text, ack)
		}
	case 2:
		if ack := expect[*packets.Pubrec](d); ack.ReasonCode >= 0x80 {
			d.Fatalf("%s is answered with %v", text, ack)
		}
		d.complete()
	}
}

// offer sends a message with the current packet id.
func (d *device) offer(topic, text string, qos byte, again bool) {
	d.Helper()
	d.send(packets.PUBLISH, &packets.Publish{Topic: topic, Payload: []byte(text), QoS: qos, PacketID: d.id, Duplicate: again, Properties: &packets.Properties{}})
}

// complete ends the exchange of a message of QoS 2.
func (d *device) complete() {
	d.Helper()
	d.send(packets.PUBREL, &packets.Pubrel{PacketID: d.id, Properties: &packets.Properties{}})
	expect[*packets.Pubcomp](d)
}

// message returns the next message, which must have this text.
func (d *device) message(text string) *packets.Publish {
	d.Helper()
	m := expect[*packets.Publish](d)
	if string(m.Payload) != text {
		d.Fatalf("got %q (packet %d, DUP %v), want %q", m.Payload, m.PacketID, m.Duplicate, text)
	}
	return m
}

// acknowledge acknowledges a message, up to its end.
func (d *device) acknowledge(m *packets.Publish) {
	d.Helper()
	switch m.QoS {
	case 1:
		d.send(packets.PUBACK, &packets.Puback{PacketID: m.PacketID, Properties: &packets.Properties{}})
	case 2:
		d.send(packets.PUBREC, &packets.Pubrec{PacketID: m.PacketID, Properties: &packets.Properties{}})
		expect[*packets.Pubrel](d)
		d.send(packets.PUBCOMP, &packets.Pubcomp{PacketID: m.PacketID, Properties: &packets.Properties{}})
	}
}

// take gets messages with these texts and acknowledges each.
func (d *device) take(texts ...string) {
	d.Helper()
	for _, text := range texts {
		d.acknowledge(d.message(text))
	}
}

// idle makes sure that the hub has handled all that was sent, and sends nothing of its own now.
func (d *device) idle() {
	d.Helper()
	d.send(packets.PINGREQ, &packets.Pingreq{})
	expect[*packets.Pingresp](d)
}

// cut breaks the connection.
func (d *device) cut() { _ = d.conn.Close() }

// leave disconnects. The hub must not have done so before: then the client would not have said goodbye.
func (d *device) leave() {
	d.Helper()
	d.send(packets.DISCONNECT, &packets.Disconnect{Properties: &packets.Properties{}})
	if code := d.ended(); code != 0 {
		d.Errorf("the hub disconnects a client that leaves: 0x%x", code)
	}
}

// disconnected returns the reason code with which the hub disconnects the device. Messages may come before.
func (d *device) disconnected() byte {
	d.Helper()
	for {
		if end, ok := d.next().Content.(*packets.Disconnect); ok {
			d.ended()
			return end.ReasonCode
		}
	}
}

// ended returns when the hub has closed the connection. It returns the reason code of the hub's DISCONNECT; 0: there was none.
func (d *device) ended() (code byte) {
	d.Helper()
	_ = d.conn.SetReadDeadline(time.Now().Add(patience)) // as in next
	for {
		p, err := packets.ReadPacket(d.conn)
		if e, ok := err.(net.Error); ok && e.Timeout() {
			d.Fatal("the connection stays open")
		}
		if err != nil {
			d.cut()
			return code
		}
		if end, ok := p.Content.(*packets.Disconnect); ok {
			code = end.ReasonCode
		}
	}
}
