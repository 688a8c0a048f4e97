package hub

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// Options of a hub. New expects them complete.
type Options struct {
	MaxMessage      int           // bytes of one message's body
	MaxBatch        int           // bytes of a batch's body
	MaxRequests     int64         // bytes of request bodies, and of what they become, in memory at once
	BodyTimeout     time.Duration // the longest pause in a request's body
	MaxStreams      int           // streams at once; 0: no bound
	MaxFilters      int           // filters of one stream
	MaxUnsent       int64         // bytes kept of messages that sockets have taken in part
	IdempotencyKeys int           // answers to requests with a key that are remembered, the newest
	Retry           time.Duration // after which a client that was cut off is to return
	Heartbeat       time.Duration // after so long without a message
	Logger          *slog.Logger
	Observer        Observer      // the hosting program, or nil
	SessionTimeout  time.Duration // a session that is lost for so long is gone
	Stores          []store.Kind  // where groups may be kept
	LogStreams      bool          // a line when a stream opens and when it closes, at level info
}

// Defaults are the options that are used where the user says nothing.
func Defaults() Options {
	return Options{
		MaxMessage: 1 << 20, MaxBatch: 16 << 20, MaxRequests: 64 << 20, BodyTimeout: 30 * time.Second,
		MaxFilters: 64, MaxUnsent: 32 << 20, IdempotencyKeys: 64 << 10,
		Retry: time.Second, Heartbeat: 15 * time.Second, SessionTimeout: 10 * time.Second, Logger: slog.New(slog.DiscardHandler), Stores: []store.Kind{store.Memory},
	}
}

// Errors that callers tell apart. What the group, store and session packages return is passed on.
var (
	ErrClosed         = errors.New("the hub is shutting down")
	ErrTooManyStreams = errors.New("as many streams are open as may be")
	ErrMismatch       = errors.New("the idempotency key was used for another request")
)

// Hub ties a log to its streams.
type Hub struct {
	opts        Options
	log         store.Store
	notes       store.Noter // the log, if it outlives the hub; or nil
	set         *delivery.Set
	poller      *sse.Poller
	keys        *keys
	budget      *budget
	sessions    *session.Registry
	retries     retries
	full        fullness
	stats       ticker
	streams     atomic.Int64 // open, or about to be
	opening     atomic.Int64 // about to be
	serving     atomic.Int64 // handlers that run a stream
	noRoomUntil atomic.Int64 // until then, ns, no group makes room for another
	opened      atomic.Uint64

	wills      atomic.Int64  // bytes of last wills
	overloaded atomic.Uint64 // requests refused for want of memory
	posts      atomic.Uint64 // messages published
	closing    atomic.Bool
	draining   atomic.Bool

	closeOnce sync.Once
	closeErr  error
}

// leastUserTimeout keeps a connection from being given up for one packet that was lost.
const leastUserTimeout = time.Second

// Bounds of sessions that no option sets.
const (
	leastLost   = 100     // lost sessions, however few streams there may be
	defaultLost = 200_000 // lost sessions, where streams have no bound
	manyFilters = 1024    // filters of one session, if that is less than four streams may have
)

