package mqtt

import (
	"context"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// takeoverPause is the shortest time between two takeovers of a session. Two clients with the same id would otherwise
// disconnect each other as fast as they can connect.
const takeoverPause = time.Second

// hold makes a connection the holder of its session. It disconnects the connection that has the session, and waits
// until that has ended.
func (s *Server) hold(c *conn) error {
	took := false
	for {
		s.mu.Lock()
		old, since := s.holders[c.key], s.took[c.key]
		if old == nil {
			s.holders[c.key] = c
			if took {
				s.took[c.key] = time.Now()
			}
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		if err := s.pause(old, since); err != nil {
			return err
		}
		took = true
		s.hub.MQTT().Takeovers.Add(1)
		if err := s.takeOver(old); err != nil {
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
	case <-c.done.reached():
		return nil
	case <-s.ctx.Done():
		return packets.ErrServerShuttingDown
	}
}

// pause waits until a session may be taken over again, or its holder leaves. since is when the holder took it over; zero: it did
// not.
func (s *Server) pause(old *conn, since time.Time) error {
	if since.IsZero() {
		return nil
	}
	ctx, cancel := context.WithDeadline(s.ctx, since.Add(takeoverPause))
	defer cancel()
	select {
	case <-old.done.reached():
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
	if s.holders[c.key] == c {
		delete(s.holders, c.key)
		delete(s.took, c.key)
	}
}
