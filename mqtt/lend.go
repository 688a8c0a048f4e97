package mqtt

import (
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
)

// A share is the codec of its stream. It appends nothing: it gives each message to a member.

var _ delivery.Codec = (*share)(nil)

// Append implements delivery.Codec.
func (h *share) Append(b []byte, f *store.Frame, _ delivery.Pass) (out []byte, full bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pass(f.Seq - 1)
	again := slices.IndexFunc(h.lent, func(x lending) bool { return x.seq == f.Seq && x.to == nil })
	if again < 0 && f.Seq <= max(h.resent, h.read) || f.Flags&store.HasExpiry != 0 && f.Expired(time.Now()) {
		return b, false
	}
	m, qos := h.pick(qosOf(f))
	if m == nil {
		return b, true
	}
	lent := m.session.give(h, m, f, qos, again >= 0)
	switch {
	case lent && again >= 0:
		h.lent[again].to = m.session
	case lent:
		h.lent = append(h.lent, lending{f.Seq, m.session})
	case again >= 0:
		h.lent = slices.Delete(h.lent, again, again+1)
	}
	h.read = max(h.read, f.Seq)
	h.gap = ""
	return b, false
}

// pass takes note that the stream has passed a position. Messages before it that had to be given again are not there
// any more. h.mu is held.
func (h *share) pass(seq store.Seq) {
	h.lent = slices.DeleteFunc(h.lent, func(x lending) bool { return x.to == nil && x.seq <= seq })
}

// pick returns the member that gets a message of a QoS, and the QoS that it gets it with. It returns nil if no member
// takes a message for now.
func (h *share) pick(published byte) (best *member, qos byte) {
	most := 0
	for i := range h.members {
		m := h.members[(h.next+i)%len(h.members)]
		q := min(published, m.qos())
		if room := m.session.room(q); room > most {
			best, qos, most = m, q, room
		}
	}
	h.next++
	return best, qos
}

// returned takes note that a member has acknowledged a message.
func (h *share) returned(s *session, seq store.Seq) {
	h.mu.Lock()
	h.lent = slices.DeleteFunc(h.lent, func(x lending) bool { return x.seq == seq && x.to == s })
	h.mu.Unlock()
	h.resume()
}

// room returns how many messages of a QoS the client takes now.
func (s *session) room(qos byte) int {
	if s.conn.clogged() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.held, s.silent:
		return 0
	case qos == 0:
		return maxWindow
	}
	return max(0, s.window.size-s.window.flying())
}

// give sends a message of a share. It reports whether the client will acknowledge it.
func (s *session) give(h *share, m *member, f *store.Frame, qos byte, again bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := publish{v5: s.conn.version == 5, qos: qos, gap: h.gap}
	p.retain = m.asPublished() && f.Flags&store.IsRetain != 0
	if m.id != 0 {
		p.subs = append(s.ids[:0], m.id)
	}
	if qos > 0 {
		p.id = s.window.next()
	}
	b := p.append(nil, f)
	if most := s.conn.limits.packet; most != 0 && len(b) > int(most) {
		return false
	}
	s.conn.push(b)
	if qos == 0 {
		return false
	}
	e := entry{seq: f.Seq, id: p.id, state: awaitAck, of: h}
	if qos == 2 {
		e.state = awaitRec
		s.countSent(0, 1)
	} else {
		s.countSent(1, 0)
	}
	s.window.list = append(s.window.list, e)
	return true
}

// Sent implements delivery.Codec.
func (h *share) Sent(store.Seq, delivery.Pass) {}

// AppendGap implements delivery.Codec.
func (h *share) AppendGap(b []byte, g *delivery.Gap) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gap == "" {
		h.server.hub.MQTT().Gaps.Add(1)
		h.gap = g.After
	}
	return b
}

// AppendBye implements delivery.Codec.
func (h *share) AppendBye(b []byte, _ delivery.Reason) []byte { return b }

// Common implements delivery.Codec.
func (h *share) Common() delivery.Common { return nil }
