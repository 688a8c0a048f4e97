package mqtt

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/hub"
)

// sessionPrefix begins the keys of the positions of sessions. Their uid follows.
const sessionPrefix = hub.SessionPositions

// storedRetained is added to the state of a message in a stored window that was read from the retained messages.
const storedRetained = 1 << 2

// position returns what is kept of the session, whose client is here or not. It is valid until the next call. s.mu is held.
func (s *session) position(here bool) *cursor.Position {
	if s.stored == nil {
		s.stored = new(cursor.Position)
	}
	p := s.stored
	at := s.listener.Position()
	s.pass(at.Seq)
	p.Key, p.Epoch, p.Expiry, p.Away = s.conn.key, at.Epoch, s.expiry, time.Time{}
	p.Subject, p.Name = s.conn.grant.Subject, s.conn.clientID
	p.Read, p.Done = s.read, s.window.done(s.read)
	p.Filters = p.Filters[:0]
	for i := range s.subs {
		p.Filters = append(p.Filters, s.subs[i].stored())
	}
	p.Window = p.Window[:0]
	for i := range s.window.list {
		e := &s.window.list[i]
		if e.is(isAppended) && !e.is(wasAgain) {
			continue // it will be read again
		}
		if e.of != nil && e.state == awaitAck {
			continue // it goes to another member of the share
		}
		u := cursor.Unacked{Seq: e.seq, Tag: e.id, State: uint8(e.state)}
		if e.of != nil {
			u.State = uint8(awaitComp) // the client may have it: its packet id is not free
		}
		if e.is(isRetained) {
			u.State |= storedRetained
		}
		p.Window = append(p.Window, u)
	}
	p.Data = s.appendData(p.Data[:0], here)
	return p
}

// appendData appends what else is kept:
//
//	1 if the client may hold packet ids that the window does not have, else 0 (1 byte)
//	the packet id that was given last (2)
//	the position after which there is a gap to tell
func (s *session) appendData(b []byte, here bool) []byte {
	b = append(b, 0)
	if here && !s.silent || s.unsure {
		b[0] = 1
	}
	b = binary.BigEndian.AppendUint16(b, s.window.last)
	if s.gap != nil {
		b = append(b, s.gap.after...)
	}
	return b
}

// releaseAll releases the packet ids that the client may hold for messages which the server has forgotten.
func (s *session) releaseAll() {
	for id := uint16(1); id <= maxID; id++ {
		if s.window.find(id) < 0 {
			s.release(id, packets.CodeSuccess.Code)
			s.lastRelease = id
		}
	}
}

var errPosition = errors.New("mqtt: a stored session is corrupt")

// exact reports whether the client gets messages of QoS 2.
func (s *session) exact() bool {
	return slices.ContainsFunc(s.subs, func(x subscription) bool { return x.qos() == 2 })
}

// restore takes over what was kept of the session.
func (s *session) restore(p *cursor.Position) error {
	if len(p.Data) < 3 {
		return errPosition
	}
	same := p.Epoch == s.server.hub.Epoch() // otherwise the positions mean nothing
	for i := range p.Filters {
		x, err := restoreSubscription(&p.Filters[i])
		if err != nil {
			return err
		}
		if !same {
			x.from, x.opening = 0, opening{}
		}
		s.subs = append(s.subs, x)
	}
	for _, u := range p.Window {
		e := entry{seq: u.Seq, id: u.Tag, state: state(u.State &^ storedRetained), flags: isAgain}
		if u.State&storedRetained != 0 {
			e.flags |= isRetained
		}
		switch {
		case !same && e.state == awaitAck:
			continue
		case !same:
			e.state = awaitComp
		}
		if e.state == awaitComp {
			e.flags &^= isAgain
		}
		s.window.add(e)
	}
	s.window.last = binary.BigEndian.Uint16(p.Data[1:])
	s.unsure = p.Data[0] == 1 && s.exact()
	if after := string(p.Data[3:]); after != "" {
		g := s.server.gapAfter(after)
		s.gap = &g
	}
	if same {
		s.read, s.resent = p.Read, p.Read
	}
	return nil
}
