package client

// State is what a client's stream is doing.
type State int

// The states.
const (
	StateIdle       State = iota // nothing is joined
	StateConnecting              // the hub is asked
	StateOpen                    // the stream stands
	StateWaiting                 // it was lost or could not be had: it will be asked for again
	StateClosed                  // for good
)

// String returns the state's name: idle, connecting, open, waiting, closed.
func (s State) String() string {
	return [...]string{"idle", "connecting", "open", "waiting", "closed"}[s]
}

// State returns what the stream is doing now.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// become changes the state, unless that is closed, and has OnState hear of it. The mutex is
// held.
func (c *Client) become(s State) {
	if c.state == s || c.state == StateClosed {
		return
	}
	c.state = s
	c.signal()
	c.calls.put(call{state: &s})
}
