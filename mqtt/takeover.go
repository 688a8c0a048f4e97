package mqtt

import (
	"context"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// takeoverPause is the shortest time between two takeovers of a session. Two clients with the same id would otherwise
// disconnect each other as fast as they can connect.
const takeoverPause = time.Second

// waiter is the newest connection that waits for a session.
type waiter struct {
	conn   *conn
	holder *conn // whose end it waits for
}

// hold makes a connection the holder of its session. It disconnects the connection that has the session, and waits
// until that has ended.
func (s *Server) hold(c *conn) error {
	old, err := s.tryHold(c, false)
	for old != nil {
		if err := s.takeOver(old, c); err != nil {
			s.giveWaitingUp(c)
			return err
		}
		old, err = s.tryHold(c, true)
	}
	return err
}

var (
	// errNewer refuses a client that waits for its session when it connects again: it has most likely given up, and must
	// not disconnect the newer connection.
	errNewer = packets.Code{Code: packets.ErrServerBusy.Code, Reason: "another connection with the same client id is newer"}

	// errLeft ends a connection that waits for its session, and whose client has left.
	errLeft = packets.Code{Code: packets.ErrServerBusy.Code, Reason: "the client has left"}
)

// tryHold makes a connection the holder of its session, if there is none. Otherwise it returns the holder. again says that
// the connection has waited for the end of a holder.
func (s *Server) tryHold(c *conn, again bool) (old *conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.waiting[c.key]
	switch {
	case again && newest.conn != c:
		return nil, errNewer
	case newest.conn != nil && newest.conn != c:
		newest.conn.outrun.reach()
	}
	if old = s.holders[c.key]; old != nil {
		s.waiting[c.key] = waiter{c, old}
		return old, nil
	}
	s.holders[c.key] = c
	delete(s.waiting, c.key)
	if newest.conn != nil && newest.holder.leaving.Load() != nil { // also if c has outrun the connection that took it over
		s.took[c.key] = time.Now()
	}
	return nil, nil
}

// giveWaitingUp ends that a connection waits for its session.
func (s *Server) giveWaitingUp(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[c.key].conn == c {
		delete(s.waiting, c.key)
	}
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
// session is closed. The other connection is by; nil: it is at another hub. takeOver returns errNewer as soon as a newer
// connection waits, too, and errLeft if the client of by has left before the session might be taken over.
func (s *Server) takeOver(old, by *conn) error {
	if over, err := s.pause(old, by); over || err != nil {
		return err
	}
	if !old.isClosed() && old.leave(packets.ErrSessionTakenOver) { // otherwise it ends by itself
		s.hub.MQTT().Takeovers.Add(1)
	}
	late := time.AfterFunc(leaveTimeout, func() { old.end(packets.ErrSessionTakenOver) })
	defer late.Stop()
	select {
	case <-old.done.reached():
		return nil
	case <-by.isOutrun():
		return errNewer
	case <-s.ctx.Done():
		return packets.ErrServerShuttingDown
	}
}

// pause waits until a session may be taken over again. It returns over if its holder has left before.
func (s *Server) pause(old, by *conn) (over bool, err error) {
	s.mu.Lock()
	until := s.took[old.key].Add(s.opts.takeoverPause) // the past if none took it over
	s.mu.Unlock()
	if !time.Now().Before(until) {
		return false, nil
	}
	ctx, cancel := context.WithDeadline(s.ctx, until)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case <-old.done.reached():
			return true, nil
		case <-by.isOutrun():
			return false, errNewer
		case <-by.arrives():
		case <-ctx.Done():
		}
		if by != nil && by.hasLeft() { // without a pause, it may have sent all that it had to send, and left
			return false, errLeft
		}
	}
	if s.ctx.Err() != nil {
		return false, packets.ErrServerShuttingDown
	}
	return false, nil
}

// arrives returns a channel that gets something when there may be something to read of a client that waits, unless it has sent too
// much already.
func (c *conn) arrives() <-chan struct{} {
	if c == nil || len(c.ahead) >= maxAhead {
		return nil
	}
	something := make(chan struct{}, 1)
	c.socket.Readable(func() { something <- struct{}{} })
	return something
}

// isOutrun returns a channel that is closed when a newer connection waits for the session, too. That of nil never is.
func (c *conn) isOutrun() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.outrun.reached()
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
