package mqtt

import (
	"slices"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/delivery"
	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// A session is the codec of its own stream. The stream's owner calls the methods of this file, one at a time. The
// goroutine that reads from the client changes subscriptions and the window meanwhile.

var _ delivery.Codec = (*session)(nil)

// Append implements delivery.Codec: it appends a message as a PUBLISH packet, unless it is not for the client.
func (s *session) Append(b []byte, f *store.Frame, pass delivery.Pass) (out []byte, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held {
		return b, true
	}
	again := s.window.again(f.Seq)
	if again == nil && pass == delivery.Logged && f.Seq <= s.resent {
		return b, false // it was sent on an earlier connection, and acknowledged
	}
	p := publish{v5: s.conn.version == 5}
	if !s.match(&p, f, pass) && again == nil || f.Flags&store.HasExpiry != 0 && f.Expired(time.Now()) {
		return b, false
	}
	if again != nil {
		p.qos, p.dup, p.id = again.qos(), true, again.id
		p.retain = p.retain || again.is(isRetained)
	}
	switch {
	case p.qos > 0 && s.window.full():
		return b, true
	case p.qos == 0 && pass == delivery.Logged && f.Seq <= s.returned && !s.server.opts.QueueQoS0:
		return b, false
	}
	if p.qos > 0 && again == nil {
		p.id = s.window.next()
	}
	s.decorate(&p, f, pass)
	out = p.append(b, f)
	if !s.conn.limits.fits(len(out)-len(b)) && p.lighten() { // a later message tells what is left out
		out = p.append(b, f)
	}
	if !s.conn.limits.fits(len(out) - len(b)) {
		return b, false // MQTT 5.0, 3.1.2.11.4: it counts as delivered
	}
	s.appended(&p, f, pass, again)
	return out, false
}

// match sets how the client gets a message by its subscriptions. It returns false if no subscription selects it.
func (s *session) match(p *publish, f *store.Frame, pass delivery.Pass) bool {
	s.ids = s.ids[:0]
	granted, any := byte(0), false
	for i := range s.subs {
		x := &s.subs[i]
		if !x.selects(f, pass) {
			continue
		}
		if !x.noLocal() || string(f.UID()) != s.conn.uid() {
			any = true
			granted = max(granted, x.qos())
			p.retain = p.retain || x.asPublished()
			if x.id != 0 {
				s.ids = append(s.ids, x.id)
			}
		}
		if pass != delivery.Logged {
			break // it is sent because of one subscription
		}
	}
	if !any {
		return false
	}
	p.qos, p.subs = min(granted, qosOf(f)), s.ids
	p.retain = pass == delivery.Retained || p.retain && f.Flags&store.IsRetain != 0
	return true
}

// qosOf returns the QoS with which a message was published. Over HTTP that is 1.
func qosOf(f *store.Frame) byte {
	if f.Flags&store.HasMeta != 0 {
		for name, value := range f.QuotedMeta() {
			if string(name) == `"$qos"` {
				return value[1] - '0'
			}
		}
	}
	return 1
}

// decorate sets what a packet carries besides the message: a gap and a topic alias.
func (s *session) decorate(p *publish, f *store.Frame, pass delivery.Pass) {
	if !p.v5 {
		return
	}
	if g := s.gap; g != nil && g.after != "" && pass == delivery.Logged && f.Seq > g.at && (g.carrier == 0 || g.carrier == f.Seq) {
		p.gap = g.after
	}
	if s.conn.limits.aliases > 0 {
		p.alias, p.known = s.aliases.find(f.Group, s.conn.limits.aliases)
	}
}

// appended records a packet that the stream will send next.
func (s *session) appended(p *publish, f *store.Frame, pass delivery.Pass, again *entry) {
	if p.gap != "" {
		s.gap.carrier, s.gap.acked = f.Seq, p.qos > 0 || s.acknowledged()
	}
	if p.alias != 0 {
		if s.aliases == nil {
			s.aliases = new(aliases)
		}
		s.aliases.use(p.alias, p.known, f)
	}
	switch {
	case again != nil:
		s.window.appendAgain(again, pass)
	case p.qos > 0:
		e := entry{seq: f.Seq, id: p.id, state: awaitAck, flags: isAppended, pass: pass}
		if p.qos == 2 {
			e.state = awaitRec
		}
		if pass == delivery.Retained {
			e.flags |= isRetained
		}
		s.window.add(e)
	}
}

// acknowledged reports whether the client acknowledges some messages of the session's stream.
func (s *session) acknowledged() bool {
	return slices.ContainsFunc(s.subs, func(x subscription) bool { return x.qos() > 0 && (x.logged() || x.direct()) })
}

// Sent implements delivery.Codec.
func (s *session) Sent(reached store.Seq, pass delivery.Pass) {
	s.mu.Lock()
	full := s.window.full()
	one, two := s.window.sent(reached, pass)
	s.aliases.sent(reached)
	for i := range s.subs {
		if x := &s.subs[i]; pass == delivery.Logged || x.opening.pending(pass) {
			x.opening.sent(reached, pass)
			if pass != delivery.Logged {
				break // they begin one after the other
			}
		}
	}
	if pass == delivery.Logged {
		if s.gap != nil {
			s.gap.sent(reached)
		}
		s.pass(reached)
	}
	freed := full && !s.window.full()
	s.mu.Unlock()
	s.countSent(one, two)
	s.changed()
	if freed {
		s.resumeShares()
	}
}

// countSent counts messages that were sent with QoS 1 and 2.
func (s *session) countSent(one, two uint64) {
	if one+two > 0 {
		counts := s.server.hub.MQTT()
		counts.Sent1.Add(one)
		counts.Sent2.Add(two)
	}
}

// pass takes note that the stream has passed a position of the log. s.mu is held.
func (s *session) pass(reached store.Seq) {
	s.read = max(s.read, reached)
	for _, id := range s.window.passed(reached) {
		s.conn.push(appendAck(nil, s.conn.version, packets.Pubrel, id, packets.CodeSuccess.Code, ""))
	}
}

// AppendGap implements delivery.Codec. A client of MQTT 5 is told with the next message; for others there is a
// message in a group.
func (s *session) AppendGap(b []byte, g *delivery.Gap) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn.version < 5 {
		s.server.hub.MQTT().Gaps.Add(1)
		s.server.tellGap(s.conn, g)
		return b
	}
	if s.gap == nil {
		s.gap = new(gap)
	}
	if s.gap.after == "" || s.gap.carrier != 0 {
		s.server.hub.MQTT().Gaps.Add(1)
	}
	s.gap.add(s.server.gapAfter(g.After))
	return b
}

