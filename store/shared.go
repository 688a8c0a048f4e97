package store

import (
	"context"
	"time"
)

// Shared is a log that several hubs use at once. All of them read the same messages and notes, in the
// same order. A hub that opens the log has everything that was appended before. What it appends or changes
// itself, it can read when the call returns. storetest.RunShared tests these promises.
//
// Its AppendNoted checks notes that are Guarded. The notes that are not Brief have positions, too: those
// behind the entries, in their order. Without entries, the id that AppendNoted returns is the position of the
// first note.
type Shared interface {
	Noter

	// Follow calls f with each note that exists, and then with each note that a hub stores or removes,
	// this one too, in the order of the log. A version that another one replaces before this hub has read
	// it may be skipped, even if this hub has stored it. A removed note has no Value, Why is what the hub said that removed
	// it, and At is the position of its removal; 0: no hub has removed it, but the log has lost it. f is called with a note before messages
	// that were stored with it, or after it, can be read. Follow returns when f has been called with all notes that existed. It is called at most
	// once. f must not block and must not call the log. It may keep a note's Value, and must not change it.
	//
	// If the log begins a new epoch, all notes are lost. f is told by a note with the key EpochNote. The log stores those again
	// that the hubs know, except brief ones: f is called for them with their new positions.
	Follow(f func(Note)) error

	// Reach waits until this hub has read the log up to an id, which a client may have from another hub. It returns
	// false if the log does not have the id: it ends before, or has another epoch. An id without an epoch is one of the
	// log's. If neither is certain when ctx ends, because the log cannot be reached or this hub is behind, Reach returns
	// ErrAway. It returns ErrClosed when the log is closed or unblocked.
	Reach(ctx context.Context, id ID) (bool, error)

	// CatchUp waits until this hub has read what any hub had appended before the call. It returns ErrAway if that is not certain when
	// ctx ends, and ErrClosed when the log is closed or unblocked. Many calls at once cost little more than one.
	CatchUp(ctx context.Context) error

	// PurgeThrough evicts the messages of a group up to a position, including the retained one, and keeps later ones. It waits until this
	// hub has read the log up to there, and returns ErrAway if that takes too long. A position of another epoch has nothing to evict.
	PurgeThrough(name string, through ID) error

	// Hubs returns the hubs that share the log.
	Hubs() Hubs
}

// EpochNote is the key of the note by which Follow tells that the log has begun a new epoch, without notes.
const EpochNote = "epoch"

// Paced is a log to which others append, too.
type Paced interface {
	// Pace sets a function that the log calls before it lets others' messages be read, as often as it likes
	// and without holding a lock. hold returns when all that could be read before is delivered, or after
	// half a second. It is called at most once.
	Pace(hold func(context.Context))
}

// Settling is a log that may find out what has become of an append after the append has returned ErrUnknownOutcome.
type Settling interface {
	// AppendSettling is AppendNoted with at least one entry. If it returns ErrUnknownOutcome and the log reads later that it holds the entries, it
	// calls stored once, with the id of the first. It does so before any append with a higher id returns. stored must not block and
	// must not call the log. The log may fail to do so if there are many such appends, after a long time, and when a
	// new epoch begins.
	AppendSettling(ctx context.Context, entries []Entry, stored func(first ID), notes ...Note) (ID, error)
}

// Hubs are the hubs that share a log. Its methods may be called concurrently.
type Hubs interface {
	// Self returns the id of this hub. Each start of a hub has an id of its own, and so has a hub after
	// Renew.
	Self() string

	// Alive reports whether a hub has given a sign of life within SilentFor. While this hub
	// cannot reach the others, it keeps its last answer.
	Alive(id string) bool

	// Heard returns when this hub last heard a sign of life of another hub; the zero time: never.
	Heard(id string) time.Time

	// List returns the hubs that are alive, this one too, sorted by id.
	List() []Hub

	// Call sends a request to a hub and returns its reply. It returns ErrNoHub if there is no such hub, or if the others
	// have given it up, and the error of ctx if the reply does not arrive in time. It also returns ErrNoHub if a hub that
	// is alive cannot be reached for about a second: it does not serve, or it is cut off. The request may have been
	// carried out even if Call returns another error.
	Call(ctx context.Context, hub string, request []byte) ([]byte, error)

	// Serve sets the function that answers calls of other hubs. It may be called concurrently. Soon after Serve has
	// returned, the others can reach this hub.
	Serve(f func(ctx context.Context, request []byte) []byte)

	// Down sets the function that is called once for each hub that has given no sign of life for
	// SilentFor, on a goroutine of its own. The time in which this hub could not reach the others does not
	// count. f must return soon after the log is closed.
	Down(f func(id string))

	// Renew gives this hub a new id, because the others have given up the old one.
	Renew()
}

// SilentFor is how long a hub may be silent before the others give it up.
const SilentFor = 6 * time.Second

// Hub describes one of the hubs that share a log.
type Hub struct {
	ID    string
	Name  string // for people, such as a host's name; several may have the same
	Since time.Time
}
