//go:build !windows

package mqtt_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"

	"github.com/eclipse/paho.golang/packets"
)

// A device is what MQTT 5 says of a client's session, packet by packet, and nothing else, so that a test can break
// the connection between any two packets. It outlives its connections.

// open connects a device with a session that stays, and returns whether the broker had it. window is the client's Receive
// Maximum.
func open(c net.Conn, id string, window uint16) (present bool, err error) {
	expiry := uint32(3600)
	p := packets.NewControlPacket(packets.CONNECT)
	p.Content = &packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: id, KeepAlive: 60,
		Properties: &packets.Properties{SessionExpiryInterval: &expiry, ReceiveMaximum: &window}}
	if _, err := p.WriteTo(c); err != nil {
		return false, err
	}
	answer, err := packets.ReadPacket(c)
	if err != nil {
		return false, err
	}
	ack, ok := answer.Content.(*packets.Connack)
	if ok && ack.ReasonCode == packets.ConnackServerUnavailable {
		return false, io.EOF
	}
	if !ok || ack.ReasonCode != 0 {
		return false, faultf("CONNECT was answered with %v", answer)
	}
	return ack.SessionPresent, nil
}

// A fault is what a broker must not do, unlike a connection that breaks.
type fault string

func (f fault) Error() string { return string(f) }

func faultf(format string, args ...any) error { return fault(fmt.Sprintf(format, args...)) }

// errLost says that the broker no longer has the session.
var errLost = fault("the session is lost")

// refused is the error for a reason code that says no.
func refused(code byte, what string) error {
	if code < 0x80 {
		return nil
	}
	return faultf("%s has the reason code 0x%x", what, code)
}

// broken is the error of a connection that the device itself breaks.
var errBroken = errors.New("the device breaks the connection")

// ended is the error for the DISCONNECT of a broker that stops.
func ended(p *packets.ControlPacket) error {
	d, ok := p.Content.(*packets.Disconnect)
	switch {
	case !ok:
		return nil
	case d.ReasonCode == packets.DisconnectServerShuttingDown:
		return io.EOF
	}
	return faultf("the broker disconnects with 0x%x", d.ReasonCode)
}

// sender sends the numbers 1 to n in order.
type sender struct {
	id, topic string
	qos       byte
	n         int // how many to send
	window    int // how many may be unacknowledged

	sent, acked int
	again       int // numbers that were sent again
	open        []unacked
	known       bool        // the broker has answered a CONNECT
	acks        func()      // called for each that is acknowledged
	breaks      func() bool // says before each packet that comes whether the connection breaks instead
}

// unacked is a number that the broker has not yet acknowledged.
type unacked struct {
	number   int
	released bool // PUBREC came
}