// gap is a loss that a client of MQTT 5 has to be told of. It is told on each connection until the client has
// acknowledged the message that tells it, or one that was sent after that. If none of its subscriptions has
// acknowledgements, the gap is told once.
type gap struct {
	after   string    // the position after which messages were lost; "": none were
	at      store.Seq // the same; 0: it is not one of this log
	carrier store.Seq // the message that tells it; 0: none yet
	acked   bool      // the client acknowledges that message, or a later one
}

// gapAfter returns a gap after a position.
func (srv *Server) gapAfter(id string) gap {
	g := gap{after: id}
	if x, err := store.ParseID(id); err == nil && x.Epoch == srv.hub.Epoch() {
		g.at = x.Seq
	}
	return g
}

// add adds another loss. The gap then begins at the lower of the two positions: the client may have got neither the message that
// tells the first loss nor those before it, and these may be lost, too.
func (g *gap) add(x gap) {
	switch {
	case x.after == "":
		return
	case g.after == "" || x.at < g.at:
		*g = x
	}
	g.carrier = 0
}

// sent is window.sent for the gap.
func (g *gap) sent(reached store.Seq) {
	switch {
	case g.carrier > reached:
		g.carrier = 0
	case g.carrier != 0 && !g.acked:
		*g = gap{}
	}
}

// AppendBye implements delivery.Codec.
func (s *session) AppendBye(b []byte, why delivery.Reason) []byte {
	s.conn.last()
	return append(b, s.conn.disconnect(endCode(why))...)
}

// endCode returns the reason code for a stream that the server ends.
func endCode(why delivery.Reason) packets.Code {
	switch sessions.Reason(why) {
	case sessions.Shutdown:
		return packets.ErrServerShuttingDown
	case sessions.Expired:
		return packets.ErrMaxConnectTime
	case sessions.Revoked, sessions.Forbidden:
		return packets.ErrNotAuthorized
	case sessions.Heartbeat:
		return packets.ErrKeepAliveTimeout
	case sessions.Slow:
		return packets.ErrQuotaExceeded
	}
	return packets.ErrAdministrativeAction
}

// common is how clients get messages that want them with QoS 0 and nothing of their own.
type common uint8

const (
	commonV5 common = 1 << iota
	commonAsPublished
	commonDirect // also the messages to the session itself
)

// Append implements delivery.Common.
func (c common) Append(b []byte, f *store.Frame) []byte {
	if f.Flags&store.HasExpiry != 0 && f.Expired(time.Now()) || c&commonDirect == 0 && strings.HasPrefix(f.Group, delivery.SessionPrefix) {
		return b
	}
	p := publish{v5: c&commonV5 != 0, retain: c&commonAsPublished != 0 && f.Flags&store.IsRetain != 0}
	return p.append(b, f)
}

// Common implements delivery.Codec. A session that is kept needs to know what was sent.
func (s *session) Common() delivery.Common {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expiry != 0 || s.returned != 0 || s.conn.limits.packet != 0 || s.conn.limits.aliases != 0 || s.gap != nil && s.gap.after != "" || s.held {
		return nil
	}
	c := common(0)
	if s.conn.version == 5 {
		c = commonV5
	}
	for i := range s.subs {
		x := &s.subs[i]
		if x.qos() > 0 || x.noLocal() || x.id != 0 || i > 0 && x.asPublished() != s.subs[0].asPublished() {
			return nil
		}
		if x.asPublished() {
			c |= commonAsPublished
		}
		if x.direct() {
			c |= commonDirect
		}
	}
	return c
}
