package cursortest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
)

// aloneTests test the set of a hub that is alone, or of one of several hubs.
var aloneTests = []test{
	{"a position is what was saved last", saved},
	{"positions outlive Close, and their readers are away", reopened},
	{"random operations of 4 writers on 20 positions each and 10 crashes skip nothing and lose nothing that was flushed", randomCrashes},
	{"a position expires when its reader has been away for that long, across restarts, too", expiry},
	{"a removed position is gone, and its key can be used again", removed},
	{"5000 positions are written in few steps", many},
	{"positions, their size and their memory are bounded", bounds},
	{"a log that fails delays nothing, and is tried again", failing},
	{"a log that blocks delays nothing", blocking},
	{"a position that another hub has changed does not hold up 99 others", conflicting},
	{"a position of another epoch says so", oldEpoch},
	{"a claim of a position that does not exist says so, and the position can be saved or removed", claimNothing},
	{"Each yields the positions with a prefix in order", each},
	{"a position that depends on others is kept while one names it, across restarts, too", dependent},
}

func saved(r *rig) {
	h := r.start()
	if err := h.Save(pos("k", 1)); !errors.Is(err, cursor.ErrElsewhere) {
		r.Errorf("a position that was not claimed is saved: %v", err)
	}
	h.begin(pos("k", 1))
	for n := range 50 {
		p := pos("k", n+1)
		want := text(*p)
		h.save(p)
		for i := range p.Window { // the set keeps nothing of it
			p.Window[i] = cursor.Unacked{}
		}
		for i := range p.Filters {
			p.Filters[i].Options[0] = 'x'
		}
		got, ok := h.Get("k")
		if !ok || text(got) != want || !got.Away.IsZero() {
			r.Fatalf("the position is %+v, %v, want %s", got, ok, want)
		}
		if got.ID() != (store.ID{Epoch: epoch, Seq: store.Seq(n + 1)}) {
			r.Errorf("its id is %v", got.ID())
		}
	}
	left := time.Now().Add(-time.Hour)
	p := pos("k", 3)
	p.Away, p.Expiry = left, 100*time.Hour
	h.save(p)
	if got, _ := h.Get("k"); got.Away.Sub(left).Abs() > time.Millisecond || got.Expiry != p.Expiry {
		r.Errorf("the position is %+v", got)
	}
	if _, ok := h.Get("other"); ok {
		r.Error("a position exists that nobody saved")
	}
}

func reopened(r *rig) {
	if !r.persistent() {
		r.Skip("the log does not outlive the process")
	}
	h := r.start()
	left := time.Now().Add(-time.Hour)
	for n := range 100 {
		p := pos(fmt.Sprint("k", n), n)
		if n%2 > 0 {
			p.Away = left
		}
		h.begin(p)
	}
	h.stop()
	if err := h.Save(pos("k1", 5)); !errors.Is(err, cursor.ErrClosed) {
		r.Errorf("Save after Close returns %v", err)
	}
	for range 2 {
		h = h.again()
		for n := range 100 {
			key := fmt.Sprint("k", n)
			if got := h.number(key); got != n {
				r.Errorf("position %d is number %d", n, got)
			}
			p, _ := h.Get(key)
			if want := []time.Time{time.Now(), left}[n%2]; p.Away.Sub(want).Abs() > patience {
				r.Errorf("the reader of %d is away since %v, want %v", n, p.Away, want)
			}
		}
		h.crash()
	}
}

// version is what the model knows of a position.
type version struct {
	key   string
	saved []int // numbers saved since the last crash, the newest last; 0: removed
	floor int   // the index of the oldest one that a crash may leave
}

func (v *version) save(h *hub, n int) error {
	v.saved = append(v.saved, n)
	if n == 0 {
		h.Remove(v.key)
		return nil
	}
	if v.saved[len(v.saved)-2] == 0 {
		if _, _, err := h.Claim(h.rig.Context(), v.key); err != nil {
			return err
		}
	}
	p := pos(v.key, n)
	if n%5 == 0 {
		p = away(p)
	}
	return h.Save(p)
}

func (v *version) newest() int { return v.saved[len(v.saved)-1] }

// judge compares what a hub has of the position with what it may be, and takes it over.
func (v *version) judge(h *hub) error {
	got := 0
	if p, ok := h.Get(v.key); ok {
		n, err := whole(p)
		if err != nil {
			return err
		}
		got = n
	}
	for _, n := range v.saved[v.floor:] {
		if n == got {
			v.saved, v.floor = []int{got}, 0
			return nil
		}
	}
	return fmt.Errorf("%s is number %d, want one of %d", v.key, got, v.saved[v.floor:])
}