// New starts a hub on a log, which it closes with itself.
func New(log store.Store, o Options) (*Hub, error) {
	poller, err := sse.NewPoller(max(o.SessionTimeout, leastUserTimeout))
	if err != nil {
		return nil, err
	}
	notes, lasts := log.(store.Noter)
	h := &Hub{
		opts: o, log: log, notes: notes, poller: poller,
		keys: newKeys(o.IdempotencyKeys), budget: newBudget(o.MaxRequests),
	}
	// A store that outlives the process may still append what its caller has given up waiting for:
	// it is watched.
	h.set = delivery.NewSet(log, !lasts, o.MaxUnsent)
	h.full.logger = o.Logger
	h.sessions = session.NewRegistry(o.SessionTimeout, h.onSession)
	h.sessions.MaxLost = defaultLost
	if o.MaxStreams > 0 {
		h.sessions.MaxLost = max(leastLost, 2*o.MaxStreams)
	}
	h.sessions.MaxFilters = max(manyFilters, 4*o.MaxFilters)
	for filter, p := range systemPolicies {
		f, err := group.ParseFilter(filter)
		if err == nil {
			err = log.SetPolicy(f, p)
		}
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	if err := h.recall(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Options returns what the hub was made with.
func (h *Hub) Options() Options { return h.opts }

// Poller returns what hears of closed connections.
func (h *Hub) Poller() *sse.Poller { return h.poller }

// Closing reports whether the hub takes nothing new any more.
func (h *Hub) Closing() bool { return h.closing.Load() }

// Drain has Ready say that the hub is about to close. Everything else goes on.
func (h *Hub) Drain() { h.draining.Store(true) }

// Ready returns why the hub accepts no messages or subscribers, or nil. A store that is full for now makes
// it not ready, too.
func (h *Hub) Ready() error {
	if h.Closing() || h.draining.Load() {
		return ErrClosed
	}
	if f, ok := h.log.(store.Failing); ok {
		return f.Err()
	}
	return nil
}

// Keeps reports whether groups may be kept in such a store.
func (h *Hub) Keeps(k store.Kind) bool { return slices.Contains(h.opts.Stores, k) }

// handlersEnd is how long EndStreams waits for handlers: those that are about to open a stream, so
// that their clients get the bye event, and those whose stream has ended.
const handlersEnd = time.Second

// EndStreams ends all streams with a last event that says why, and returns when they have ended.
// From then on the hub takes nothing new; requests under way are completed.
//
// It does not wait longer than handlersEnd for a handler that is stuck: one that writes to a client
// that does not read, through a ResponseWriter that supports no write deadlines.
func (h *Hub) EndStreams(why delivery.Reason) {
	h.closing.Store(true)
	if f, ok := h.log.(store.Failing); ok {
		f.Unblock() // wills that it has no room for are noted, and sent by the next start
	}
	h.stats.close()
	h.sessions.Close()
	h.retries.close()
	h.set.Close(why)
	for by := time.Now().Add(handlersEnd); h.opening.Load()+h.serving.Load() > 0 && time.Now().Before(by); {
		time.Sleep(time.Millisecond)
	}
	if n := h.serving.Load(); n > 0 {
		h.opts.Logger.Warn("handlers are stuck: their clients do not read, and middleware hides the connection's write deadline", "handlers", n)
	}
}

// Close ends all streams with a last event, then the rest, and waits for it.
func (h *Hub) Close() error {
	h.EndStreams("shutdown")
	h.closeOnce.Do(func() { h.closeErr = errors.Join(h.poller.Close(), h.log.Close()) })
	return h.closeErr
}

// Stats are counters since the start, and what is now.
type Stats struct {
	Sessions  int64
	Requests  int64  // bytes that requests under way hold
	Busy      uint64 // requests that were refused since others held too many
	Wills     int64  // bytes of last wills
	Keys      int64  // idempotency keys whose answers are remembered
	Dropped   uint64 // events that the hosting program did not take
	Published uint64
	Opened    uint64
	Streams   int64
	Delivery  delivery.Stats
	Store     store.Usage
}

// Stats returns them.
func (h *Hub) Stats() Stats {
	s := Stats{
		Published: h.posts.Load(), Opened: h.opened.Load(), Streams: h.streams.Load(),
		Sessions: int64(h.sessions.Len()), Keys: int64(h.keys.size()),
		Requests: h.budget.held(), Busy: h.overloaded.Load(), Wills: h.wills.Load(), Delivery: h.set.Stats(), Store: h.log.Usage(),
	}
	if h.opts.Observer != nil {
		s.Dropped = h.opts.Observer.Dropped()
	}
	return s
}

// streamLog returns how to log what happens to streams, or nil if nobody wants to know.
func (h *Hub) streamLog() func(msg string, args ...any) {
	switch {
	case h.opts.LogStreams:
		return h.opts.Logger.Info
	case h.opts.Logger.Enabled(context.Background(), slog.LevelDebug):
		return h.opts.Logger.Debug
	}
	return nil
}
