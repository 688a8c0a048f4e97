package sharedtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// Cluster is the log that hubs share. Open opens it for one hub.
type Cluster struct {
	// Delay is the longest time that an append takes. Unknown is how many of 1000 appends end with
	// store.ErrUnknownOutcome, half of them after they were stored.
	Delay   time.Duration
	Unknown int

	// Forgets is set if the log does not know any more which guarded brief notes it has, as servers after a while.
	Forgets atomic.Bool

	Name string // of all hubs, as on one machine; "": each has its own

	// MaxNote and MaxMessage are the most bytes of a note and of a message as it is stored; 0: any number. Refused counts the appends
	// with larger ones.
	MaxNote, MaxMessage, Refused atomic.Int64

	epoch string
	count atomic.Int64 // of steps

	mu     sync.Mutex // guards what follows
	steps  []step
	last   store.Seq
	notes  map[string]store.Seq // versions, by key
	newest map[string]store.Seq // the same, with those of removals
	hubs   map[string]*Log      // by id
	began  int                  // hubs, and renewals
}

// step is one change of the log, which each hub applies in order.
type step struct {
	by      *Log
	entries []store.Entry
	seqs    []store.Seq
	notes   []store.Note
	stored  func(store.ID) // for by, if it does not know that the step was stored
	policy  *policy
	purge   string
	through store.Seq // of the purge; 0: all
}

type policy struct {
	filter group.Filter
	policy store.Policy
}

// New returns an empty log.
func New() *Cluster {
	return &Cluster{epoch: store.NewEpoch(), notes: map[string]store.Seq{}, newest: map[string]store.Seq{}, hubs: map[string]*Log{}}
}

// Open opens the log for one more hub, and returns when it has read what there is.
func (c *Cluster) Open() *Log {
	l := &Log{
		Log: memory.New(memory.Options{Epoch: c.epoch}), cluster: c, notes: map[string]store.Note{},
		since: time.Now(), closed: make(chan struct{}), moved: make(chan struct{}),
	}
	c.mu.Lock()
	c.register(l)
	c.mu.Unlock()
	l.running.Go(l.beat)
	l.running.Go(l.apply)
	n := c.length()
	_ = l.until(func() bool { return l.applied >= n }) // nobody has closed or killed it yet
	return l
}

// register gives a hub a new id. mu must be held.
func (c *Cluster) register(l *Log) {
	c.began++
	l.mu.Lock()
	l.id = fmt.Sprintf("hub%d", c.began)
	l.beaten = time.Now()
	c.hubs[l.id] = l
	l.mu.Unlock()
}

// add appends a step, unless a guarded note has changed.
func (c *Cluster) add(s step) (first store.Seq, n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range s.entries {
		if most := c.MaxMessage.Load(); most > 0 && int64(len(s.entries[i].Tail)) > most {
			c.Refused.Add(1)
			return 0, 0, store.ErrTooLarge
		}
	}
	for _, note := range s.notes {
		if most := c.MaxNote.Load(); most > 0 && int64(len(note.Value)) > most {
			c.Refused.Add(1)
			return 0, 0, store.ErrTooLarge
		}
		if note.Guarded && c.notes[note.Key] != note.At && !(note.Brief && c.Forgets.Load()) {
			return 0, 0, store.ErrConflict
		}
	}
	first = c.last + 1
	for range s.entries {
		c.last++
		s.seqs = append(s.seqs, c.last)
	}
	for i := range s.notes {
		note := &s.notes[i]
		if !note.Brief {
			c.last++
		}
		note.At, note.Seq = c.last, first
		c.notes[note.Key], c.newest[note.Key] = note.At, note.At
		if note.Value == nil {
			delete(c.notes, note.Key)
		}
	}
	c.steps = append(c.steps, s)
	c.count.Store(int64(len(c.steps)))
	for _, l := range c.hubs {
		l.wake()
	}
	return first, len(c.steps), nil
}

// hasNext reports whether there is a step n. Logs call it with their own lock held, so it must not take mu.
func (c *Cluster) hasNext(n int) bool { return int64(n) < c.count.Load() }

// next returns step n, if there is one, without versions of notes that were replaced meanwhile.
func (c *Cluster) next(n int) (s step, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n >= len(c.steps) {
		return s, false
	}
	s = c.steps[n]
	s.notes = slices.DeleteFunc(slices.Clone(s.notes), func(n store.Note) bool { return !n.Brief && n.At < c.newest[n.Key] })
	return s, true
}

// length returns the number of steps.
func (c *Cluster) length() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.steps)
}

// members returns the hubs by id, without those that were closed.
func (c *Cluster) members() map[string]*Log {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := map[string]*Log{}
	for id, l := range c.hubs {
		m[id] = l
	}
	return m
}

// Messages returns all messages that were appended, in order.
func (c *Cluster) Messages() (list []store.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.steps {
		for _, e := range s.entries {
			list = append(list, e.Message)
		}
	}
	return list
}

// Notes returns the keys of the notes that exist.
func (c *Cluster) Notes() (keys []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.notes {
		keys = append(keys, key)
	}
	return keys
}

// Steps returns how often the log was changed.
func (c *Cluster) Steps() int { return c.length() }

// pause waits for up to Delay.
func (c *Cluster) pause() {
	if c.Delay > 0 {
		time.Sleep(rand.N(c.Delay))
	}
}

// end returns how many steps there are, and the last seq.
func (c *Cluster) end() (steps int, last store.Seq) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.steps), c.last
}
