package client

// State is the state of a client's stream.
type State int

// The states.
const (
	StateIdle       State = iota // nothing is joined
	StateConnecting              // the stream was requested and is not open yet
	StateOpen                    // the stream is open
	StateWaiting                 // the stream was lost or temporarily refused; the next attempt follows
	StateClosed                  // closed permanently
)

// String returns the state's name: idle, connecting, open, waiting, closed.
func (s State) String() string {
	return [...]string{"idle", "connecting", "open", "waiting", "closed"}[s]
}

// State returns the current state.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// setState changes the state unless it is closed, and queues the call of OnState. The mutex is held.
func (c *Client) setState(s State) {
	if c.state == s || c.state == StateClosed {
		return
	}
	c.state = s
	c.signal()
	c.calls.put(call{state: &s})
}
