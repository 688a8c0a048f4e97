package hub

import (
	"context"
	"errors"
	"time"
	"unsafe"

	"github.com/watchbox-go/watchbox/internal/session"
)

// Draft is a message before it is published. A BeforePublish hook may change it.
type Draft struct {
	Group   string
	UID     string
	Subject string // of the sender's grant
	Event   string
	Meta    [][2]string // names and values, in the sender's order
	Kind    Kind        // Bytes or JSON
	Data    []byte

	// A hook does not change these.
	TTL    time.Duration // after which the message expires; 0: never; or AtOnce
	Retain bool
}

// Message is a message that a client has published.
type Message struct {
	Draft
	ID   string // "" for a message to the embedding program only
	Time time.Time
}

// Size returns about how many bytes of memory the message takes.
func (m *Message) Size() int {
	n := len(m.Data)
	for _, p := range m.Meta {
		n += len(p[0]) + len(p[1]) + int(unsafe.Sizeof(p))
	}
	return n
}

// Observer is the embedding program. Its methods must not block, since the hub may call them with locks
// held. They own their arguments.
type Observer interface {
	// Before is called before a client's message is published. It may change the message, or refuse it
	// with a Refusal. A group that it gives to a message to the embedding program only is ignored.
	Before(ctx context.Context, d *Draft) error

	// Listens reports whether the program wants published messages. If not, the hub does not copy them.
	Listens() bool

	// Messages receives the messages of one request after they were published. It accepts all of them
	// and returns true, or none and returns false.
	Messages(list []Message) bool

	// Session receives the events Connect, Reconnect, Disconnect, Join and Leave.
	Session(e session.Event)

	// Dropped returns how many events the program was too slow to accept.
	Dropped() uint64

	// Waiting returns how many bytes the messages have that the program has accepted and not handled yet.
	Waiting() int64
}

// ErrProgram reports that the BeforePublish hook of the embedding program panicked.
var ErrProgram = errors.New("the program that embeds the hub failed on this message; see its log")

// Refusal is an error that a BeforePublish hook returned. Its text is sent to the client.
type Refusal struct{ Err error }

func (e *Refusal) Error() string { return e.Err.Error() }
func (e *Refusal) Unwrap() error { return e.Err }
