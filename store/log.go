package store

import (
	"context"
	"iter"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Log is one ordered log of messages. Its methods may be called concurrently. The package comment
// lists what an implementation promises.
type Log interface {
	// Append stores the entries with consecutive ids, all or none, and returns the id of the
	// first. It returns once they are as durable as the store makes them, and no reader sees them
	// before. It does not keep the entries.
	Append(ctx context.Context, entries []Entry) (ID, error)

	// Read fills b with the messages that q selects. It does not wait for messages: an empty batch is
	// no error. One call examines a bounded number of messages, so that it blocks other calls only
	// briefly. It may therefore stop before the end with room left in the batch, or without any
	// message; the reader continues from Batch.Next, which is above q.After in that case. If it is
	// cheaper, a read looks at the matching groups instead of all messages.
	Read(q Query, b *Batch) error

	// Find returns the position after which the messages that s asks for begin. Like Read, it blocks
	// other calls only briefly. An error means that messages could not be read.
	Find(filters group.Set, s Start) (Seq, error)

	// Bounds returns the oldest and the newest position. Messages that are held have ids above
	// oldest, up to newest.
	Bounds() (oldest, newest ID)

	// Watch sends to wake after each append, without blocking, until stop is called. The channel
	// should have a buffer of one.
	Watch(wake chan<- struct{}) (stop func())

	// Close frees the log's resources. It lets running calls end; later ones return ErrClosed.
	Close() error
}

// Keeper controls what a log keeps, and describes it.
type Keeper interface {
	// SetPolicy replaces the policy of a filter; the zero Policy removes it. It returns once the
	// messages that the policy does not keep are evicted, or ErrTooManyPolicies if there are
	// MaxPolicies already.
	SetPolicy(f group.Filter, p Policy) error

	// Policy returns the effective policy of a filter, with all properties resolved.
	Policy(f group.Filter) Policy

	// OwnPolicy returns the policy that was set for a filter, and the effective policy that the filter
	// would have without it.
	OwnPolicy(f group.Filter) (own, inherited Policy)

	// Purge evicts all messages of a group, including the retained one.
	Purge(name string) error

	// Groups returns a page of the groups that hold messages, sorted by name. It examines at most
	// q.Limit groups, including those that hold nothing, so that the page may be shorter or empty.
	// next is the name after which to continue, or "" at the end.
	Groups(q GroupQuery) (page []GroupInfo, next string)

	// Usage returns the sums over all groups.
	Usage() Usage
}

// Store is what a hub needs: a log, and control over what it keeps.
type Store interface {
	Log
	Keeper
}

// Selector chooses groups. A group.Set is one.
type Selector interface {
	Match(group string) bool
}

// Query asks for messages after a position.
type Query struct {
	Select   Selector
	After    Seq  // the position
	Through  Seq  // read up to here; 0: to the end
	Retained bool // read the retained messages instead of the log

	// Reported is Batch.Reported of an earlier read with the same filters, at this position or before.
	// Losses up to that time are not reported again; later ones are, wherever they lie. Passing it
	// on saves the store a check of all groups.
	Reported uint64

	// Live is set by a reader that received everything up to After as it was appended. Instead of a
	// gap it gets messages that a policy evicted a moment ago, if the store still has them.
	Live bool

	// NoWait is set by a reader that must not wait for another machine: if messages after the position have
	// to be asked for there, Read returns ErrWouldWait.
	NoWait bool
}

// Batch is what Read fills. Its buffers are kept over calls.
type Batch struct {
	// Buf holds the frames' bytes back to back. Its capacity bounds a read: a batch has as many
	// whole frames as fit. The buffer grows if the first frame does not fit.
	Buf      []byte
	Frames   []Frame // their Bytes lie in Buf
	Next     Seq     // everything that matched up to here is in the batch
	Gaps     []Gap   // evicted messages after the position
	Epoch    string
	Reported uint64 // the time of the newest loss that this read knows, for Query.Reported

	Scratch any // the store's own
}

// Reset empties b, keeping its buffers.
func (b *Batch) Reset(epoch string) {
	b.Buf, b.Frames, b.Gaps, b.Next, b.Epoch = b.Buf[:0], b.Frames[:0], b.Gaps[:0], 0, epoch
	b.Reported = 0
}

// Room reports whether a frame of n bytes fits, and grows the buffer for a first one.
func (b *Batch) Room(n int) bool {
	if len(b.Buf)+n <= cap(b.Buf) {
		return true
	}
	if len(b.Buf) > 0 {
		return false
	}
	b.Buf = make([]byte, 0, n)
	return true
}

// Gap says that messages which a filter matched are no longer held.
type Gap struct {
	Filter  string
	Evicted Seq // the newest of them
}

// Start says where a listener without a position begins. At most one field is set; none means at
// the oldest message held.
type Start struct {
	Since time.Time // messages of this time or later
	Last  int       // this many of the newest
}

// Noter is a Log that outlives the process and stores notes beside the messages.
type Noter interface {
	// AppendNoted is Append with notes that are stored in the same step, all or nothing. There may
	// be no entries.
	AppendNoted(ctx context.Context, entries []Entry, notes ...Note) (ID, error)

	// Notes calls yield with each note, sorted by key, until it returns an error.
	Notes(yield func(Note) error) error
}

// Note is a small value under a name.
type Note struct {
	Key   string
	Value []byte // nil removes the note
	Seq   Seq    // of the first entry stored with it; set by the store

	// At is the position of this version of the note. A Shared log sets it in the notes that it
	// passes to its callers; other logs leave it 0.
	At Seq

	// Why is a word about the removal of the note. A Shared log passes it on to Follow; others ignore it.
	Why string

	// Own says that this log has appended this version. A Shared log sets it in the notes that it passes to Follow.
	Own bool

	// Guarded makes AppendNoted compare and set: it stores nothing and returns ErrConflict unless the
	// newest version of the note is At, or there is no such note if At is 0. At has to be a version that
	// this log has told. Only a Shared log needs
	// it. Other logs have one hub, which knows what it wrote, and ignore it.
	Guarded bool

	// Brief says that the note may be forgotten once the first entry stored with it is evicted. A
	// Shared log then keeps it with that entry, which is cheaper. If it is Guarded, too, the log looks back a
	// minute at least for a note with the key. A hub knows the older ones.
	Brief bool
}

// Failing is a Log that may be unable to take messages, while those that it holds can be read.
type Failing interface {
	// Err returns why it takes no messages, or nil: ErrReadOnly if it never will again, ErrFull
	// if it will when there is room.
	Err() error

	// Unblock lets no call wait for room any more: it fails instead. It is called before the log
	// is closed, so that everything that uses it can end.
	Unblock()
}

// GroupQuery asks for a page of groups.
type GroupQuery struct {
	Prefix string // only names with this prefix
	After  string // only names that sort after this one
	Limit  int    // how many groups to examine; above 0
	Time   int64  // rates are those of this time, in ms; 0: now
}

// Now returns the time of the rates.
func (q *GroupQuery) Now() int64 {
	if q.Time != 0 {
		return q.Time
	}
	return time.Now().UnixMilli()
}

// groupPage is how many groups EachGroup examines per call.
const groupPage = 512

// EachGroup yields the groups with a prefix that hold messages, sorted by name. It reads page by
// page, so that groups added or removed meanwhile may be missed.
func EachGroup(k Keeper, prefix string) iter.Seq[GroupInfo] {
	return func(yield func(GroupInfo) bool) {
		for q := (GroupQuery{Prefix: prefix, Limit: groupPage}); ; {
			page, next := k.Groups(q)
			for _, g := range page {
				if !yield(g) {
					return
				}
			}
			if q.After = next; next == "" {
				return
			}
		}
	}
}

// GroupInfo describes a group.
type GroupInfo struct {
	Group          string
	Messages       int64
	Bytes          int64   // of the frames
	Rate           float64 // messages a second, see Rate
	Oldest, Newest Seq     // 0 where none is held
	Retained       bool
}

// Usage is a store's totals.
type Usage struct {
	Groups   int64
	Messages int64
	Bytes    int64  // of the frames
	Memory   int64  // bytes of memory used for history
	Disk     int64  // bytes used on disk
	Evicted  uint64 // messages evicted since the start

	MaxMemory, MaxDisk int64 // the bounds of Memory and Disk; 0: none
}
