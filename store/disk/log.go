package disk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/duration"
	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Defaults of Options, and the least MaxMemory.
const (
	DefaultMaxMemory = 128 << 20
	MinMaxMemory     = 1 << 20
	DefaultMaxGroups = 100_000
)

// Fsync says when messages are synced to disk.
type Fsync time.Duration

// The ways to sync. Any other value above 0 is the longest delay.
const (
	Always Fsync = 0  // before Append returns
	Never  Fsync = -1 // no promise; in practice within about a second
)

// Intervals are the values of an Fsync that is an interval. They are never changed.
var Intervals = duration.Range{Least: time.Millisecond, Most: time.Hour}

// delay returns how long after a commit to sync.
func (f Fsync) delay() time.Duration {
	if f == Never {
		return time.Second
	}
	return time.Duration(f)
}

// ParseFsync reads "always", "never" or a duration.
func ParseFsync(s string) (Fsync, error) {
	switch s {
	case "always":
		return Always, nil
	case "never":
		return Never, nil
	}
	d, err := Intervals.Parse(s)
	if err != nil {
		return 0, fmt.Errorf("%w, and neither always nor never", err)
	}
	return Fsync(d), nil
}

// InMemory keeps the messages of groups whose policy says store: memory. The log on disk assigns
// their ids and passes on policy changes.
type InMemory interface {
	// SetPolicy replaces the policy of a filter.
	SetPolicy(f names.Filter, p store.Policy) error

	// Place stores all of the entries or none. Their seqs rise, and are above all seqs placed before.
	Place(entries []store.Entry, seqs []store.Seq) error

	// Forget drops the retained message of a group.
	Forget(group string)
}

// Options bound a log. Zero values mean the defaults.
type Options struct {
	Dir       string       // created if it does not exist
	MaxMemory int64        // bytes of memory, independent of the log's length; at least MinMaxMemory
	MaxDisk   int64        // bytes on disk; 0: no bound
	MaxGroups int          // groups with messages, a retained message or a gap
	Server    store.Policy // the policy of filters that have none
	Fsync     Fsync

	// InMemory opens the log for groups whose policy says store: memory, given this log's epoch and
	// newest seq. If it is nil, all groups are on disk.
	InMemory func(epoch string, newest store.Seq) InMemory
	Losses   *store.Clock // shared with the log in memory; nil: a clock of its own

	fs      filesystem   // nil: the system's
	call    func(func()) // as in engine; nil: direct
	changed func()       // called after each turn, and when a writer begins or ends to wait for room; may be nil
	tail    int          // bytes for recent messages; 0: a part of MaxMemory
}

// Log is a store.Store on disk.
type Log struct {
	opts   Options
	epoch  string
	engine *engine
	memory InMemory      // nil: none
	oldest atomic.Uint64 // no message up to here is held
	newest atomic.Uint64 // the last seq that may be read
	wakes  store.Watchers
	stamps store.Stamps
	parked parking

	deletedBytes atomic.Int64 // bytes that deleted messages may still use on disk
	maxHeld      most         // groups that one hold of mu, or one turn that applies policies, examined
	maxExamined  most         // messages that one step of backward examined
	reclaims     atomic.Bool  // tables are being merged to free deletedBytes
	closing      context.Context
	stopMerging  context.CancelFunc // ends closing

	life    sync.RWMutex // read-locked by each call, locked by Close
	closed  bool
	ops     chan *op
	ended   sync.WaitGroup
	refusal atomic.Pointer[error] // why writing has ended, or nil

	mu         sync.RWMutex // guards the fields below; only the committer changes them
	groups     map[string]*group
	names      store.Names[*group] // the same groups, sorted by name
	byNo       map[uint32]*group
	policies   store.Policies
	groupBytes int64 // memory that the groups use
	now        totals
	lost       [lossKinds]*group // by kind: the groups with losses, the latest loss first
	tail       tail

	// Used only by the committer.
	next         totals // becomes now when a commit is on disk
	last         store.Seq
	lives        uint64    // how often the log was opened
	ceiling      store.Seq // no id above it may be given out
	groupNo      uint32    // of the next new group
	clock        int64     // the newest message's time, ms
	emptyGroups  []*group  // groups that hold nothing; they are forgotten if others need their place
	byAge        ageHeap
	nextExpiry   int64    // ms; no message expires before
	overdue      []*group // groups with more to evict than one turn could
	changed      []change // policy changes that are not applied to all groups yet
	sweeping     []*op    // ops that wait until overdue and changed are empty
	deletions    []deletion
	overMax      bool      // messages use more than diskMax
	waitsForRoom bool      // there is no room for due evictions and deletions
	unsynced     time.Time // the time of the first unsynced commit; zero: none
	diskMax      int64     // bytes that messages may use
}

var (
	_ store.Store   = (*Log)(nil)
	_ store.Noter   = (*Log)(nil)
	_ store.Failing = (*Log)(nil)
)

// Open opens the log in a folder, or creates one.
func Open(o Options) (*Log, error) {
	if o.MaxMemory <= 0 {
		o.MaxMemory = DefaultMaxMemory
	}
	o.MaxMemory = max(o.MaxMemory, MinMaxMemory)
	if o.MaxGroups <= 0 {
		o.MaxGroups = DefaultMaxGroups
	}
	o.Server = o.Server.Or(store.Policy{Store: store.Disk})
	if o.fs == nil {
		o.fs = system
	}
	if o.Losses == nil {
		o.Losses = new(store.Clock)
	}
	if o.call == nil {
		o.call = direct
	}
	if o.changed == nil {
		o.changed = func() {}
	}
	if o.tail == 0 {
		o.tail = int(o.MaxMemory / tailParts)
	}
	l := &Log{
		opts: o, ops: make(chan *op, maxOps), groups: map[string]*group{}, byNo: map[uint32]*group{},
		tail: tail{most: o.tail},
	}
	l.closing, l.stopMerging = context.WithCancel(context.Background())
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("the store in %s: %w", o.Dir, err)
	}
	l.ended.Go(l.run)
	return l, nil
}

