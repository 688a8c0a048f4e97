package hub

import (
	"context"
	"errors"
	"time"

	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/internal/session"
)

// MaxTTL is the longest time to live of a message: about ten years.
const MaxTTL = 520 * duration.Week

// Draft is a message that a client wants to publish, as a hook may change it.
type Draft struct {
	Group string
	UID   string
	Event string
	Kind  Kind // Bytes or JSON
	Data  []byte

	// A hook does not change these.
	TTL    time.Duration // after which the message expires; 0: never
	Retain bool
}

// Message is what a client has published.
type Message struct {
	Draft
	ID   string // "" for one to the hosting program alone
	Time time.Time
}

// Observer is the hosting program. Its methods are called from the midst of the hub, and must not
// wait; what they are given is theirs.
type Observer interface {
	// Before may refuse a message that a client wants to publish, with a Refusal, or change it.
	Before(ctx context.Context, d *Draft) error

	// Listens reports whether it wants to hear of messages, which have to be copied for it.
	Listens() bool

	// Messages hears of what was published in one request. It takes all of it, or reports that it
	// could not.
	Messages(list []Message) bool

	// Session hears of Connect, Reconnect, Disconnect, Join and Leave.
	Session(e session.Event)

	// Dropped returns how many events it could not take.
	Dropped() uint64
}

// ErrProgram says that the hosting program failed as it was asked about a message.
var ErrProgram = errors.New("the program that hosts the hub failed on this message; its log says why")

// Refusal is an error of a BeforePublish hook, whose text the client is sent.
type Refusal struct{ Err error }

func (e *Refusal) Error() string { return e.Err.Error() }
func (e *Refusal) Unwrap() error { return e.Err }
