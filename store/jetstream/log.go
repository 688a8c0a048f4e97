package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// reconnectWait is how long to wait between two attempts to reach a server.
const reconnectWait = 250 * time.Millisecond

// Log is a store.Store that shares its messages with other hubs. The zero value is not usable.
type Log struct {
	opts     Options
	subjects subjects
	self     uint64 // random: distinguishes the appends of this log from those of others
	nc       *nats.Conn
	offline  atomic.Bool               // there is no connection to the servers
	readAt   atomic.Pointer[time.Time] // this hub has read what the stream had then, as its leader said; nil: not yet
	js       jetstream.JetStream
	stream   jetstream.Stream
	bucket   bucket
	wrote    remembered // into the bucket; only the janitor uses it after Open

	mem   *memory.Log
	notes noteTable
	tail  *tail
	hold  atomic.Pointer[func(context.Context)] // see Pace
	hubs  *hubs

	pending     pending
	room        room
	away        away
	askEnd      question[store.ID] // where the stream ends
	askEpoch    question[string]   // which epoch it has
	askMajority question[bool]     // whether its leader can store messages
	purges      purges             // by others
	unheard     unheard            // whether there may be more of them
	batches     chan struct{}      // a token for each batch in flight

	ctx      context.Context // ends with Close
	stop     context.CancelFunc
	tidying  context.Context // ends before: the janitor does not go on
	endTidy  context.CancelFunc
	leaving  atomic.Bool     // Close was called: nothing more can be appended
	blocked  context.Context // ends with Unblock
	unblock  context.CancelFunc
	running  sync.WaitGroup
	cleaning sync.WaitGroup // the janitor
	closed   atomic.Bool
	opening  atomic.Pointer[context.CancelCauseFunc] // ends Open, while it runs
}

var (
	_ store.Store    = (*Log)(nil)
	_ store.Failing  = (*Log)(nil)
	_ store.Shared   = (*Log)(nil)
	_ store.Paced    = (*Log)(nil)
	_ store.Settling = (*Log)(nil)
)

// Open opens the log, and creates its stream if it does not exist. It returns once everything that the stream
// has is read. ctx is only for Open.
func Open(ctx context.Context, o Options) (*Log, error) {
	l := &Log{opts: o.withDefaults(), self: random(), batches: make(chan struct{}, maxBatches)}
	l.subjects = subjectsOf(l.opts.Stream)
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.tidying, l.endTidy = context.WithCancel(l.ctx)
	l.blocked, l.unblock = context.WithCancel(l.ctx)
	l.notes.init()
	l.room.wake = make(chan struct{}, 1)
	l.pending.init()
	l.unheard.init()
	l.tail = newTail(l)
	l.hubs = newHubs(l)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	l.opening.Store(&fail)
	err := l.open(ctx)
	l.opening.Store(nil)
	if denied, ok := errors.AsType[*deniedError](context.Cause(ctx)); ok {
		err = denied
	}
	if err != nil {
		_ = l.Close() // the error of open says more
		return nil, err
	}
	return l, nil
}

func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

func (l *Log) open(ctx context.Context) (err error) {
	if err = l.connect(); err != nil {
		return err
	}
	if l.js, err = jetstream.New(l.nc); err != nil {
		return err
	}
	if err = l.checkPermissions(ctx); err != nil {
		return err
	}
	var found found
	err = patiently(ctx, func(ctx context.Context) (err error) { found, err = l.findStream(ctx); return err })
	if err != nil {
		return err
	}
	if err = l.listenForReplies(); err != nil {
		return err
	}
	l.mem, l.tail.past, l.tail.created = l.newMemory(found.epoch), found.past, found.created
	l.tail.noteAfter(found.counted)
	if err = l.tail.watchDeletion(); err != nil {
		return err
	}
	if err = l.tail.start(ctx); err != nil {
		return err
	}
	if found.purged {
		if err = l.purgedAtStart(ctx); err != nil {
			return err
		}
	}
	if err = l.watchPurges(); err != nil {
		return err
	}
	if err = l.learnPurges(ctx, l.checkAtStart); err != nil {
		return err
	}
	if err = patiently(ctx, l.remember); err != nil && !isFull(err) {
		return err
	}
	l.cleaning.Go(l.runJanitor)
	l.running.Go(l.runQuestions)
	if err = l.hubs.start(); err != nil {
		return err
	}
	return l.settlePermissions(ctx)
}

// newMemory returns an empty log in memory.
func (l *Log) newMemory(epoch string) *memory.Log {
	return memory.New(memory.Options{
		MaxMemory: l.opts.MaxMemory, MaxGroups: l.opts.MaxGroups, Server: l.opts.Server.Or(store.Policy{Store: store.Disk}),
		Behind: true, Part: true, Epoch: epoch,
	})
}

// Bounds implements store.Log.
func (l *Log) Bounds() (oldest, newest store.ID) { return l.mem.Bounds() }

// Age implements store.Dated: since this hub has placed the message.
func (l *Log) Age(seq store.Seq, now time.Time) (time.Duration, bool) { return l.mem.Age(seq, now) }

// Watch implements store.Log.
func (l *Log) Watch(wake chan<- struct{}) (stop func()) { return l.mem.Watch(wake) }

// Unblock implements store.Failing.
func (l *Log) Unblock() { l.unblock() }

// Err implements store.Failing.
func (l *Log) Err() error {
	switch {
	case l.leaving.Load():
		return store.ErrClosed
	case l.offline.Load():
		return l.awayFor("there is no connection to a NATS server")
	case !l.tail.following():
		return l.awayFor("the NATS servers do not deliver the stream")
	}
	if why := l.silent(); why != "" {
		return l.awayFor(why)
	}
	return l.shortage()
}

// Close implements store.Log.
func (l *Log) Close() error {
	if l.leaving.Swap(true) {
		return nil
	}
	l.endTidy()
	l.cleaning.Wait() // it counts what was stored, which the tail has to receive
	l.closed.Store(true)
	l.stop()
	if l.nc != nil {
		l.hubs.give(true)
		l.tail.detach()
		l.nc.Close()
	}
	l.running.Wait()
	if l.mem == nil {
		return nil
	}
	return l.mem.Close()
}