// randomCrashes has four writers with positions of their own, until the hub crashes or is closed.
func randomCrashes(r *rig) {
	seed := rand.Uint64()
	r.Logf("seed %d", seed)
	const writers, keys = 4, 20
	var list [writers][]*version
	for w := range list {
		for k := range keys {
			list[w] = append(list[w], &version{key: fmt.Sprint("w", w, "/", k), saved: []int{0}})
		}
	}
	h := r.start()
	for round := range 10 {
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(round*writers+w)))
				for range 100 + rng.IntN(200) {
					if err := h.step(list[w][rng.IntN(keys)], rng); err != nil {
						r.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		if h.log != nil && round%3 == 2 {
			h.stop()
			for _, v := range list[round%writers] {
				v.floor = len(v.saved) - 1
			}
		} else if h.log != nil {
			h.crash()
		}
		h = h.again()
		for w := range writers {
			for _, v := range list[w] {
				if err := v.judge(h); err != nil {
					r.Errorf("round %d: %v", round, err)
				} else if v.newest() > 0 {
					h.claim(v.key)
				}
			}
		}
		if r.Failed() {
			return
		}
	}
}

// step does something at random with a position, and compares what the set has of it.
func (h *hub) step(v *version, rng *rand.Rand) error {
	switch rng.IntN(20) {
	case 0:
		return v.save(h, 0)
	case 1, 2:
		if err := h.Flush(h.rig.Context(), v.key); err != nil && v.newest() > 0 { // without a claim it may be another hub's
			return err
		}
		v.floor = len(v.saved) - 1
	case 3:
		p, ok, err := h.Claim(h.rig.Context(), v.key)
		if err != nil || ok != (v.newest() > 0) || ok && int(p.Done) != v.newest() {
			return fmt.Errorf("claiming %s returns %+v, %v, %v, want number %d", v.key, p, ok, err, v.newest())
		}
		return v.save(h, v.newest()+1)
	default:
		if err := v.save(h, 1+rng.IntN(100_000)); err != nil {
			return err
		}
	}
	got := 0
	if p, ok := h.Get(v.key); ok {
		got = int(p.Done)
	}
	if got != v.newest() {
		return fmt.Errorf("%s is number %d, want %d", v.key, got, v.newest())
	}
	return nil
}

func expiry(r *rig) {
	h := r.start()
	exists := func(key string) bool { _, ok := h.Get(key); return ok }
	keep := func(key string, away, expiry time.Duration) {
		p := pos(key, 1)
		p.Away, p.Expiry = time.Now().Add(-away), expiry
		h.begin(p)
	}
	keep("soon", time.Hour, time.Hour+20*time.Millisecond)
	keep("late", time.Hour, 2*time.Hour)
	keep("ever", 1e6*time.Hour, -1)
	keep("later", time.Hour, time.Hour+time.Minute)
	keep("never", 0, 0)
	here := pos("here", 1)
	here.Expiry = time.Nanosecond
	h.begin(here)
	eventually(r, "the positions expire", func() bool { return !exists("soon") && !exists("never") })
	if h.log != nil {
		h.flush("soon")
		h.crash()
		h = h.again()
	}
	for key, want := range map[string]bool{"soon": false, "never": false, "late": true, "ever": true, "later": true} {
		if exists(key) != want {
			r.Errorf("%s exists: %v", key, !want)
		}
	}
	keep("later", time.Hour, time.Hour)
	eventually(r, "a position expires sooner than before", func() bool { return !exists("later") })
	eventually(r, "what has expired is told", func() bool { return r.told("soon") == 1 && r.told("never") == 1 && r.told("later") == 1 })
	if r.told("ever") > 0 || r.told("late") > 0 {
		r.Error("a position that has not expired is told")
	}
	if h.log == nil {
		return
	}
	eventually(r, "the notes of expired positions are removed", func() bool {
		h.Adopt()
		keys := h.noted()
		return !strings.Contains(keys, "later") && !strings.Contains(keys, "here")
	})
	if got := h.noted(); got != "ever late" {
		r.Errorf("noted are %s", got)
	}
}

