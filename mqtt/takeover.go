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
	for waited := false; ; waited = true {
		old, err := s.tryHold(c, waited)
		if old == nil {
			return err
		}
		if err := s.takeOver(old); err != nil {
			return err
		}
	}
}

// errNewer refuses a client that has waited for its session when it connects again: it has most likely given up, and must
// not disconnect the newer connection.
var errNewer = packets.Code{Code: packets.ErrServerBusy.Code, Reason: "another connection with the same client id is newer"}

// tryHold makes a connection the holder of its session, if there is none. Otherwise it returns the holder.
func (s *Server) tryHold(c *conn, waited bool) (old *conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if waited && s.waiting[c.key] != c {
		return nil, errNewer
	}
	if old = s.holders[c.key]; old != nil {
		s.waiting[c.key] = c
		return old, nil
	}
	s.holders[c.key] = c
	delete(s.waiting, c.key)
	if waited {
		s.took[c.key] = time.Now()
	}
	return nil, nil
}

// leaveTimeout is how long a connection whose session is taken over may still handle what has arrived.
const leaveTimeout = time.Second

// takenElsewhere takes note that a connection has taken its session over from one at another hub.
func (s *Server) takenElsewhere(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took[c.key] = time.Now()
}

// takeOver disconnects a client whose session another connection takes over, as soon as that may be, and waits until its
// session is closed.
func (s *Server) takeOver(c *conn) error {
	if err := s.pause(c); err != nil {
		return err
	}
	s.hub.MQTT().Takeovers.Add(1)
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

// pause waits until a session may be taken over again, or its holder leaves.
func (s *Server) pause(old *conn) error {
	s.mu.Lock()
	since := s.took[old.key]
	s.mu.Unlock()
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
