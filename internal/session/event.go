package session

import (
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Reason says why a session, or a membership, was lost or ended.
type Reason string

// The reasons.
const (
	Closed    Reason = "closed"    // the other side closed the connection
	Timeout   Reason = "timeout"   // the client did not acknowledge data that was sent to it
	Heartbeat Reason = "heartbeat" // it sent no heartbeat when one was due
	Slow      Reason = "slow"      // the client did not read, and the policy disconnects slow streams
	Ended     Reason = "ended"     // it ended the session itself
	Kicked    Reason = "kicked"    // another client or the program ended it
	Shutdown  Reason = "shutdown"  // the server ends
)

// Kind says what happened.
type Kind int

// What happens to a session, and to its memberships.
const (
	Connect    Kind = iota // its first stream opened
	Reconnect              // it was lost, and a stream opened
	Disconnect             // it is gone, after its memberships
	SendWill               // its last will is due
	WillDone               // its last will is not to be sent: it ended by itself

	Join  // Filter is new to it
	Leave // Filter is no longer among its streams'
	Lost  // the last stream with Filter closed
	Back  // and one with it opened again
	Gone  // the session is gone, and was a member of Filter
)

// Event is something that happened.
type Event struct {
	Kind   Kind
	UID    string
	Filter group.Filter // of memberships
	Reason Reason
	Will   *Will
}

// Will is a message that is sent when its session ends.
type Will struct {
	Group  string
	Event  string
	Msg    []byte // a JSON value
	Base64 bool   // Msg is a string of bytes
	Retain bool
	Clear  bool          // with Retain: it clears what is retained
	TTL    time.Duration // after which the message expires; 0: never

	// Delay is how long after the session was lost the will is sent, if the session has not returned
	// or ended by then. nil: when the session ends.
	Delay *time.Duration
}
