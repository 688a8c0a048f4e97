package cursortest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
)

// rig is a log and the hubs that use it.
type rig struct {
	*testing.T
	log Log

	mu      sync.Mutex // guards what follows
	hubs    []*hub
	expired map[string]int // how often OnExpire told each key
}

// told returns how often OnExpire told a key.
func (r *rig) told(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.expired[key]
}

// hub is one process with a set.
type hub struct {
	*cursor.Set
	rig *rig
	log *tap
}

// persistent reports whether positions outlive the process.
func (r *rig) persistent() bool { return r.log.Open != nil }

// start starts a hub. It is closed after the test.
func (r *rig) start(change ...func(*cursor.Options)) *hub {
	r.Helper()
	h := &hub{rig: r}
	o := cursor.Options{Interval: interval, Ask: r.ask}
	if r.persistent() {
		h.log = &tap{Noter: r.log.Open()}
		o.Log = h.log
		if s, ok := h.log.Noter.(store.Shared); ok {
			o.Log = &sharedTap{h.log, s}
		}
	}
	for _, f := range change {
		f(&o)
	}
	h.Set = cursor.New(o)
	if err := h.learn(); err != nil {
		r.Fatal(err)
	}
	r.mu.Lock()
	r.hubs = append(r.hubs, h)
	r.mu.Unlock()
	h.OnExpire("", func(key string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.expired[key]++
	})
	r.Cleanup(h.stop)
	return h
}

func (h *hub) learn() error {
	if h.log == nil {
		return nil
	}
	learn := func(n store.Note) error {
		if !strings.HasPrefix(n.Key, cursor.Prefix) {
			return nil
		}
		return h.Learn(n)
	}
	if s, ok := h.log.Noter.(store.Shared); ok {
		return s.Follow(func(n store.Note) {
			if err := learn(n); err != nil {
				h.rig.Error(err)
			}
		})
	}
	return h.log.Notes(learn)
}

// stop ends the hub in good order. It may be called more than once.
func (h *hub) stop() {
	h.Close()
	h.end()
}

// crash ends the hub without its last writes.
func (h *hub) crash() {
	if h.log != nil {
		h.log.set(func(t *tap) { t.dead = true })
	}
	h.stop()
}

// end closes the log.
func (h *hub) end() {
	if h.log != nil {
		h.log.set(func(t *tap) { t.dead = true })
		h.log.once.Do(func() {
			if err := h.log.Noter.(io.Closer).Close(); err != nil {
				h.rig.Error(err)
			}
		})
	}
}

// again starts a hub that goes on where h has ended. Without a log it is h itself.
func (h *hub) again() *hub {
	h.rig.Helper()
	if h.log == nil {
		return h
	}
	return h.rig.start()
}

// id returns the id of a hub of a shared log.
func (h *hub) id() string { return h.shared().Hubs().Self() }

// catchUp returns when the hub has read what all hubs have written.
func (h *hub) catchUp() {
	h.rig.Helper()
	ctx, cancel := context.WithTimeout(h.rig.Context(), patience)
	defer cancel()
	if err := h.shared().CatchUp(ctx); err != nil {
		h.rig.Fatal(err)
	}
}

func (h *hub) shared() store.Shared { return h.log.Noter.(store.Shared) }

// ask calls a hub of a shared log.
func (r *rig) ask(ctx context.Context, id, key string, free bool) (store.Seq, error) {
	r.mu.Lock()
	hubs := r.hubs
	r.mu.Unlock()
	for _, h := range hubs {
		if !h.log.isDead() && h.id() == id {
			return h.Give(ctx, key, free)
		}
	}
	return 0, store.ErrNoHub
}

// tap is a log whose writes can be stopped.
type tap struct {
	store.Noter
	once sync.Once

	mu      sync.Mutex // guards what follows
	dead    bool       // nothing is written any more
	fails   error      // what appends return
	unsure  int        // of 1000 appends that many end with store.ErrUnknownOutcome, half of them stored
	refused string     // the key of a position that another hub has changed
	blocked chan struct{}
	appends int
	notes   int
}

func (t *tap) set(f func(t *tap)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(t)
}

