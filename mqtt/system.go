package mqtt

import (
	"fmt"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/store"
)

// systemPrefix begins the topics of the server's figures. They are no groups: sessions that subscribe to them are sent the
// figures every systemInterval. The same figures and more are messages in $sys/stats, as JSON.
const systemPrefix = "$SYS/"

const systemInterval = 10 * time.Second

// statsFilter is what a client must be allowed to read for $SYS.
var statsFilter = group.Exact("$sys/stats")

// figures are the topics below $SYS, named as Mosquitto names them.
var figures = []struct {
	topic string
	value func(h *hub.Hub, s *hub.Stats) string
}{
	{"$SYS/broker/version", func(h *hub.Hub, _ *hub.Stats) string { return "watchbox " + h.Options().Version }},
	{"$SYS/broker/uptime", func(h *hub.Hub, _ *hub.Stats) string { return integer(h.Uptime()/time.Second) + " seconds" }},
	{"$SYS/broker/clients/connected", func(_ *hub.Hub, s *hub.Stats) string { return integer(s.Streams) }},
	{"$SYS/broker/clients/total", func(_ *hub.Hub, s *hub.Stats) string { return integer(s.Sessions) }},
	{"$SYS/broker/messages/received", func(_ *hub.Hub, s *hub.Stats) string { return integer(s.Published) }},
	{"$SYS/broker/messages/sent", func(_ *hub.Hub, s *hub.Stats) string { return integer(s.Delivery.Messages) }},
	{"$SYS/broker/bytes/received", func(_ *hub.Hub, s *hub.Stats) string { return integer(s.PublishedBytes) }},
	{"$SYS/broker/bytes/sent", func(_ *hub.Hub, s *hub.Stats) string { return integer(s.Delivery.Bytes) }},
	{"$SYS/broker/store/messages/count", func(_ *hub.Hub, s *hub.Stats) string { return integer(s.Store.Messages) }},
	{"$SYS/broker/store/messages/bytes", func(_ *hub.Hub, s *hub.Stats) string { return integer(s.Store.Bytes) }},
}

func integer[T ~int64 | ~uint64](n T) string { return fmt.Sprint(uint64(n)) }

// system sends the figures to the sessions that subscribe to them.
type system struct {
	mu       sync.Mutex // guards what follows
	sessions map[*session]bool
	timer    *time.Timer // nil: there are no sessions
}

// watchSystem sends the figures to a session now and from now on.
func (srv *Server) watchSystem(s *session) {
	y := &srv.system
	y.mu.Lock()
	if y.sessions == nil {
		y.sessions = map[*session]bool{}
	}
	y.sessions[s] = true
	if y.timer == nil {
		y.timer = time.AfterFunc(systemInterval, srv.sendFigures)
	}
	y.mu.Unlock()
	stats := srv.hub.Stats()
	s.sendFigures(&stats, true)
}

// unwatchSystem ends what watchSystem began.
func (srv *Server) unwatchSystem(s *session) {
	y := &srv.system
	y.mu.Lock()
	defer y.mu.Unlock()
	delete(y.sessions, s)
	if len(y.sessions) == 0 && y.timer != nil {
		y.timer.Stop()
		y.timer = nil
	}
}

func (srv *Server) sendFigures() {
	stats := srv.hub.Stats()
	y := &srv.system
	y.mu.Lock()
	defer y.mu.Unlock()
	for s := range y.sessions {
		s.sendFigures(&stats, false)
	}
	if y.timer != nil {
		y.timer.Reset(systemInterval)
	}
}

// sendFigures sends the figures that the client has subscribed to, unless it does not read.
func (s *session) sendFigures(stats *hub.Stats, retained bool) {
	if s.conn.clogged() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var b []byte
	for i := range figures {
		ids := []uint32(nil)
		match := false
		for k := range s.subs {
			x := &s.subs[k]
			if x.system() && x.filter.Match(figures[i].topic) {
				if match = true; x.id != 0 {
					ids = append(ids, x.id)
				}
			}
		}
		if match {
			p, at := publish{v5: s.conn.version == 5, retain: retained, subs: ids}, len(b)
			b = p.appendText(b, figures[i].topic, figures[i].value(s.server.hub, stats))
			if !s.conn.limits.fits(len(b) - at) {
				b = b[:at]
			}
		}
	}
	if len(b) > 0 {
		s.conn.push(b)
	}
}

// gapsPrefix begins the groups in which gaps are told for clients of MQTT 3.1.1. The session's uid follows.
const gapsPrefix = "$sys/gaps/"

// tellGap tells a gap of a client that cannot be told itself. It does not wait.
func (srv *Server) tellGap(c *conn, g *delivery.Gap) {
	msg := g.AppendJSON(nil)
	msg = store.AppendQuote(append(msg[:len(msg)-1], `,"client_id":`...), c.clientID)
	msg = append(msg, '}')
	srv.running.Go(func() {
		if err := srv.hub.Announce(gapsPrefix+c.uid(), msg); err != nil {
			srv.opts.Logger.Error("telling a gap failed", "uid", c.uid(), "client_id", c.clientID, "error", err)
		}
	})
}
