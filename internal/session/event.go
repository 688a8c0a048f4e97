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
	Timeout   Reason = "timeout"   // it did not acknowledge what it was sent
	Heartbeat Reason = "heartbeat" // it sent no heartbeat when one was due
	Slow      Reason = "slow"      // it did not read, and the policy ends those
	Ended     Reason = "ended"     // it ended the session itself
	Kicked    Reason = "kicked"    // somebody who may ended it
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

	// Delay has it sent so long after the session was lost, if that is before its end and it has
	// not returned. nil: at the end.
	Delay *time.Duration
}
