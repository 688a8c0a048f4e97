package mqtt

import (
	"context"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// holder is the connection that has a session.
type holder struct {
	conn  *conn
	since time.Time // when it took the session over from another connection; zero: it did not
}

// takeoverPause is the shortest time between two takeovers of a session. Two clients with the same id would otherwise
// disconnect each other as fast as they can connect.
const takeoverPause = time.Second

// hold makes a connection the holder of its session. It disconnects the connection that has the session, and waits
// until that has ended.
func (s *Server) hold(c *conn) error {
	took := false
	for {
		s.mu.Lock()
		old := s.holders[c.uid]
		if old == nil {
			h := &holder{conn: c}
			if took {
				h.since = time.Now()
			}
			s.holders[c.uid] = h
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		if err := s.pause(old); err != nil {
			return err
		}
		took = true
		s.hub.MQTT().Takeovers.Add(1)
		if err := s.takeOver(old.conn); err != nil {
			return err
		}
	}
}

// leaveTimeout is how long a connection whose session is taken over may still handle what has arrived.
const leaveTimeout = time.Second

// takeOver disconnects a client whose session another connection takes over, and waits until its session is closed.
func (s *Server) takeOver(c *conn) error {
	c.leave(packets.ErrSessionTakenOver)
	late := time.AfterFunc(leaveTimeout, func() { c.end(packets.ErrSessionTakenOver) })
	defer late.Stop()
	select {
	case <-c.done:
		return nil
	case <-s.ctx.Done():
		return packets.ErrServerShuttingDown
	}
}

// pause waits until a session may be taken over again, or its holder leaves.
func (s *Server) pause(old *holder) error {
	if old.since.IsZero() {
		return nil
	}
	ctx, cancel := context.WithDeadline(s.ctx, old.since.Add(takeoverPause))
	defer cancel()
	select {
	case <-old.conn.done:
	case <-ctx.Done():
	}
	if s.ctx.Err() != nil {
		return packets.ErrServerShuttingDown
	}
	return nil
}

// release ends that a connection is the holder of its session.
func (s *Server) release(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.holders[c.uid]; h != nil && h.conn == c {
		delete(s.holders, c.uid)
	}
}
