package cursor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// MaxKey and MaxSize are the most bytes of a key and of an encoded position.
const (
	MaxKey  = 512
	MaxSize = 256 << 10
)

// Defaults of Options.
const (
	DefaultInterval     = time.Second
	DefaultMaxPositions = 200_000
	DefaultMaxBytes     = 256 << 20
)

// Prefix begins the keys of the notes that are positions.
const Prefix = "cursor/"

// Errors of a Set.
var (
	ErrElsewhere = errors.New("this hub does not have the position: another one has it, or it was not claimed")
	ErrClosed    = errors.New("the hub is shutting down")
	ErrTooLarge  = fmt.Errorf("a position with its filters and its window takes more than %d bytes: use fewer filters, or wildcards", MaxSize)

	errMoved = errors.New("the position has moved to another hub")
	errKey   = fmt.Errorf("the key of a position has 1 to %d bytes", MaxKey)
	errEpoch = errors.New("a position needs the epoch of the log")
)

// LimitError is returned for a position that the Set has no room for.
type LimitError struct {
	What  string // "positions", or "bytes of positions"
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the hub keeps %d %s, which is the limit: end sessions that are no longer used, or let them expire sooner", e.Limit, e.What)
}

// Options configure a Set. Zero values mean the defaults.
type Options struct {
	// Log keeps the positions as notes. Without it they live as long as the process. If it is a store.Shared, the
	// positions are those of all its hubs.
	Log store.Noter

	// Ask asks another hub to give a position up, by Give, and returns its result. It is needed with a store.Shared
	// only. It returns store.ErrNoHub if there is no such hub any more, and ErrElsewhere if Give does.
	Ask func(ctx context.Context, hub, key string, free bool) (store.Seq, error)

	Interval     time.Duration // shortest time between two writes
	MaxPositions int
	MaxBytes     int64       // of memory
	Failed       func(error) // called for the first write that fails after one that did not, and for a position that the log has refused as too large, once; may be nil
}

// Set has the positions of a hub, or of all hubs that share a log. Its methods may be called concurrently.
type Set struct {
	opts   Options
	shared store.Shared // the log, if several hubs share it; else nil

	mu      sync.Mutex // guards what follows
	entries map[string]*entry
	bytes   int64
	dirty   []*entry                    // to be written
	due     deadlines                   // of positions that expire
	abroad  map[string]int              // how many positions are with readers at other hubs, by hub
	readers map[string]func(key string) // see OnEnd
	gone    map[string]func(key string) // see OnExpire
	expired []string                    // keys of positions that have expired, for OnExpire
	ids     []string                    // those that this hub had
	depends *dependence                 // see KeepFor; nil: it was not called
	closed  bool
	buf     []byte // for encode

	// The writer; see write.go.
	busy    bool
	idle    sync.Cond
	waiting []waiter
	timer   *time.Timer
	armed   time.Time // when the timer fires; zero: never
	written time.Time // when the last write ended
	failing bool      // the last write failed
	running sync.WaitGroup
}

// New returns an empty set. Learn fills it with what the log has.
func New(o Options) *Set {
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.MaxPositions == 0 {
		o.MaxPositions = DefaultMaxPositions
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	s := &Set{opts: o, entries: map[string]*entry{}, abroad: map[string]int{}, readers: map[string]func(string){}, gone: map[string]func(string){}}
	s.idle.L = &s.mu
	s.shared, _ = o.Log.(store.Shared)
	return s
}

// self returns the id of this hub; "" if it is alone.
func (s *Set) self() string {
	if s.shared == nil {
		return ""
	}
	return s.shared.Hubs().Self()
}

// Get returns a position, and false if there is none.
func (s *Set) Get(key string) (Position, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil {
		return e.position()
	}
	return Position{}, false
}

// Each yields the positions whose keys begin with a prefix, sorted by key. It may miss those that are saved or removed
// in the meantime.
func (s *Set) Each(prefix string) iter.Seq[Position] {
	return func(yield func(Position) bool) {
		for _, key := range s.keys(prefix) {
			if p, ok := s.Get(key); ok && !yield(p) {
				return
			}
		}
	}
}

func (s *Set) keys(prefix string) (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.entries {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Usage returns how many positions there are, and about how many bytes of memory they take.
func (s *Set) Usage() (positions int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries), s.bytes
}

// Save keeps a new version of a position that was claimed. Get returns it at once; it is written to the log within
// Interval. Save keeps nothing of p. If it returns an error, it has changed nothing: ErrElsewhere if another hub has
// the position or if it was removed, ErrTooLarge or a LimitError if there is no room for it, and ErrClosed after Close.
func (s *Set) Save(p *Position) error {
	switch {
	case p.Key == "" || len(p.Key) > MaxKey:
		return errKey
	case p.Epoch == "":
		return errEpoch
	}
	self := s.self()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.save(p, self)
}

func (s *Set) save(p *Position, self string) error {
	if s.closed {
		return ErrClosed
	}
	e := s.entries[p.Key]
	if e == nil || !e.ours || e.removed {
		return ErrElsewhere
	}
	s.buf = p.append(s.buf[:0], self)
	more := int64(len(s.buf) - len(e.value))
	switch {
	case len(s.buf) > MaxSize:
		return ErrTooLarge
	case more > 0 && s.bytes+more > s.opts.MaxBytes:
		return &LimitError{"bytes of positions", s.opts.MaxBytes}
	}
	s.set(e, p, bytes.Clone(s.buf), self)
	return nil
}

// Remove removes a position, if there is one and no other hub has it. It is removed from the log within Interval.
func (s *Set) Remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil && e.ours && !s.closed {
		s.remove(e)
		s.arm()
	}
}
