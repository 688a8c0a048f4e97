package cursortest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
)

// sharedTests test the sets of several hubs.
var sharedTests = []test{
	{"a claim ends the reader at another hub and gets its last version; then that hub cannot save", handover},
	{"a claim of a free position leaves it to the reader at another hub, also while other hubs claim it", free},
	{"positions hop between 3 hubs, 2 clients of each of 10 positions at random, and skip nothing", hopping(0)},
	{"positions hop between 3 hubs and skip nothing, while the outcome of 30% of the writes is unknown", hopping(300)},
	{"of 3 hubs that claim a position at once, one has it in the end", atOnce},
	{"the positions of a hub that died are those that it wrote last, 3 hubs and 30 positions", died},
	{"readers of a hub that died are away, and their positions expire", adopted},
	{"an expired position is gone at all hubs, whichever of them lives", expired},
	{"a hub that starts later knows all positions", later},
	{"a position that one hub removes is gone at all", removedElsewhere},
	{"a hub with a new id keeps its positions", renamed},
	{"a position that was claimed and not saved can be claimed by another hub", blank},
	{"a position whose reader is here outlives its removal by another hub, which found that it had expired", returned},
	{"a position that depends on others is gone when the last one at any hub is", dependentElsewhere},
}

// three starts three hubs, which know each other: one whose sign of life is not heard yet does not count as living.
func (r *rig) three() []*hub {
	hubs := []*hub{r.start(), r.start(), r.start()}
	eventually(r, "the hubs know each other", func() bool {
		return !slices.ContainsFunc(hubs, func(h *hub) bool {
			return slices.ContainsFunc(hubs, func(other *hub) bool { return !h.shared().Hubs().Alive(other.id()) })
		})
	})
	return hubs
}

func handover(r *rig) {
	hubs := r.three()
	a, b := hubs[0], hubs[1]
	var ended atomic.Int64
	for _, h := range hubs {
		h.OnEnd("k/", func(key string) {
			ended.Add(1)
			p, _ := h.Get(key)
			h.save(away(pos(key, int(p.Done)+1)))
		})
		h.OnEnd("other/", func(key string) { r.Errorf("the reader of %s is ended", key) })
	}
	a.begin(pos("k/1", 1))
	for n := 2; n <= 10; n++ {
		if got := b.claim("k/1"); got != n {
			r.Fatalf("the claim gets number %d, want %d", got, n)
		}
		if err := a.Save(pos("k/1", 100)); !errors.Is(err, cursor.ErrElsewhere) {
			r.Errorf("the hub that lost the position saves it: %v", err)
		}
		a.Remove("k/1")
		b.save(pos("k/1", n))
		a, b = b, a
	}
	if n := ended.Load(); n != 9 {
		r.Errorf("%d readers were ended, want 9", n)
	}
	a.save(away(pos("k/1", 20)))
	if got := b.claim("k/1"); got != 20 || ended.Load() != 9 {
		r.Errorf("a reader that is away was ended %d times, and left number %d", ended.Load()-9, got)
	}
}

func free(r *rig) {
	hubs := r.three()
	for _, h := range hubs {
		h.OnEnd("", func(key string) { r.Errorf("the reader of %s is ended", key) })
	}
	for round := range 20 {
		key := fmt.Sprint("k", round)
		var all sync.WaitGroup
		var got atomic.Int64
		for _, h := range hubs {
			all.Go(func() {
				_, _, err := h.ClaimFree(r.Context(), key)
				if err == nil {
					got.Add(1)
					err = h.Save(pos(key, 1+round))
				}
				if err != nil && !errors.Is(err, cursor.ErrElsewhere) {
					r.Error(err)
				}
			})
		}
		all.Wait()
		if n := got.Load(); n != 1 {
			r.Fatalf("%d hubs got the position at once", n)
		}
		i := slices.IndexFunc(hubs, func(h *hub) bool { return h.Save(pos(key, 1+round)) == nil })
		owner, other := hubs[i], hubs[(i+1)%3]
		owner.flush(key)
		if _, _, err := other.ClaimFree(r.Context(), key); !errors.Is(err, cursor.ErrElsewhere) {
			r.Errorf("a claim of a position with a reader: %v", err)
		}
		owner.save(away(pos(key, 100)))
		if p, ok, err := other.ClaimFree(r.Context(), key); err != nil || !ok || p.Done != 100 {
			r.Errorf("a claim of a position whose reader is away: %+v, %v, %v", p, ok, err)
		}
	}
}

