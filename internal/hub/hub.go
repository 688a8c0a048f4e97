package hub

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// Options configures a hub. New applies no defaults; see Defaults.
type Options struct {
	MaxMessage      int           // largest body of a message, in bytes
	MaxBatch        int           // largest body of a batch, in bytes
	MaxRequests     int64         // bytes of request bodies and their encoded messages in memory at once
	BodyTimeout     time.Duration // longest pause in a request's body
	MaxStreams      int           // streams open at once; 0: no limit
	MaxFilters      int           // filters of one stream
	MaxUnsent       int64         // bytes kept of messages that sockets accepted only in part
	IdempotencyKeys int           // how many responses to requests with an idempotency key are kept
	Retry           time.Duration // reconnect delay sent to clients
	Heartbeat       time.Duration // how long a stream may be idle before it is sent a heartbeat
	Logger          *slog.Logger
	Observer        Observer      // the embedding program, or nil
	SessionTimeout  time.Duration // how long a lost session may take to reconnect before it is gone
	Stores          []store.Kind  // the stores that a group's policy may choose
	Version         string        // of the program
	LogStreams      bool          // log each stream's opening and closing at level info

	// Access authenticates callers; nil if every caller may do everything.
	Access *access.Authenticator

	PublishRate         int // messages a second of one client; 0: no limit
	MaxStreamsPerClient int // open streams of one client; 0: no limit
}

// Defaults returns the default options.
func Defaults() Options {
	return Options{
		MaxMessage: 1 << 20, MaxBatch: 16 << 20, MaxRequests: 64 << 20, BodyTimeout: 30 * time.Second,
		MaxFilters: 64, MaxUnsent: 32 << 20, IdempotencyKeys: 64 << 10,
		Retry: time.Second, Heartbeat: 15 * time.Second, SessionTimeout: 10 * time.Second, Logger: slog.New(slog.DiscardHandler), Stores: []store.Kind{store.Memory},
	}
}

// Errors that callers test for. Errors of the packages group, store and session are returned unchanged.
var (
	ErrClosed         = errors.New("the hub is shutting down")
	ErrTooManyStreams = errors.New("the limit of open streams is reached")
	ErrMismatch       = errors.New("the idempotency key was used for another request")
)

// Hub connects a log, its streams and their sessions.
type Hub struct {
	opts        Options
	log         store.Store
	notes       store.Noter    // the log, if it is persistent; else nil
	settling    store.Settling // the log, if an append may turn out later to be stored; else nil
	cluster     *cluster       // the hubs that share the log; nil: this one is alone
	set         *delivery.Set
	poller      *sse.Poller
	keys        *keys
	budget      *budget
	sessions    *session.Registry
	cursors     *cursor.Set
	shareCalls  atomic.Pointer[func(context.Context, []byte) []byte] // see OnShareCall
	retries     retries
	rates       rates
	perClient   streamCounts
	polls       polls
	clients     clients
	full        fullness
	stats       *ticker
	began       time.Time
	publishing  publishing
	ended       reasons
	streams     atomic.Int64 // open or opening
	mqtt        ClientCounts
	handlers    handlers
	noRoomUntil atomic.Int64 // makeRoom does nothing before this time, in Unix nanoseconds
	opened      atomic.Uint64

	wills      atomic.Int64  // bytes of last wills
	overloaded atomic.Uint64 // requests refused for lack of memory
	posts      atomic.Uint64 // messages published
	postBytes  atomic.Uint64
	closing    atomic.Bool
	draining   atomic.Bool

	closeOnce sync.Once
	closeErr  error
}

// minUserTimeout is the smallest TCP user timeout. A shorter one would close a connection because of a
// single lost packet.
const minUserTimeout = time.Second

// Limits of sessions that no option sets directly.
const (
	minMaxLost     = 100     // smallest limit of lost sessions, for a small MaxStreams
	defaultMaxLost = 200_000 // limit of lost sessions if MaxStreams is 0
	minMaxFilters  = 1024    // smallest limit of a session's filters; it is 4*MaxFilters if that is larger
)

// New starts a hub on a log. Close closes the log, too.
func New(log store.Store, o Options) (*Hub, error) {
	poller, err := sse.NewPoller(max(o.SessionTimeout, minUserTimeout))
	if err != nil {
		return nil, err
	}
	return start(log, o, poller)
}

