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
	old, err := s.tryHold(c, nil)
	for old != nil {
		if err := s.takeOver(old, c.outrun.reached()); err != nil {
			return err
		}
		old, err = s.tryHold(c, old)
	}
	return err
}

// errNewer refuses a client that waits for its session when it connects again: it has most likely given up, and must
// not disconnect the newer connection.
var errNewer = packets.Code{Code: packets.ErrServerBusy.Code, Reason: "another connection with the same client id is newer"}

// tryHold makes a connection the holder of its session, if there is none. Otherwise it returns the holder. before is the holder
// whose end the connection has waited for; nil: it has not waited.
func (s *Server) tryHold(c, before *conn) (old *conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	other := s.waiting[c.key]
	switch {
	case before != nil && other != c:
		return nil, errNewer
	case other != nil && other != c:
		other.outrun.reach()
	}
	if old = s.holders[c.key]; old != nil {
		s.waiting[c.key] = c
		return old, nil
	}
	s.holders[c.key] = c
	delete(s.waiting, c.key)
	if before != nil && before.leaving.Load() != nil {
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
// session is closed. It returns errNewer as soon as outrun is closed.
func (s *Server) takeOver(c *conn, outrun <-chan struct{}) error {
	if over, err := s.pause(c, outrun); over || err != nil {
		return err
	}
	if !c.isClosed() && c.leave(packets.ErrSessionTakenOver) { // otherwise it ends by itself
		s.hub.MQTT().Takeovers.Add(1)
	}
	late := time.AfterFunc(leaveTimeout, func() { c.end(packets.ErrSessionTakenOver) })
	defer late.Stop()
	select {
	case <-c.done.reached():
		return nil
	case <-outrun:
		return errNewer
	case <-s.ctx.Done():
		return packets.ErrServerShuttingDown
	}
}

// pause waits until a session may be taken over again. It returns true if its holder has left before.
func (s *Server) pause(old *conn, outrun <-chan struct{}) (over bool, err error) {
	s.mu.Lock()
	since := s.took[old.key]
	s.mu.Unlock()
	ctx, cancel := context.WithDeadline(s.ctx, since.Add(s.opts.takeoverPause)) // at once if none took it over
	defer cancel()
	select {
	case <-old.done.reached():
		return true, nil
	case <-outrun:
		return false, errNewer
	case <-ctx.Done():
	}
	if s.ctx.Err() != nil {
		return false, packets.ErrServerShuttingDown
	}
	return false, nil
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