// client is one that reads with a position at one hub.
type client struct {
	hub *hub
	key string

	mu   sync.Mutex // guards what follows
	n    int        // the number of its position
	over bool
}

// clients are the newest readers at a hub.
type clients struct {
	claiming [hoppers]sync.Mutex // held by the one that claims a position

	mu   sync.Mutex         // guards here
	here map[string]*client // by key
}

// hoppers is how many positions hop between hubs.
const hoppers = 10

// end is what a hub's OnEnd calls.
func (l *clients) end(key string) {
	l.mu.Lock()
	c := l.here[key]
	l.mu.Unlock()
	if c != nil {
		c.end()
	}
}

func (c *client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.over = true
		_ = c.hub.Save(away(pos(c.key, c.n))) // ErrElsewhere: another hub has it
	}
}

// read saves the next position, unless the client was ended.
func (c *client) read(floor *atomic.Int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil
	}
	err := c.hub.Save(pos(c.key, c.n+1))
	switch {
	case errors.Is(err, cursor.ErrElsewhere):
		c.over = true
		return nil
	case err != nil:
		return err
	}
	c.n++
	for old := floor.Load(); int64(c.n) > old && !floor.CompareAndSwap(old, int64(c.n)); old = floor.Load() {
	}
	return nil
}

func hopping(unsure int) func(r *rig) {
	return func(r *rig) {
		hubs := r.three()
		lists := map[*hub]*clients{}
		for _, h := range hubs {
			l := &clients{here: map[string]*client{}}
			lists[h] = l
			h.OnEnd("", l.end)
			h.log.set(func(t *tap) { t.unsure = unsure })
		}
		const keys, hops = hoppers, 80
		var floors [keys]atomic.Int64
		var all sync.WaitGroup
		for i := range 2 * keys {
			all.Go(func() {
				k := i / 2
				for range hops {
					h := hubs[rand.IntN(len(hubs))]
					if err := h.visit(lists[h], k, &floors[k]); err != nil {
						r.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		for _, h := range hubs {
			h.log.set(func(t *tap) { t.unsure = 0 })
		}
		for k := range keys {
			if got := hubs[k%3].claim(fmt.Sprint("k", k)); got != int(floors[k].Load()) {
				r.Errorf("position %d is number %d at the end, want %d", k, got, floors[k].Load())
			}
		}
	}
}

// visit claims a position, and reads for a while.
func (h *hub) visit(l *clients, k int, floor *atomic.Int64) error {
	ctx, cancel := context.WithTimeout(h.rig.Context(), patience)
	defer cancel()
	c, err := h.enter(ctx, l, k, floor)
	if c == nil || err != nil {
		return err
	}
	key := c.key
	for range rand.IntN(10) {
		if err := c.read(floor); err != nil {
			return err
		}
		if rand.IntN(3) == 0 {
			if err := h.Flush(ctx, key); ctx.Err() != nil {
				return fmt.Errorf("a write takes too long: %w", err)
			}
		}
	}
	if rand.IntN(2) == 0 {
		c.end()
	}
	return nil
}

// enter claims a position for a new client. It returns nil if another one is faster, or if the outcome of a write is not known.
func (h *hub) enter(ctx context.Context, l *clients, k int, floor *atomic.Int64) (*client, error) {
	l.claiming[k].Lock()
	defer l.claiming[k].Unlock()
	c := &client{hub: h, key: fmt.Sprint("k", k)}
	l.end(c.key)
	least := int(floor.Load())
	p, ok, err := h.Claim(ctx, c.key)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("a claim takes too long: %w", err)
	case err != nil:
		return nil, nil
	case ok:
		c.n, err = whole(p)
	}
	if err == nil && c.n < least {
		err = fmt.Errorf("a claim of %s gets number %d, though %d was saved", c.key, c.n, least)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.here[c.key] = c
	return c, err
}

func atOnce(r *rig) {
	hubs := r.three()
	for round := range 20 {
		key := fmt.Sprint("k", round)
		if round%2 > 0 {
			hubs[0].begin(pos(key, 1))
		}
		var all sync.WaitGroup
		for _, h := range hubs {
			all.Go(func() {
				_, _, err := h.Claim(r.Context(), key)
				if err == nil {
					err = h.Save(pos(key, 2))
				}
				if err != nil && !errors.Is(err, cursor.ErrElsewhere) {
					r.Error(err)
				}
			})
		}
		all.Wait()
		saved := 0
		for _, h := range hubs {
			if err := h.Save(pos(key, 3)); err == nil {
				saved++
				h.flush(key)
			}
		}
		if saved != 1 {
			r.Errorf("%d hubs have the position", saved)
		}
		for _, h := range hubs {
			eventually(r, "all hubs know the position", func() bool { p, _ := h.Get(key); return p.Done == 3 })
		}
	}
}

func died(r *rig) {
	hubs := r.three()
	for k := range 30 {
		key := fmt.Sprint("k", k)
		hubs[0].begin(pos(key, 1+k))
		hubs[0].flush(key)
		hubs[0].log.set(func(t *tap) { t.fails = errTest })
		hubs[0].save(pos(key, 101+k))
		hubs[0].log.set(func(t *tap) { t.fails = nil })
	}
	hubs[0].crash()
	for k := range 30 {
		if got := hubs[1+k%2].claim(fmt.Sprint("k", k)); got != 1+k && got != 101+k {
			r.Errorf("position %d is number %d", k, got)
		}
	}
}

func adopted(r *rig) {
	hubs := r.three()
	p := pos("k", 7)
	p.Expiry = time.Hour
	hubs[0].begin(p)
	short := pos("short", 7)
	short.Expiry = time.Millisecond
	hubs[0].begin(short)
	if _, _, err := hubs[0].Claim(r.Context(), "new"); err != nil {
		r.Fatal(err)
	}
	for _, key := range []string{"k", "short"} {
		hubs[0].flush(key)
	}
	hubs[1].Adopt()
	hubs[1].begin(pos("own", 1))
	hubs[1].flush("own")
	if p, _ := hubs[1].Get("k"); !p.Away.IsZero() {
		r.Error("the reader is away, though its hub lives")
	}
	hubs[0].crash()
	eventually(r, "the reader is away", func() bool {
		hubs[1].Adopt()
		p, _ := hubs[2].Get("k")
		return near(p.Away, time.Now())
	})
	eventually(r, "a position that expires is gone", func() bool {
		_, ok := hubs[2].Get("short")
		n, _ := hubs[2].Usage()
		return !ok && n == 2 // and the one that was claimed and not saved
	})
	if p, _ := hubs[2].Get("own"); !p.Away.IsZero() {
		r.Error("the reader at a hub that lives is away")
	}
	if got := hubs[2].claim("k"); got != 7 {
		r.Errorf("the position is number %d", got)
	}
}

func expired(r *rig) {
	hubs := r.three()
	keep := func(h *hub, key string, after time.Duration) {
		p := away(pos(key, 1))
		p.Expiry = after
		h.begin(p)
		h.flush(key)
	}
	keep(hubs[0], "one", 30*time.Millisecond)
	keep(hubs[0], "stays", time.Hour)
	keep(hubs[1], "two", 100*time.Millisecond)
	hubs[1].crash()
	eventually(r, "a position is gone", func() bool { _, one := hubs[2].Get("one"); return !one })
	if n, _ := hubs[2].log.counts(); n > 0 {
		r.Error("a hub removes a position of another hub that lives")
	}
	for _, h := range []*hub{hubs[0], hubs[2]} {
		eventually(r, "the positions are gone", func() bool {
			_, one := h.Get("one")
			_, two := h.Get("two")
			return !one && !two
		})
		eventually(r, "their notes are gone", func() bool { return h.noted() == "stays" })
		eventually(r, "one position is left", func() bool { n, _ := h.Usage(); return n == 1 })
	}
	eventually(r, "what has expired is told", func() bool { return r.told("one") == 1 && r.told("two") > 0 })
	if got := hubs[2].claim("stays"); got != 1 {
		r.Errorf("a position is number %d", got)
	}
}

func later(r *rig) {
	a, b := r.start(), r.start()
	for n := range 50 {
		key := fmt.Sprint("k", n)
		[]*hub{a, b}[n%2].begin(pos(key, n))
		[]*hub{a, b}[n%2].flush(key)
	}
	c := r.start()
	for n := range 50 {
		key := fmt.Sprint("k", n)
		if got := c.number(key); got != n {
			r.Errorf("position %d is number %d", n, got)
		}
		if got := c.claim(key); got != n {
			r.Errorf("position %d is number %d", n, got)
		}
	}
}

func removedElsewhere(r *rig) {
	hubs := r.three()
	a, b, c := hubs[0], hubs[1], hubs[2]
	for i := range 10 {
		key := fmt.Sprint("k", i)
		a.begin(pos(key, 5))
		b.claim(key)
		if i%2 > 0 {
			b.save(pos(key, 6))
		}
		b.Remove(key)
		b.flush(key)
		for _, h := range hubs {
			h.catchUp() // a hub that lags does not know the position yet
			eventually(r, "the position is gone", func() bool { _, ok := h.Get(key); n, _ := h.Usage(); return !ok && n == 0 })
		}
		if _, ok, err := c.Claim(r.Context(), key); ok || err != nil {
			r.Errorf("a claim finds %v, %v", ok, err)
		}
		c.save(pos(key, 8))
		if got := a.claim(key); got != 8 {
			r.Errorf("the new position is number %d", got)
		}
		a.Remove(key)
		a.flush(key)
		for _, h := range hubs {
			eventually(r, "the position is gone", func() bool { n, _ := h.Usage(); return n == 0 })
		}
	}
}

func renamed(r *rig) {
	hubs := r.three()
	a, b := hubs[0], hubs[1]
	for _, h := range hubs {
		h.OnEnd("", func(key string) { r.Errorf("the reader of %s is ended", key) })
	}
	a.begin(pos("k", 1))
	a.flush("k")
	a.save(pos("k", 2))
	a.shared().Hubs().Renew()
	a.save(pos("k", 3))
	a.flush("k")
	a.save(away(pos("k", 4)))
	eventually(r, "the hub is known by its new id", func() bool { return b.shared().Hubs().Alive(a.id()) })
	if got := b.claim("k"); got != 4 {
		r.Errorf("the position is number %d", got)
	}
	b.save(away(pos("k", 5)))
	if got := a.claim("k"); got != 5 {
		r.Errorf("the position is number %d", got)
	}
}

func blank(r *rig) {
	hubs := r.three()
	for i := range 6 {
		if p, ok, err := hubs[i%3].Claim(r.Context(), "k"); ok || err != nil {
			r.Fatalf("claim %d gets %+v, %v", i, p, err)
		}
	}
	hubs[2].save(pos("k", 3))
	if got := hubs[0].claim("k"); got != 3 {
		r.Errorf("the position is number %d", got)
	}
}

func returned(r *rig) {
	a, b := r.start(), r.start()
	a.OnEnd("", func(string) { r.Error("the reader is ended") })
	a.begin(pos("k", 3))
	a.flush("k")
	if _, err := b.log.Noter.AppendNoted(r.Context(), nil, store.Note{Key: cursor.Prefix + "k"}); err != nil {
		r.Fatal(err)
	}
	eventually(r, "the position is stored again", func() bool { p, _ := b.Get("k"); return p.Done == 3 && b.noted() == "k" })
	a.save(pos("k", 4))
	if err := a.Flush(r.Context(), "k"); err != nil {
		r.Error(err)
	}
}