func (t *tap) isDead() (dead bool) {
	t.set(func(t *tap) { dead = t.dead })
	return dead
}

// counts returns how many appends there were, and of how many notes.
func (t *tap) counts() (appends, notes int) {
	t.set(func(t *tap) { appends, notes = t.appends, t.notes })
	return appends, notes
}

// AppendNoted implements store.Noter.
func (t *tap) AppendNoted(ctx context.Context, entries []store.Entry, notes ...store.Note) (store.ID, error) {
	t.mu.Lock()
	conflict := t.refused != "" && slices.ContainsFunc(notes, func(n store.Note) bool { return n.Key == cursor.Prefix+t.refused })
	dead, err, blocked, unsure := t.dead, t.fails, t.blocked, rand.IntN(1000) < t.unsure
	t.appends++
	t.notes += len(notes)
	t.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	switch {
	case dead:
		return store.ID{}, store.ErrClosed
	case err != nil:
		return store.ID{}, err
	case conflict:
		return store.ID{}, store.ErrConflict
	case unsure && rand.IntN(2) == 0:
		return store.ID{}, store.ErrUnknownOutcome
	case unsure:
		if _, err = t.Noter.AppendNoted(ctx, entries, notes...); err == nil {
			err = store.ErrUnknownOutcome
		}
		return store.ID{}, err
	}
	return t.Noter.AppendNoted(ctx, entries, notes...)
}

var _ store.Shared = (*sharedTap)(nil) // otherwise it would be taken for a log of one hub

// sharedTap is a tap of a log that hubs share.
type sharedTap struct {
	*tap
	shared store.Shared
}

// Follow implements store.Shared.
func (t *sharedTap) Follow(f func(store.Note)) error { return t.shared.Follow(f) }

// PurgeThrough implements store.Shared.
func (t *sharedTap) PurgeThrough(name string, through store.ID) error {
	return t.shared.PurgeThrough(name, through)
}

// Reach implements store.Shared.
func (t *sharedTap) Reach(ctx context.Context, id store.ID) (bool, error) {
	return t.shared.Reach(ctx, id)
}

// CatchUp implements store.Shared.
func (t *sharedTap) CatchUp(ctx context.Context) error { return t.shared.CatchUp(ctx) }

// Hubs implements store.Shared.
func (t *sharedTap) Hubs() store.Hubs { return t.shared.Hubs() }

// number returns the number of a position that must exist, and be whole.
func (h *hub) number(key string) int {
	h.rig.Helper()
	p, ok := h.Get(key)
	if !ok {
		h.rig.Fatalf("there is no position %q", key)
	}
	n, err := whole(p)
	if err != nil {
		h.rig.Fatal(err)
	}
	return n
}

func (h *hub) save(p *cursor.Position) {
	h.rig.Helper()
	if err := h.Save(p); err != nil {
		h.rig.Fatal(err)
	}
}

// begin claims a position and saves it.
func (h *hub) begin(p *cursor.Position) {
	h.rig.Helper()
	if _, _, err := h.Claim(h.rig.Context(), p.Key); err != nil {
		h.rig.Fatal(err)
	}
	h.save(p)
}

func (h *hub) flush(key string) {
	h.rig.Helper()
	if err := h.Flush(h.rig.Context(), key); err != nil {
		h.rig.Fatal(err)
	}
}

// claim claims a position, which must exist, and returns its number.
func (h *hub) claim(key string) int {
	h.rig.Helper()
	ctx, cancel := context.WithTimeout(h.rig.Context(), patience)
	defer cancel()
	p, ok, err := h.Claim(ctx, key)
	if err != nil || !ok {
		h.rig.Fatalf("claiming %q: %v, %v", key, ok, err)
	}
	if !p.Away.IsZero() {
		h.rig.Errorf("the reader of %q is away since %v, after a claim", key, p.Away)
	}
	n, err := whole(p)
	if err != nil {
		h.rig.Fatal(err)
	}
	return n
}

var errTest = errors.New("the log of the test fails")

// near reports whether two times are about the same.
func near(a, b time.Time) bool { return a.Sub(b).Abs() < patience }