func (l *Log) open() (err error) {
	o := &l.opts
	if err := checkFormat(o.fs, o.Dir); err != nil {
		return err
	}
	ids, err := readIDs(o.fs, o.Dir)
	if err != nil {
		return err
	}
	eo := engineOptions{
		fs: o.fs, dir: logDir(o.fs, o.Dir), made: ids.life > 0, memory: o.MaxMemory, disk: o.MaxDisk, call: o.call,
		changed: o.changed, onFail: l.fail,
	}
	l.engine, err = openEngine(eo)
	if err != nil && ids.life == 0 && !errors.Is(err, errInUse) { // its creation was interrupted: it is empty
		if firstError(o.fs.RemoveAll(eo.dir), o.fs.MkdirAll(eo.dir, 0o700), syncDir(o.fs, o.Dir)) != nil {
			return describe(err)
		}
		l.refusal.Store(nil)
		l.engine, err = openEngine(eo)
	}
	if err != nil {
		return describe(err)
	}
	l.diskMax = messagesMax(o.MaxDisk, l.engine.memtable)
	if err := l.load(ids); err != nil {
		_ = l.engine.close() // the load error is returned
		return describe(err)
	}
	l.engine.waitForRoom()
	if o.InMemory != nil {
		l.memory = o.InMemory(l.epoch, l.last)
		for f, p := range l.policies.All() {
			if err := l.memory.SetPolicy(f, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// fail makes the log read-only, because the disk failed.
func (l *Log) fail(err error) {
	err = fmt.Errorf("%w: the disk failed: %w", store.ErrReadOnly, err)
	l.refusal.Store(&err)
}

// failure returns why writing has ended, or nil.
func (l *Log) failure() error {
	if p := l.refusal.Load(); p != nil {
		return *p
	}
	return nil
}

// Err implements store.Failing.
func (l *Log) Err() error {
	l.life.RLock()
	defer l.life.RUnlock()
	if err := l.failure(); err != nil || l.closed {
		return err
	}
	if l.engine.room(0) < enough {
		return errFull
	}
	return nil
}

// Unblock implements store.Failing. From then on, a write that finds no room ends writing.
func (l *Log) Unblock() { l.engine.fs.stopWaiting() }

// The errors of a log that has no room.
var (
	errFull     = fmt.Errorf("%w: the disk is full", store.ErrFull)
	errRetained = fmt.Errorf("%w: retained messages take half of the disk space that the store may use", store.ErrFull)
)

// Bounds implements store.Log.
func (l *Log) Bounds() (oldest, newest store.ID) {
	old := l.oldest.Load() // read before newest: both only rise, so oldest is never above newest
	return store.ID{Epoch: l.epoch, Seq: store.Seq(old)}, store.ID{Epoch: l.epoch, Seq: store.Seq(l.newest.Load())}
}

// Age implements store.Dated.
func (l *Log) Age(seq store.Seq, now time.Time) (time.Duration, bool) { return l.stamps.Age(seq, now) }

// Watch implements store.Log.
func (l *Log) Watch(wake chan<- struct{}) (stop func()) { return l.wakes.Add(wake) }

// Append implements store.Log.
func (l *Log) Append(_ context.Context, entries []store.Entry) (store.ID, error) {
	o := newOp()
	o.entries = entries
	return l.do(o)
}

// AppendNoted implements store.Noter.
func (l *Log) AppendNoted(_ context.Context, entries []store.Entry, notes ...store.Note) (store.ID, error) {
	o := newOp()
	o.entries, o.notes = entries, notes
	return l.do(o)
}

// do hands an op to the committer and waits for its result.
func (l *Log) do(o *op) (store.ID, error) {
	l.life.RLock()
	defer l.life.RUnlock()
	if l.closed {
		return store.ID{}, store.ErrClosed
	}
	full := l.engine.fs.full()
	if isClosed(full) {
		return store.ID{}, errFull
	}
	select {
	case l.ops <- o:
	case <-full:
		return store.ID{}, errFull
	}
	select {
	case <-o.done:
		return o.id, o.err
	case <-full:
	}
	if o.taken.CompareAndSwap(false, true) {
		return store.ID{}, errFull // the committer skips the op
	}
	<-o.done // the commit that waits for room has the op, and its result is not known yet
	return o.id, o.err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Close implements store.Log.
func (l *Log) Close() error {
	l.engine.fs.stopWaiting()
	l.stopMerging()
	l.life.Lock()
	closed := l.closed
	l.closed = true
	l.life.Unlock() // all earlier calls have ended
	if closed {
		return nil
	}
	close(l.ops)
	l.ended.Wait()
	l.opts.call(l.parked.clear)
	err := l.engine.close()
	l.oldest.Store(l.newest.Load())
	return err
}

// op is a request to the committer.
type op struct {
	entries []store.Entry
	notes   []store.Note
	change  func(t *turn) error // nil: append
	sweeps  bool                // it is answered when overdue and changed are empty
	id      store.ID
	err     error
	taken   atomic.Bool // set by the committer that takes the op, or by the caller that gives up
	done    chan struct{}
}

func newOp() *op { return &op{done: make(chan struct{}, 1)} }
