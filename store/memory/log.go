package memory

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Defaults of Options, and the least MaxMemory.
const (
	DefaultMaxMemory = 128 << 20
	MinMaxMemory     = 1 << 20
	DefaultMaxGroups = 100_000
)

// Options bound a log. Zero values mean the defaults.
type Options struct {
	MaxMemory int64        // bytes of memory for all history together; at least MinMaxMemory
	MaxGroups int          // most groups
	Behind    bool         // messages without room are held by another log: they are spilled, not lost
	Server    store.Policy // the server's policy, which all others inherit

	// Part is set for a log that is part of another. It takes the epoch, the newest seq and the clock
	// for losses from there, and accepts all policies that the other log accepted.
	Part   bool
	Epoch  string
	Newest store.Seq
	Losses *store.Clock
}

// Log is a store.Store in memory.
type Log struct {
	life        atomic.Pointer[life]
	spilledTo   atomic.Uint64 // the newest message spilled from any group; 0: none
	nextAge     atomic.Int64  // when the next message becomes too old, ms
	longestHold atomic.Int64  // the longest hold of the lock so far, in steps
	wakes       store.Watchers
	codec       func() codec
	stamps      *store.Stamps // nil for a part of another log that has its own

	mu       sync.RWMutex // guards the fields below
	opts     Options
	policies store.Policies
	arena    *arena
	rings    map[string]*ring
	names    store.Names[*ring] // the same, in the order of their names
	ringNo   uint32             // of the newest ring
	chunks   []*chunk           // by number
	unused   []int              // numbers of chunks that are nil
	order    *order
	retained *order
	bySize   *queue[*ring]
	byAge    *queue[*ring]  // only rings with a MaxAge
	byExpiry *queue[*chunk] // only chunks whose messages all have an expiry
	bySpill  *queue[*ring]  // only rings with spilled messages
	lost     [2]*ring       // by kind of loss: the ring with the latest
	lingers  []lingering
	idle     []*ring
	outside  []*ring // with nothing but spilled messages
	targets  []*ring // of the entries being appended
	scratch  unpacked

	clock     int64        // the newest message's time, ms
	lostMax   [2]store.Seq // by kind of loss: the newest message lost in any group
	forgotten lostGroup
	missing   store.Loss // of all groups, see Lose
	unnamed   unnamed
	messages  int64
	bytes     int64
	evictions uint64
	advanced  uint64 // evictions up to which oldest is exact
	timer     *time.Timer
	timerDue  int64
	closed    bool
}

var _ store.Store = (*Log)(nil)

// New returns an empty log of a new epoch.
func New(o Options) *Log {
	if o.MaxMemory <= 0 {
		o.MaxMemory = DefaultMaxMemory
	}
	o.MaxMemory = max(o.MaxMemory, MinMaxMemory)
	if o.MaxGroups <= 0 {
		o.MaxGroups = DefaultMaxGroups
	}
	if o.Epoch == "" {
		o.Epoch = store.NewEpoch()
	}
	if o.Losses == nil {
		o.Losses = new(store.Clock)
	}
	l := &Log{opts: o, codec: sync.OnceValue(newCodec)}
	if !o.Part || o.Behind {
		l.stamps = new(store.Stamps)
	}
	l.life.Store(newLife(o.Epoch, o.Newest))
	l.empty()
	return l
}

// life is the time of one epoch.
type life struct {
	epoch  string
	oldest atomic.Uint64 // no message up to here is held
	newest atomic.Uint64 // the last seq appended
}

func newLife(epoch string, newest store.Seq) *life {
	x := &life{epoch: epoch}
	x.oldest.Store(uint64(newest))
	x.newest.Store(uint64(newest))
	return x
}

// empty resets the log to hold nothing.
func (l *Log) empty() {
	l.arena = newArena(l.opts.MaxMemory)
	l.rings, l.names = map[string]*ring{}, store.Names[*ring]{}
	l.chunks, l.unused, l.lingers, l.idle, l.outside = nil, nil, nil, nil, nil
	l.order = &order{arena: l.arena, purpose: history}
	l.retained = &order{arena: l.arena, purpose: pinned}
	l.bySize, l.byAge, l.byExpiry, l.bySpill = largest(), soonest(), expiring(), furthest()
	l.lost, l.lostMax, l.forgotten = [2]*ring{}, [2]store.Seq{}, lostGroup{}
	l.missing, l.unnamed = store.Loss{}, unnamed{}
	l.spilledTo.Store(0)
	l.messages, l.bytes = 0, 0
	l.schedule(0)
}

// Bounds implements store.Log.
func (l *Log) Bounds() (oldest, newest store.ID) {
	now := l.life.Load()
	old := now.oldest.Load() // read first, since it must not exceed newest, and both rise
	return store.ID{Epoch: now.epoch, Seq: store.Seq(old)}, store.ID{Epoch: now.epoch, Seq: store.Seq(now.newest.Load())}
}

// last returns the seq of the newest message.
func (l *Log) last() store.Seq { return store.Seq(l.life.Load().newest.Load()) }

// advance moves oldest forward to the first message held, in a bounded number of steps. While messages are
// spilled it stays where it is, before them.
func (l *Log) advance() {
	if l.advanced == l.evictions || l.spilledTo.Load() > 0 {
		return
	}
	now := l.life.Load()
	w := l.order.after(store.Seq(now.oldest.Load()))
	for range maxHoldSteps {
		seq, at, ok := w.next()
		if !ok {
			l.advanced = l.evictions
			now.oldest.Store(now.newest.Load())
			return
		}
		now.oldest.Store(uint64(seq) - 1)
		if at.slot >= l.chunks[at.chunk].evicted {
			l.advanced = l.evictions
			return
		}
	}
}

// Age implements store.Dated.
func (l *Log) Age(seq store.Seq, now time.Time) (time.Duration, bool) { return l.stamps.Age(seq, now) }

// Watch implements store.Log.
func (l *Log) Watch(wake chan<- struct{}) (stop func()) { return l.wakes.Add(wake) }

// Close implements store.Log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.drop()
	now := l.life.Load()
	now.oldest.Store(now.newest.Load())
	return nil
}

// Reset drops all messages, losses and policies, and begins an epoch in which newest is the last seq used.
// Watchers are woken.
func (l *Log) Reset(epoch string, newest store.Seq) {
	l.mu.Lock()
	defer l.wakes.Wake()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.drop()
	l.clock, l.policies = 0, store.Policies{}
	l.life.Store(newLife(epoch, newest))
}

// drop drops all messages and their memory.
func (l *Log) drop() {
	for _, r := range l.rings {
		r.chunks, r.retained = nil, nil // a read that has surveyed the groups may still refer to it
	}
	for _, c := range l.chunks {
		if c != nil {
			c.ring = nil // so that a running pack ends
			l.arena.release(c.mem)
		}
	}
	l.arena.close()
	l.empty()
}
