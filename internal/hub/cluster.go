package hub

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// cluster connects a hub to the other hubs that share its log. What all of them have to know are notes in
// the log, which follow reads in order.
type cluster struct {
	hub  *Hub
	log  store.Shared
	hubs store.Hubs

	closed  context.Context
	close   context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex // guards what follows
	ended bool       // spawn starts nothing any more
	work  []func()   // what follow found and must not do itself, in order
	wake  chan struct{}
	downs map[string]bool // hubs with a note that they are down

	revocations map[string]store.Note // the newest ones of subjects, by key. One without At is not in the log

	warned time.Time            // when it was last logged that a session is too large
	silent map[string]time.Time // hubs that did not answer when they were asked for figures, and when
}

// Prefixes of the keys of notes that only a shared log has.
const (
	sessionNotes = "session/" // documents of sessions, by uid
	downNotes    = "down/"    // hubs that died or were closed, by id
)

// downNote is the value of a note in downNotes.
type downNote struct {
	Why session.Reason `json:"why"`
}

// join makes the hub one of those that share its log.
func (h *Hub) join(log store.Shared) error {
	c := &cluster{hub: h, log: log, hubs: log.Hubs(), wake: make(chan struct{}, 1), downs: map[string]bool{}, silent: map[string]time.Time{}, revocations: map[string]store.Note{}}
	c.closed, c.close = context.WithCancel(context.Background())
	h.cluster = c
	h.sessions.Share(session.Sharing{
		Self: c.hubs.Self(), Commit: c.commit, Committed: c.committed, Ended: c.purgeDirectThrough,
		WillChanged: func(old, new *session.Will) { h.wills.Add(willSize(new) - willSize(old)) },
	})
	c.running.Go(c.run)
	if err := log.Follow(c.follow); err != nil {
		return err
	}
	c.hubs.Serve(c.serve)
	c.hubs.Down(c.giveUp)
	return nil
}

// ID returns the id of the hub among those that share its log, or "" if it is alone. It changes if the others
// give it up.
func (h *Hub) ID() string {
	if h.cluster == nil {
		return ""
	}
	return h.cluster.hubs.Self()
}

// follow takes over a note that some hub has stored or removed.
func (c *cluster) follow(n store.Note) {
	if n.Key == store.EpochNote {
		c.hub.keys.reset()
		c.hub.sessions.Renewed()
		c.hub.cursors.Anew()
		c.forgetVersions()
		return
	}
	kind, rest, _ := strings.Cut(n.Key, "/")
	switch kind + "/" {
	case sessionNotes:
		if err := c.hub.sessions.Adopt(rest, n.Value, session.Reason(n.Why), uint64(n.At), n.Own); err != nil {
			c.hub.opts.Logger.Error("a note of the shared log cannot be read", "error", err)
		}
	case cursor.Prefix:
		if err := c.hub.cursors.Learn(n); err != nil {
			c.hub.opts.Logger.Error("a note of the shared log cannot be read", "error", err)
		}
	case answerNotes:
		c.learn(n)
	case clientNotes:
		c.hub.clients.set(rest, n.Value)
	case revocationNotes:
		c.remember(n)
		c.later(func() { c.revoked(n) })
	case downNotes:
		c.later(func() { c.down(rest, n) })
	}
}

// spawn runs f on a goroutine that leave waits for, unless the hub is closing.
func (c *cluster) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.running.Go(f)
	}
}

// later does f soon, after what follow has found before.
func (c *cluster) later(f func()) {
	c.mu.Lock()
	c.work = append(c.work, f)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run does the work that follow has found, and looks for hubs that are down though no note says so.
func (c *cluster) run() {
	look := time.NewTicker(store.SilentFor)
	defer look.Stop()
	for {
		select {
		case <-c.wake:
			c.mu.Lock()
			work := c.work
			c.work = nil
			c.mu.Unlock()
			for _, f := range work {
				f()
			}
		case <-look.C:
			c.look()
		case <-c.closed.Done():
			return
		}
	}
}

// look gives up the hubs that documents name and that are not alive, such as those that died before this hub
// started. It removes the notes of hubs that are down and no longer named, and takes over the positions of their readers.
func (c *cluster) look() {
	if c.first() {
		c.hub.cursors.Adopt()
	}
	named, stale := c.hub.sessions.Named()
	for id := range named {
		if !c.hubs.Alive(id) {
			c.spawn(func() { c.giveUp(id) })
		}
	}
	if stale || !c.first() {
		return // documents still have to be repaired, or another hub removes the notes
	}
	c.mu.Lock()
	downs := slices.Collect(maps.Keys(c.downs))
	c.mu.Unlock()
	for _, id := range downs {
		if !named[id] {
			c.spawn(func() {
				_, _ = c.log.AppendNoted(c.closed, nil, store.Note{Key: downNotes + id}) // the next start tries again
			})
		}
	}
}

// giveUp notes that a hub has died. Other hubs may do the same: the first wins.
func (c *cluster) giveUp(id string) {
	for c.closed.Err() == nil && !c.hubs.Alive(id) {
		err := c.noteDown(id, session.Partitioned, true)
		if err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrClosed) {
			return
		}
		select {
		case <-time.After(time.Second):
		case <-c.closed.Done():
		}
	}
}

func (c *cluster) noteDown(id string, why session.Reason, first bool) error {
	value, err := json.Marshal(downNote{why})
	if err != nil {
		panic("hub: a note: " + err.Error()) // impossible: a string
	}
	_, err = c.log.AppendNoted(context.Background(), nil, store.Note{Key: downNotes + id, Value: value, Guarded: first})
	return err
}

// down takes a hub that is down out of the documents of sessions. If it is this one, the others have given it
// up: it ends its streams and starts anew.
func (c *cluster) down(id string, n store.Note) {
	c.mu.Lock()
	if n.Value == nil {
		delete(c.downs, id)
	} else {
		c.downs[id] = true
	}
	c.mu.Unlock()
	switch {
	case c.hub.closing.Load():
	case id == c.hubs.Self():
		c.hub.opts.Logger.Error("the other hubs have given up this one: its streams end, and their clients reconnect")
		c.hubs.Renew()
		c.hub.sessions.Renamed(c.hubs.Self())
	case n.Value != nil:
		var note downNote
		if err := json.Unmarshal(n.Value, &note); err != nil || note.Why == "" {
			note.Why = session.Partitioned
		}
		c.hub.sessions.Down(id, note.Why, c.first())
	}
}

// first reports whether this hub is the first one of those that are alive. It does what one hub has to do.
func (c *cluster) first() bool {
	list := c.hubs.List()
	return len(list) > 0 && list[0].ID == c.hubs.Self()
}

// leave tells the other hubs that this one is closing. Its sessions are lost, not gone.
func (c *cluster) leave() {
	if c.closed.Err() != nil {
		return
	}
	c.close()
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	_ = c.noteDown(c.hubs.Self(), session.Shutdown, false) // otherwise the others notice its silence
	c.running.Wait()
}

// elsewhere returns the other hubs where a session has streams.
func (c *cluster) elsewhere(uid string) []string {
	if c == nil {
		return nil
	}
	return c.hub.sessions.Elsewhere(uid)
}