// start starts a hub with a poller, which may be nil if it is not needed.
func start(log store.Store, o Options, poller *sse.Poller) (*Hub, error) {
	var err error
	notes, persistent := log.(store.Noter)
	settling, _ := log.(store.Settling)
	h := &Hub{
		opts: o, log: log, notes: notes, settling: settling, poller: poller,
		stats: newTicker(), began: time.Now(), keys: newKeys(o.IdempotencyKeys), budget: newBudget(o.MaxRequests),
	}
	h.cursors = h.newCursors()
	// A persistent store may append messages after their caller has stopped waiting. No call of Appended
	// reports those, so delivery must watch the store.
	h.set = delivery.NewSet(log, !persistent, o.MaxUnsent)
	h.full.logger = o.Logger
	h.rates.limit, h.perClient.limit = o.PublishRate, o.MaxStreamsPerClient
	h.sessions = session.NewRegistry(o.SessionTimeout, h.onSession)
	h.sessions.MaxLost = defaultMaxLost
	if o.MaxStreams > 0 {
		h.sessions.MaxLost = max(minMaxLost, 2*o.MaxStreams)
	}
	h.sessions.MaxFilters = max(minMaxFilters, 4*o.MaxFilters)
	for filter, p := range systemPolicies {
		f, err := group.ParseFilter(filter)
		if err == nil {
			err = store.SetAtStart(log, f, p)
		}
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	if shared, ok := log.(store.Shared); ok {
		err = h.join(shared)
	} else {
		err = h.restore()
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	if o.Access != nil {
		o.Access.OnChange(h.recheck)
	}
	h.stats.start(h)
	return h, nil
}

// Options returns the options passed to New.
func (h *Hub) Options() Options { return h.opts }

// Poller returns the poller that reports closed connections.
func (h *Hub) Poller() *sse.Poller { return h.poller }

// Closing reports whether the hub is closing and refuses new requests.
func (h *Hub) Closing() bool { return h.closing.Load() }

// Drain makes Ready report that the hub is about to close. Nothing else changes.
func (h *Hub) Drain() { h.draining.Store(true) }

// Ready returns nil if the hub accepts messages and subscribers, or the reason why not. A store that is
// full also makes the hub not ready.
func (h *Hub) Ready() error {
	if h.Closing() || h.draining.Load() {
		return ErrClosed
	}
	if f, ok := h.log.(store.Failing); ok {
		return f.Err()
	}
	return nil
}

// Keeps reports whether groups may be kept in a store of the kind k.
func (h *Hub) Keeps(k store.Kind) bool { return slices.Contains(h.opts.Stores, k) }

// handlersTimeout is how long EndStreams waits for handlers: those that are about to open a stream, so
// that their clients get the bye event, and those whose stream has ended.
const handlersTimeout = time.Second

// EndStreams ends all streams with a bye event that carries the reason, and returns when they have
// ended. The hub refuses new requests from then on, and completes requests in progress.
//
// It waits at most handlersTimeout for a stuck handler: one that writes to a client that does not read,
// through a ResponseWriter that does not support write deadlines.
func (h *Hub) EndStreams(why delivery.Reason) {
	h.closing.Store(true)
	if f, ok := h.log.(store.Failing); ok {
		f.Unblock() // wills that do not fit stay in the store's notes; the next start sends them
	}
	h.stats.close()
	h.sessions.Close()
	h.retries.close()
	if h.cluster != nil {
		h.cluster.leave()
	}
	h.set.Close(why)
	if n := h.handlers.wait(handlersTimeout); n > 0 {
		h.opts.Logger.Warn("handlers are stuck: their clients do not read, and middleware hides the connection's write deadline", "handlers", n)
	}
	h.cursors.Close()
}

// Close ends all streams with a bye event, then closes the poller and the log. It returns when all have ended.
func (h *Hub) Close() error {
	h.EndStreams("shutdown")
	h.closeOnce.Do(func() { h.closeErr = errors.Join(h.poller.Close(), h.log.Close()) })
	return h.closeErr
}

// streamLog returns the function that logs the opening and closing of streams, or nil if they are not logged.
func (h *Hub) streamLog() func(msg string, args ...any) {
	switch {
	case h.opts.LogStreams:
		return h.opts.Logger.Info
	case h.opts.Logger.Enabled(context.Background(), slog.LevelDebug):
		return h.opts.Logger.Debug
	}
	return nil
}