// noted returns the keys of the positions in the log.
func (h *hub) noted() string {
	h.rig.Helper()
	var keys []string
	err := h.log.Notes(func(n store.Note) error {
		if key, ok := strings.CutPrefix(n.Key, cursor.Prefix); ok {
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		h.rig.Fatal(err)
	}
	return strings.Join(keys, " ")
}

func removed(r *rig) {
	h := r.start()
	for i := range 20 {
		h.begin(pos("k", 1+i))
		if i%2 > 0 {
			h.flush("k")
		}
		h.Remove("k")
		h.Remove("k")
		if p, ok := h.Get("k"); ok {
			r.Fatalf("there is %+v", p)
		}
		if err := h.Save(pos("k", 1)); !errors.Is(err, cursor.ErrElsewhere) {
			r.Errorf("a removed position is saved: %v", err)
		}
		if i%3 > 0 {
			h.flush("k")
		}
	}
	if n, bytes := h.Usage(); h.log == nil && (n != 0 || bytes != 0) {
		r.Errorf("%d positions of %d bytes are left", n, bytes)
	}
	h.Remove("none")
	h.begin(pos("k", 7))
	h.begin(pos("gone", 7))
	h.flush("gone")
	h.Remove("gone")
	h.flush("gone")
	h.flush("k")
	if h.log != nil {
		h.crash()
		h = h.again()
	}
	if h.number("k") != 7 {
		r.Error("the new position is not there")
	}
	if _, ok := h.Get("gone"); ok {
		r.Error("a removed position is there again")
	}
}

func many(r *rig) {
	h := r.start()
	const n = 5000
	for i := range n {
		h.begin(pos(fmt.Sprint("k/", i), i+1))
	}
	if h.log == nil {
		return
	}
	before, _ := h.log.counts()
	for i := range n {
		h.save(away(pos(fmt.Sprint("k/", i), i)))
	}
	h.stop()
	if appends, _ := h.log.counts(); appends-before > n/20 {
		r.Errorf("%d positions took %d appends", n, appends-before)
	}
	h = h.again()
	for i := range n {
		if got := h.number(fmt.Sprint("k/", i)); got != i {
			r.Fatalf("position %d is number %d", i, got)
		}
	}
	if got, _ := h.Usage(); got != n {
		r.Errorf("there are %d positions of %d", got, n)
	}
}

func bounds(r *rig) {
	h := r.start(func(o *cursor.Options) { o.MaxPositions, o.MaxBytes = 10, 100_000 })
	for i := range 10 {
		h.begin(pos(fmt.Sprint(i), i))
	}
	limited := func(what string, err error) {
		r.Helper()
		l, ok := errors.AsType[*cursor.LimitError](err)
		if !ok || !strings.Contains(err.Error(), what) {
			r.Errorf("one too many: %v (%+v)", err, l)
		}
	}
	_, _, err := h.Claim(r.Context(), "new")
	limited("10 positions", err)
	if _, ok := h.Get("new"); ok {
		r.Error("a position that was refused is there")
	}
	h.save(pos("3", 300)) // one that exists
	large := pos("4", 4)
	large.Data = make([]byte, 110_000)
	limited("100000 bytes", h.Save(large))
	if h.number("4") != 4 {
		r.Error("a save that was refused has changed the position")
	}
	large.Data = make([]byte, 60_000)
	h.save(large)
	second := pos("6", 4)
	second.Data = large.Data
	limited("100000 bytes", h.Save(second))
	h.save(pos("4", 4))
	h.save(second)
	large.Data = make([]byte, cursor.MaxSize)
	if err := h.Save(large); !errors.Is(err, cursor.ErrTooLarge) {
		r.Errorf("a large position: %v", err)
	}
	h.Remove("5")
	h.flush("5")
	h.begin(pos("new", 1))
	for _, key := range []string{"", strings.Repeat("k", cursor.MaxKey+1)} {
		if err := h.Save(pos(key, 1)); err == nil {
			r.Errorf("a key of %d bytes is taken", len(key))
		}
		if _, _, err := h.Claim(r.Context(), key); err == nil {
			r.Errorf("a key of %d bytes is claimed", len(key))
		}
	}
	if err := h.Save(&cursor.Position{Key: "3"}); err == nil {
		r.Error("a position without an epoch is taken")
	}
	for i := range 10 {
		h.Remove(fmt.Sprint(i))
		h.flush(fmt.Sprint(i))
	}
	h.Remove("new")
	h.flush("new")
	if n, bytes := h.Usage(); n != 0 || bytes != 0 {
		r.Errorf("%d positions take %d bytes, want none", n, bytes)
	}
}

func failing(r *rig) {
	if !r.persistent() {
		r.Skip("there is no log")
	}
	failed := make(chan error, 100)
	h := r.start(func(o *cursor.Options) { o.Failed = func(err error) { failed <- err } })
	for n := range 101 {
		h.begin(pos(fmt.Sprint("k", n), 1))
	}
	h.begin(pos("k", 1))
	h.begin(pos("gone", 1))
	h.flush("gone")
	h.log.set(func(t *tap) { t.fails = errTest })
	for n := range 101 {
		h.save(pos("k", n))
		h.save(pos(fmt.Sprint("k", n), n))
	}
	h.Remove("gone")
	if err := h.Flush(r.Context(), "k"); !errors.Is(err, errTest) {
		r.Errorf("Flush returns %v", err)
	}
	before, _ := h.log.counts()
	eventually(r, "it is tried again", func() bool { n, _ := h.log.counts(); return n > before+3 })
	h.save(pos("k", 101))
	if h.number("k") != 101 {
		r.Error("the newest position is not there")
	}
	h.log.set(func(t *tap) { t.fails = nil })
	h.flush("k")
	eventually(r, "everything is written", func() bool { return len(strings.Fields(h.noted())) == 102 })
	if n := len(failed); n != 1 {
		r.Errorf("%d failures were told, want 1", n)
	}
	h.crash()
	h = h.again()
	if h.number("k") != 101 || h.number("k100") != 100 {
		r.Error("a position is older than its last write")
	}
}

func blocking(r *rig) {
	if !r.persistent() {
		r.Skip("there is no log")
	}
	h := r.start()
	blocked := make(chan struct{})
	h.begin(pos("k", 1))
	h.begin(pos("other", 1))
	h.flush("other")
	h.log.set(func(t *tap) { t.blocked = blocked })
	before, _ := h.log.counts()
	h.save(pos("k", 2))
	eventually(r, "a write begins", func() bool { n, _ := h.log.counts(); return n > before })
	h.Remove("other")
	for n := 3; n < 100; n++ {
		h.save(pos("k", n))
		if h.number("k") != n {
			r.Error("the newest position is not there")
		}
	}
	h.log.set(func(t *tap) { t.blocked = nil })
	close(blocked)
	h.flush("k")
	h.crash()
	if h = h.again(); h.number("k") != 99 {
		r.Errorf("position %d is there, want 99", h.number("k"))
	}
}

func conflicting(r *rig) {
	if !r.persistent() {
		r.Skip("there is no log")
	}
	h := r.start()
	const n = 100
	for k := range n {
		h.begin(pos(fmt.Sprint("k", k), 1))
	}
	h.flush("k99")
	h.log.set(func(t *tap) { t.refused = "k50" })
	for k := range n {
		h.save(pos(fmt.Sprint("k", k), 2))
	}
	if err := h.Flush(r.Context(), "k50"); !errors.Is(err, cursor.ErrElsewhere) {
		r.Errorf("Flush of the position returns %v", err)
	}
	for k := range n {
		if key := fmt.Sprint("k", k); k != 50 {
			h.flush(key)
		}
	}
	h.crash()
	h = h.again()
	for k := range n {
		if got := h.number(fmt.Sprint("k", k)); got != 2 && k != 50 {
			r.Errorf("position %d is number %d", k, got)
		}
	}
}

func oldEpoch(r *rig) {
	h := r.start()
	p := pos("k", 5)
	p.Epoch = "before"
	h.begin(p)
	if h.log != nil {
		h.stop()
		h = h.again()
	}
	got, ok, err := h.Claim(r.Context(), "k")
	if err != nil || !ok || got.Epoch != "before" || got.ID().String() != "before-5" {
		r.Errorf("the position is %+v, %v, %v", got, ok, err)
	}
}

func claimNothing(r *rig) {
	h := r.start()
	for _, key := range []string{"saved", "removed"} {
		if p, ok, err := h.Claim(r.Context(), key); ok || err != nil {
			r.Errorf("the position is %+v, %v", p, err)
		}
		if _, ok := h.Get(key); ok {
			r.Error("a position is there that was not saved")
		}
	}
	h.save(pos("saved", 3))
	h.Remove("removed")
	h.flush("saved")
	h.flush("removed")
	if h.log != nil {
		if got := h.noted(); got != "saved" {
			r.Errorf("noted are %s", got)
		}
		if _, _, err := h.Claim(r.Context(), "left"); err != nil {
			r.Error(err)
		}
		h.stop()
		h = h.again()
		if got := h.noted(); got != "saved" {
			r.Errorf("after a restart, noted are %s", got)
		}
	}
	if h.claim("saved") != 3 {
		r.Error("the position is not there")
	}
}

func each(r *rig) {
	h := r.start()
	for _, key := range []string{"b/2", "a/1", "b/1", "b/3", "c/1"} {
		h.begin(pos(key, 1))
	}
	h.Remove("b/3")
	if _, _, err := h.Claim(r.Context(), "b/4"); err != nil {
		r.Fatal(err)
	}
	list := func(prefix string, most int) (keys string) {
		for p := range h.Each(prefix) {
			keys += p.Key + " "
			if most--; most == 0 {
				break
			}
		}
		return keys
	}
	for _, c := range []struct {
		prefix string
		most   int
		want   string
	}{{"b/", 9, "b/1 b/2 "}, {"", 9, "a/1 b/1 b/2 c/1 "}, {"x", 9, ""}, {"", 2, "a/1 b/1 "}} {
		if got := list(c.prefix, c.most); got != c.want {
			r.Errorf("with the prefix %q there are %s, want %s", c.prefix, got, c.want)
		}
	}
}
