package session

import (
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Reason is the reason why a session or membership was lost or ended.
type Reason string

// The reasons.
const (
	Closed    Reason = "closed"    // the client closed the connection
	Timeout   Reason = "timeout"   // the client did not acknowledge data that was sent to it
	Heartbeat Reason = "heartbeat" // the client sent no heartbeat in time
	Slow      Reason = "slow"      // the client did not read, and the policy disconnects slow streams
	Ended     Reason = "ended"     // the client ended its own session
	Kicked    Reason = "kicked"    // another client or the program ended the session
	Shutdown  Reason = "shutdown"  // the server is shutting down
	Expired   Reason = "token-expired"
	Revoked   Reason = "token-revoked"
	Forbidden Reason = "forbidden" // the token's grant has changed and covers no filter of the stream any more

	// Partitioned is the reason if the hub with the streams died, or was cut off from the other hubs.
	Partitioned Reason = "partitioned"
)

// Kind is the kind of an Event.
type Kind int

// The kinds of event: first those of a session, then those of a membership.
const (
	Connect    Kind = iota // the session's first stream opened
	Reconnect              // a stream opened while the session was lost
	Disconnect             // the session is gone; follows the Gone of its memberships
	SendWill               // the last will must be sent
	WillDone               // the last will is dropped, because the client ended its own session or said goodbye

	Join  // the session became a member of Filter
	Leave // it is no longer a member of Filter
	Lost  // its last stream with Filter closed
	Back  // a stream with Filter opened while the membership was lost
	Gone  // the session is gone while it was a member of Filter
)

// Event is a change of a session or of one of its memberships.
type Event struct {
	Kind    Kind
	UID     string
	Subject string       // that the session belongs to
	Filter  group.Filter // of the membership
	Reason  Reason
	Will    *Will
}

// Will is a last will: a message that is sent when its session ends.
type Will struct {
	ID      uint64 `json:",omitempty"` // tells apart the wills of a session; SetWill sets it
	Group   string
	Subject string // of the session
	Event   string
	Meta    [][2]string `json:",omitempty"`
	Msg     []byte      // a JSON value
	Base64  bool        // Msg is a JSON string of base64
	Retain  bool
	Clear   bool          // with Retain: it removes the retained message
	Holds   bool          `json:",omitempty"` // it keeps a lost session until the Delay has passed, even if that is longer than the session timeout
	TTL     time.Duration // after which the message expires; 0: never; or as in hub.Draft

	// Delay is the time from the loss of the session until the will is sent, unless the session
	// reconnects or ends before. nil: the will is sent when the session ends.
	Delay *time.Duration
}
