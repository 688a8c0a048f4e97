package mqtt

import (
	"cmp"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
)

// A share is the codec of its stream. It appends nothing: it gives each message to a member.

var _ delivery.Codec = (*share)(nil)

// Append implements delivery.Codec.
func (h *share) Append(b []byte, f *store.Frame, _ delivery.Pass) (out []byte, wait bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pass(f.Seq - 1)
	i := slices.IndexFunc(h.lent, func(x lending) bool { return x.seq == f.Seq })
	again := i >= 0 && h.lent[i].free()
	switch {
	case !again && i >= 0:
		h.read = max(h.read, f.Seq)
		return b, false
	case !again && f.Seq <= max(h.resent, h.read):
		return b, false
	case f.Flags&store.HasExpiry != 0 && f.Expired(time.Now()):
		if again { // the hub that has the position may have a slower clock, and would lend it again at once
			h.debts.paid(f.Seq, h.lent[i].gap)
			h.lent = slices.Delete(h.lent, i, i+1)
		}
		return b, false
	case !again && h.debts != nil: // the hub that has the position decides who gets it
		return b, true
	}
	x := lending{seq: f.Seq}
	switch {
	case h.debts != nil:
		x.gap = h.lent[i].gap
	case f.Seq > h.gap.at:
		x.gap = h.gap
	}
	o := h.give(f, &x)
	switch {
	case o == full:
		return b, true
	case o == lent && again:
		h.lent[i] = x
	case o == lent:
		h.keep(x)
	case again:
		h.lent = slices.Delete(h.lent, i, i+1)
		if o == sent {
			x.gap = gap{}
		}
		h.debts.paid(f.Seq, x.gap)
	}
	if h.read = max(h.read, f.Seq); o != lent && h.debts == nil {
		_ = h.save() // nobody acknowledges it. An error: an older position repeats more
	}
	return b, false
}

// keep adds a message that a member has, or will get. h.mu is held.
func (h *share) keep(x lending) {
	i, _ := slices.BinarySearchFunc(h.lent, x.seq, func(x lending, seq store.Seq) int { return cmp.Compare(x.seq, seq) })
	h.lent = slices.Insert(h.lent, i, x)
}

// outcome is what has become of a message that a share gives to a member.
type outcome uint8

const (
	full    outcome = iota // no member takes it for now
	leftOut                // it is too large for the member
	sent                   // it was sent with QoS 0
	lent                   // it was sent, and the member will acknowledge it
)

// give gives a message to the member with the most room, and with it the gap of x. h.mu is held.
func (h *share) give(f *store.Frame, x *lending) (o outcome) {
	for o == full {
		m, at, qos := h.pick(qosOf(f))
		switch {
		case at != nil:
			at.take(loan{f.Seq, x.gap.after})
			x.at, x.to, o = at, nil, lent
		case m == nil:
			return full
		default:
			x.to = m.session
			o = m.session.take(h, m, f, qos, &x.gap) // full: something else took its room since pick
		}
	}
	if o != leftOut && f.Seq > h.gap.at {
		h.gap = gap{}
	}
	return o
}

// pass takes note that the stream has passed a position. Messages before it that had to be given again are not there
// any more. h.mu is held.
func (h *share) pass(seq store.Seq) {
	h.lent = slices.DeleteFunc(h.lent, func(x lending) bool {
		over := x.free() && !x.behind && x.seq <= seq
		if over {
			h.debts.returns(&x) // the hub that has the position finds out what has become of it
		}
		return over || x.done && x.seq <= seq
	})
}

// pick returns the member that gets a message of a QoS, and the QoS that it gets it with, or the hub whose member gets it. It
// returns neither if no member takes a message for now.
func (h *share) pick(published byte) (best *member, at *borrower, qos byte) {
	most, n := 0, len(h.members)+len(h.borrowers)
	for k := range n {
		i := (h.next + k) % n
		if i >= len(h.members) {
			if b := h.borrowers[i-len(h.members)]; b.room() > most {
				best, at, most = nil, b, b.room()
			}
			continue
		}
		m := h.members[i]
		q := min(published, m.qos())
		if room := m.session.room(q); room > most {
			best, at, qos, most = m, nil, q, room
		}
	}
	h.next++
	return best, at, qos
}

// returned takes note that a member has acknowledged a message.
func (h *share) returned(s *session, seq store.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.lent, func(x lending) bool { return x.seq == seq && x.to == s })
	switch {
	case i < 0:
	case h.debts == nil && seq > h.read: // this hub has got the position after the message
		h.lent[i] = lending{seq: seq, done: true}
	default:
		h.lent = slices.Delete(h.lent, i, i+1)
	}
	if h.debts != nil {
		h.debts.paid(seq, gap{})
	} else if h.running != nil {
		_ = h.save() // an error: an older position repeats more
	}
}

// room returns how many messages of a QoS the client takes now.
func (s *session) room(qos byte) int {
	if s.conn.clogged() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roomFor(qos)
}

// roomFor is room for a client that is not clogged. s.mu is held.
func (s *session) roomFor(qos byte) int {
	switch {
	case s.held, s.silent:
		return 0
	case qos == 0:
		return maxWindow
	}
	return max(0, s.window.size-s.window.flying())
}

// take sends a message of a share with the gap before it. For a client of MQTT 3.1.1, and for one that accepts the message only
// without the gap, there is a message in a group for the gap, which then need not be told again.
func (s *session) take(h *share, m *member, f *store.Frame, qos byte, g *gap) outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.roomFor(qos) == 0 {
		return full
	}
	p := publish{v5: s.conn.version == 5, qos: qos}
	if p.v5 {
		p.gap = g.after
	}
	p.retain = m.asPublished() && f.Flags&store.IsRetain != 0
	if m.id != 0 {
		p.subs = append(s.ids[:0], m.id)
	}
	if qos > 0 {
		p.id = s.window.next()
	}
	b := p.append(nil, f)
	if !s.conn.limits.fits(len(b)) && p.lighten() {
		b = p.append(nil, f)
	}
	if !s.conn.limits.fits(len(b)) {
		return leftOut
	}
	if g.after != p.gap {
		s.server.tellGap(s.conn, &delivery.Gap{Filter: h.filter.String(), After: g.after, Oldest: string(f.ID()), Reason: delivery.GapEvicted})
		*g = gap{}
	}
	s.conn.push(b)
	s.server.hub.MQTT().Lent.Add(1)
	if qos == 0 {
		return sent
	}
	e := entry{seq: f.Seq, id: p.id, state: awaitAck, of: h}
	if qos == 2 {
		e.state = awaitRec
		s.countSent(0, 1)
	} else {
		s.countSent(1, 0)
	}
	s.window.add(e)
	return lent
}

// Sent implements delivery.Codec.
func (h *share) Sent(store.Seq, delivery.Pass) {}

// AppendGap implements delivery.Codec.
func (h *share) AppendGap(b []byte, g *delivery.Gap) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.debts != nil { // the hub that has the position finds it, too
		return b
	}
	if h.gap.after == "" {
		h.server.hub.MQTT().Gaps.Add(1)
	}
	h.gap.add(h.server.gapAfter(g.After))
	return b
}

// AppendBye implements delivery.Codec.
func (h *share) AppendBye(b []byte, _ delivery.Reason) []byte { return b }

// Common implements delivery.Codec.
func (h *share) Common() delivery.Common { return nil }
