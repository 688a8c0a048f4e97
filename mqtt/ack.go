package mqtt

import (
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/delivery"
)

// acknowledge handles a PUBACK, PUBREC or PUBCOMP.
func (s *session) acknowledge(pk *packets.Packet) {
	s.mu.Lock()
	i := s.window.find(pk.PacketID)
	var e entry
	if i >= 0 {
		e = s.window.list[i]
	}
	of, freed := (*share)(nil), false
	switch kind := pk.FixedHeader.Type; {
	case kind == packets.Pubrec && i < 0 && pk.ReasonCode < 0x80:
		s.release(pk.PacketID, packets.ErrPacketIdentifierNotFound.Code)
	case i < 0:
		if s.unsure && kind == packets.Pubcomp && pk.PacketID == s.lastRelease {
			s.unsure = false
		}
	case kind == packets.Puback && e.state == awaitAck, kind == packets.Pubcomp && e.state == awaitComp,
		kind == packets.Pubrec && e.state == awaitRec && pk.ReasonCode >= 0x80:
		s.done(&e)
		of, freed = e.of, s.window.full()
		s.window.remove(i)
	case kind == packets.Pubrec && e.state != awaitAck && pk.ReasonCode < 0x80:
		s.done(&e)
		of = e.of
		x := &s.window.list[i]
		x.state, x.of = awaitComp, nil
		x.flags &^= isAgain
		s.release(pk.PacketID, packets.CodeSuccess.Code)
	}
	left := s.dropEnding()
	s.mu.Unlock()
	for _, f := range left {
		_ = s.listener.Leave(f) // an error: the stream reads messages that are for nobody
	}
	s.changed()
	s.listener.Resume()
	if of != nil {
		of.returned(s, e.seq)
	}
	if freed {
		s.resumeShares()
	}
}

// done takes note that the client has a message, and so everything that the stream sent before it on this connection.
func (s *session) done(e *entry) {
	sent := e.pass == delivery.Logged && e.of == nil && !e.is(isAgain|isRetained)
	if sent && e.state != awaitComp && s.gap != nil && s.gap.carrier != 0 && e.seq >= s.gap.carrier {
		s.gap = nil
	}
}

// release sends a PUBREL.
func (s *session) release(id uint16, code byte) {
	s.conn.send(appendAck(nil, s.conn.version, packets.Pubrel, id, code, ""))
}
