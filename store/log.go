package store

import (
	"context"
	"iter"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// Log is one ordered log of messages. Its methods may be called at once. See the package comment
// for what an implementation promises.
type Log interface {
	// Append stores the entries next to each other, all or none, and returns the id of the
	// first. It returns when the store holds them as durably as it ever will; until then nobody
	// can read them. It does not keep the entries.
	Append(ctx context.Context, entries []Entry) (ID, error)

	// Read fills b with what q asks for. It does not wait: nothing there is no error. One call looks
	// at a bounded number of messages, so that it keeps others from the log for a moment only. If it
	// stops before the end, there may be room left in the batch, or no message in it at all, and
	// Batch.Next, which is above q.After then, is where to go on. A read looks at the groups that
	// match, and not at all messages, where that is less.
	Read(q Query, b *Batch) error

	// Find returns the position behind which the messages that s asks for lie. Like Read, it holds
	// up others for a moment only.
	Find(filters group.Set, s Start) Seq

	// Bounds returns the epoch with the oldest and the newest position. Messages that are held
	// have ids above oldest, up to newest.
	Bounds() (oldest, newest ID)

	// Watch has wake sent to, without blocking, after each append, until stop is called. The
	// channel should have room for one.
	Watch(wake chan<- struct{}) (stop func())

	// Close frees what the log holds. Calls under way end; later ones return ErrClosed.
	Close() error
}

// Keeper decides what a log keeps.
type Keeper interface {
	// SetPolicy replaces the policy of a filter; one that says nothing removes it. It returns when
	// what the policy does not keep is evicted, or ErrTooManyPolicies if there are MaxPolicies.
	SetPolicy(f group.Filter, p Policy) error

	// Policy returns the effective policy of a filter, with nothing left to inherit.
	Policy(f group.Filter) Policy

	// Purge evicts all messages of a group, the retained one too.
	Purge(name string) error

	// Groups returns what is known of the groups that q asks for and that hold something, in the
	// order of their names. It looks at q.Limit groups at most, so that the page may be shorter or
	// empty; next is the name to go on after, or "" if there are no more.
	Groups(q GroupQuery) (page []GroupInfo, next string)

	// Usage returns the sums over all groups.
	Usage() Usage
}

// Store is what a hub needs of one.
type Store interface {
	Log
	Keeper
}

// Selector chooses groups. A group.Set is one.
type Selector interface {
	Match(group string) bool
}

// Query asks for messages behind a position.
type Query struct {
	Select   Selector
	After    Seq  // the position
	Through  Seq  // read up to here; 0: to the end
	Retained bool // the retained messages instead of the log's

	// Told is what Batch.Told was after an earlier read of the same filters, at this position or
	// before: what was lost by then is no gap again, what is lost later is one wherever it lies. A
	// reader that passes it on is spared a look at all groups.
	Told uint64

	// Live is set for a listener that has been given all before After as it came. It also gets
	// what a policy evicted a moment ago, if the store still has it, instead of a gap.
	Live bool
}

// Batch is what Read fills. Its buffers are kept over calls.
type Batch struct {
	// Buf has the frames' bytes back to back. Its capacity bounds a read: as many whole frames
	// as fit, but at least one, for which it grows.
	Buf    []byte
	Frames []Frame // their Bytes lie in Buf
	Next   Seq     // all that matched up to here is in the batch
	Gaps   []Gap   // what was evicted between the position and the frames
	Epoch  string
	Told   uint64 // how much the store had lost, for Query.Told

	Scratch any // the store's own
}

// Reset empties b, keeping its buffers.
func (b *Batch) Reset(epoch string) {
	b.Buf, b.Frames, b.Gaps, b.Next, b.Epoch = b.Buf[:0], b.Frames[:0], b.Gaps[:0], 0, epoch
	b.Told = 0
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

// Start says where a listener that has no position wants to begin. One of its fields is set;
// none means with all that is held.
type Start struct {
	Since time.Time // messages of this time or later
	Last  int       // the newest so many
}

// Noter is a Log that outlives the process, and keeps notes beside the messages for whoever uses
// it.
type Noter interface {
	// AppendNoted is Append with notes that are stored along: all of it or nothing. There may be
	// no entries.
	AppendNoted(ctx context.Context, entries []Entry, notes ...Note) (ID, error)

	// Notes gives each note there is to yield, by key, until it returns an error.
	Notes(yield func(Note) error) error
}

// Note is a small value under a name.
type Note struct {
	Key   string
	Value []byte // nil: the note is removed
	Seq   Seq    // of the first entry that it was stored with; set by the store
}

// Failing is a Log that may come to take no more messages, while those that it holds can be read.
type Failing interface {
	// Err returns why it never will again, or nil.
	Err() error
}

// GroupQuery asks for a page of groups.
type GroupQuery struct {
	Prefix string // only names that begin so
	After  string // only names above this one
	Limit  int    // how many groups to look at; above 0
}

// groupPage is how many groups EachGroup looks at in a call.
const groupPage = 512

// EachGroup yields the groups whose names begin with prefix and that hold something, in the order
// of their names. It reads page by page: groups that come and go meanwhile may be missed.
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

// GroupInfo is what is known of a group.
type GroupInfo struct {
	Group          string
	Messages       int64
	Bytes          int64   // of the frames
	Rate           float64 // messages a second, see Rate
	Oldest, Newest Seq     // 0 where none is held
	Retained       bool
}

// Usage sums up a store.
type Usage struct {
	Groups   int64
	Messages int64
	Bytes    int64  // of the frames
	Memory   int64  // bytes of memory taken for history
	Disk     int64  // bytes taken on disk
	Evicted  uint64 // messages evicted since the start
}
