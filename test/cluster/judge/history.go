// Package judge decides whether what clients of one or several hubs saw is what Watchbox promises. It knows nothing of
// hubs, only a history that the clients recorded.
package judge

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// History is what clients did and saw. Each body that they published, also as a will, is unique.
type History struct {
	Posts     []Post
	Listeners []Listener
	Sessions  []Session
	Purges    []Purge
	Answers   []Answer

	// Crashed says that a hub was killed that shares its log with nobody. It keeps the server groups in memory only, so that their
	// messages may be missing, and sessions may be back that were not announced as lost. All that hubs have acknowledged has to
	// be there otherwise, also if all of them were killed at once.
	Crashed bool
}

// Post is an attempt to publish messages, all or none. Attempts with the same key are repeats of one.
type Post struct {
	Hub        string
	Key        string
	Messages   []Message
	Outcome    Outcome
	First      ID // of the messages, if they were stored; the ids of the others follow
	Last       ID
	Start, End time.Time
}

// Message is a group and a body.
type Message struct{ Group, Body string }

// Outcome is what a hub answered.
type Outcome int

// The outcomes of a Post.
const (
	Unknown Outcome = iota // no answer, or one that leaves it open
	Stored
	Refused
)

// Listener is a client that follows a filter, at one hub after the other, from the id of its first event.
type Listener struct {
	Name, Filter string
	Events       []Event
}

// Event is one that moved the position of a Listener.
type Event struct {
	Hub  string
	Kind Kind
	ID   ID
	Message
}

// Kind is the kind of an Event.
type Kind int

// The kinds of an Event.
const (
	Position Kind = iota // the begin of a stream, or a heartbeat: all before is delivered
	Delivery
	Gap // of what follows, some messages were removed
)

// Purge removed messages, or may have.
type Purge struct {
	Filter  string // of their groups; "": of all, also the server's own
	Through ID     // an id that was given out after it
}

// Session is a client with a last will without delay. It subscribes to one filter.
type Session struct {
	UID       string
	Absences  int      // how often it had no stream for about the time-out or longer, or was ended
	WillGroup string   // to which it alone has its wills published
	Wills     []string // bodies of the wills that must have been published
	Here      bool     // it has a stream at the end
}

// Answer is what a hub answers to a question when everything has come to rest.
type Answer struct{ Question, Hub, Text string }

// ID is a message's id.
type ID struct {
	Epoch string
	Seq   uint64
}

// ParseID parses an id as clients see it. The zero ID stands for none.
func ParseID(s string) ID {
	epoch, seq, _ := strings.Cut(s, "-")
	n, _ := strconv.ParseUint(seq, 10, 64)
	return ID{epoch, n}
}

func (id ID) String() string { return id.Epoch + "-" + strconv.FormatUint(id.Seq, 10) }

func byID(a, b ID) int { return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq)) }