// run sends on a connection until all numbers are acknowledged, or the connection breaks (io errors).
func (s *sender) run(c net.Conn) error {
	present, err := open(c, s.id, 1)
	if err != nil {
		return err
	}
	if s.known && !present {
		return errLost
	}
	s.known = true
	s.again += len(s.open)
	for _, u := range s.open {
		if err := s.send(c, u, true); err != nil {
			return err
		}
	}
	for s.acked < s.n {
		if s.breaks() {
			return errBroken
		}
		for len(s.open) < s.window && s.sent < s.n {
			s.sent++
			s.open = append(s.open, unacked{number: s.sent})
			if err := s.send(c, s.open[len(s.open)-1], false); err != nil {
				return err
			}
		}
		p, err := packets.ReadPacket(c)
		if err == nil {
			err = s.handle(c, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// done notes that one that is open is acknowledged.
func (s *sender) done(i int) {
	s.open = slices.Delete(s.open, i, i+1)
	s.acked++
	s.acks()
}

func packetID(number int) uint16 { return uint16(number%60_000) + 1 }

func (s *sender) send(c net.Conn, u unacked, again bool) error {
	if u.released {
		_, err := (&packets.Pubrel{PacketID: packetID(u.number)}).WriteTo(c)
		return err
	}
	p := &packets.Publish{Topic: s.topic, QoS: s.qos, PacketID: packetID(u.number), Duplicate: again,
		Payload: []byte(strconv.Itoa(u.number)), Properties: &packets.Properties{}}
	_, err := p.WriteTo(c)
	return err
}

func (s *sender) handle(c net.Conn, p *packets.ControlPacket) error {
	if err := ended(p); err != nil {
		return err
	}
	i := slices.IndexFunc(s.open, func(u unacked) bool { return packetID(u.number) == p.PacketID() })
	if i < 0 {
		return faultf("an answer to nothing: %v", p)
	}
	switch a := p.Content.(type) {
	case *packets.Puback:
		s.done(i)
		return refused(a.ReasonCode, "PUBACK")
	case *packets.Pubrec:
		s.open[i].released = true
		if err := refused(a.ReasonCode, "PUBREC"); err != nil {
			return err
		}
		return s.send(c, s.open[i], false)
	case *packets.Pubcomp:
		s.done(i)
		if a.ReasonCode == packets.PubcompPacketIdentifierNotFound {
			return nil // the PUBCOMP before was lost
		}
		return refused(a.ReasonCode, "PUBCOMP")
	}
	return faultf("the broker sent %v", p)
}

// listener receives the numbers of several senders, by their topic.
type listener struct {
	id, filter string
	qos        byte
	window     uint16   // its Receive Maximum
	topics     []string // where the senders send 1 to n
	n          int

	got    map[string][]int
	open   map[uint16]bool // packet ids of QoS 2 whose PUBREL has not come
	known  bool            // the broker has answered its SUBSCRIBE
	breaks func() bool     // as of a sender
}

// run receives on a connection until the last numbers of all topics have arrived, or the connection breaks.
func (l *listener) run(c net.Conn) error {
	if err := l.begin(c); err != nil {
		return err
	}
	for !l.full() {
		p, err := packets.ReadPacket(c)
		if err == nil && l.breaks() {
			err = errBroken
		}
		if err == nil {
			err = l.handle(c, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// begin connects and, if it is the first time, subscribes.
func (l *listener) begin(c net.Conn) error {
	present, err := open(c, l.id, l.window)
	if err != nil || l.known && present {
		return err
	}
	if l.known {
		return errLost
	}
	l.known = true
	l.got, l.open = map[string][]int{}, map[uint16]bool{}
	_, err = (&packets.Subscribe{PacketID: 1, Properties: &packets.Properties{},
		Subscriptions: []packets.SubOptions{{Topic: l.filter, QoS: l.qos}}}).WriteTo(c)
	if err != nil {
		return err
	}
	p, err := packets.ReadPacket(c)
	if err != nil {
		return err
	}
	if ack, ok := p.Content.(*packets.Suback); !ok || len(ack.Reasons) != 1 || ack.Reasons[0] != l.qos {
		return faultf("SUBSCRIBE was answered with %v", p)
	}
	return nil
}

func (l *listener) handle(c net.Conn, p *packets.ControlPacket) (err error) {
	if err := ended(p); err != nil {
		return err
	}
	switch m := p.Content.(type) {
	case *packets.Publish:
		if m.QoS < 2 || !l.open[m.PacketID] {
			number, err := strconv.Atoi(string(m.Payload))
			if err != nil {
				return err
			}
			l.got[m.Topic] = append(l.got[m.Topic], number)
		}
		if m.QoS == 2 {
			l.open[m.PacketID] = true
			_, err = (&packets.Pubrec{PacketID: m.PacketID}).WriteTo(c)
		} else {
			_, err = (&packets.Puback{PacketID: m.PacketID}).WriteTo(c)
		}
	case *packets.Pubrel:
		delete(l.open, m.PacketID)
		_, err = (&packets.Pubcomp{PacketID: m.PacketID}).WriteTo(c)
	default:
		err = faultf("the broker sent %v", p)
	}
	return err
}

// full says whether the last number of each topic has arrived.
func (l *listener) full() bool {
	for _, topic := range l.topics {
		if !slices.Contains(l.got[topic], l.n) {
			return false
		}
	}
	return true
}
