package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
	"github.com/watchbox-go/watchbox/store/memory"
)

// place returns a position with a number.
func place(key string, n int) *cursor.Position {
	return &cursor.Position{Key: key, Epoch: "e", Done: store.Seq(n), Read: store.Seq(n), Expiry: cursor.ForEver}
}

// claim claims a position at a hub, and returns its number, 0 for a new one.
func (n *node) claim(key string) int {
	n.rig.Helper()
	p, _, err := n.Cursors().Claim(n.rig.Context(), key)
	n.rig.must(err)
	return int(p.Done)
}

func TestAClaimGetsTheNewestPositionFromAnotherHub(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		ended := ""
		for i, n := range r.hubs {
			n.Cursors().OnEnd("mqtt/", func(key string) {
				ended += fmt.Sprint(key, " at ", i, " ")
				p, _ := n.Cursors().Get(key)
				p.Done++
				p.Away = time.Now()
				r.must(n.Cursors().Save(&p))
			})
		}
		for i, want := range []int{0, 2, 4, 6, 8} {
			n := r.hubs[i%3]
			if got := n.claim("mqtt/1"); got != want {
				r.Errorf("claim %d gets number %d, want %d", i, got, want)
			}
			r.must(n.Cursors().Save(place("mqtt/1", want+1)))
		}
		if want := "mqtt/1 at 0 mqtt/1 at 1 mqtt/1 at 2 mqtt/1 at 0 "; ended != want {
			r.Errorf("ended are %s, want %s", ended, want)
		}
		if err := r.hubs[0].Cursors().Save(place("mqtt/1", 100)); !errors.Is(err, cursor.ErrElsewhere) {
			r.Errorf("a hub without the position saves it: %v", err)
		}
	})
}

func TestPositionsOfAHubThatClosesAreComplete(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		for k := range 100 {
			key := fmt.Sprint("k", k)
			r.hubs[0].claim(key)
			r.must(r.hubs[0].Cursors().Save(place(key, k)))
		}
		r.must(r.hubs[0].Close())
		for k := range 100 {
			if got := r.hubs[1].claim(fmt.Sprint("k", k)); got != k {
				r.Errorf("position %d is number %d", k, got)
			}
		}
		r.hubs[0] = r.begin(0)
		if got := r.hubs[0].claim("k7"); got != 7 {
			r.Errorf("after a restart, position 7 is number %d", got)
		}
	})
}

// TestAClaimWaitsForAHubUntilItIsGivenUp: a hub that does not answer may have a newer position.
func TestAClaimWaitsForAHubUntilItIsGivenUp(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		r.hubs[0].claim("k")
		r.must(r.hubs[0].Cursors().Save(place("k", 5)))
		time.Sleep(2 * time.Second)
		var ended atomic.Bool
		r.hubs[0].Cursors().OnEnd("", func(string) { ended.Store(true) })
		r.hubs[0].log.Pause()
		r.must(r.hubs[0].Cursors().Save(place("k", 6))) // it cannot be stored
		if _, _, err := r.hubs[1].Cursors().Claim(r.Context(), "k"); !errors.Is(err, ErrHubAway) {
			r.Errorf("a claim from a hub that does not answer: %v", err)
		}
		time.Sleep(10 * time.Second)
		if got := r.hubs[1].claim("k"); got != 5 {
			r.Errorf("the position is number %d", got)
		}
		r.must(r.hubs[1].Cursors().Save(place("k", 7)))
		r.hubs[0].log.Resume()
		time.Sleep(5 * time.Second)
		if err := r.hubs[0].Cursors().Save(place("k", 8)); !errors.Is(err, cursor.ErrElsewhere) || !ended.Load() {
			r.Errorf("the hub that was paused saves the position: %v; its reader was ended: %v", err, ended.Load())
		}
		if got := r.hubs[2].claim("k"); got != 7 {
			r.Errorf("the position is number %d", got)
		}
	})
}

func TestReadersOfAHubThatDiedAreAway(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		for _, key := range []string{"long", "short"} {
			p := place(key, 5)
			p.Expiry = map[string]time.Duration{"long": time.Hour, "short": time.Minute}[key]
			r.hubs[0].claim(key)
			r.must(r.hubs[0].Cursors().Save(p))
		}
		time.Sleep(2 * time.Second)
		r.hubs[0].log.Kill()
		time.Sleep(30 * time.Second)
		if p, _ := r.hubs[2].Cursors().Get("short"); p.Away.IsZero() {
			r.Errorf("the position is %+v", p)
		}
		time.Sleep(time.Minute)
		for _, n := range r.hubs[1:] {
			if _, ok := n.Cursors().Get("short"); ok {
				r.Error("a position did not expire")
			}
		}
		if got := r.hubs[2].claim("long"); got != 5 {
			r.Errorf("the position is number %d", got)
		}
		if got := strings.Join(r.log.Notes(), " "); strings.Contains(got, "short") {
			r.Errorf("the notes are %s", got)
		}
	})
}

// TestAHubThatIsRestartedHasThePositions uses a log on disk.
func TestAHubThatIsRestartedHasThePositions(t *testing.T) {
	dir := t.TempDir()
	open := func() *Hub {
		l, err := disk.Open(disk.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		h, err := start(l, Defaults(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := open()
	if _, ok, err := h.Cursors().Claim(t.Context(), "k"); ok || err != nil {
		t.Errorf("a claim finds %v, %v", ok, err)
	}
	p := place("k", 5)
	p.Filters = []cursor.Filter{{Filter: "a/#"}}
	for _, err := range []error{h.Cursors().Save(p), h.Close()} {
		if err != nil {
			t.Error(err)
		}
	}
	h = open()
	got, ok, err := h.Cursors().Claim(t.Context(), "k")
	if !ok || err != nil || got.Done != 5 || len(got.Filters) != 1 || got.Filters[0].Filter != "a/#" {
		t.Errorf("after a restart, the position is %+v, %v, %v", got, ok, err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// flood is a log of one hub that is full until it is not.
type flood struct {
	store.Store
	full  atomic.Bool
	notes atomic.Int64
}

func (f *flood) AppendNoted(_ context.Context, _ []store.Entry, notes ...store.Note) (store.ID, error) {
	if f.full.Load() {
		return store.ID{}, store.ErrFull
	}
	f.notes.Add(int64(len(notes)))
	return store.ID{}, nil
}

func (f *flood) Notes(func(store.Note) error) error { return nil }

func TestPositionsAreWrittenWhenAFullStoreHasRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &flood{Store: memory.New(memory.Options{})}
		l.full.Store(true)
		h, err := start(l, Defaults(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for k := range 10 {
			p := place(fmt.Sprint("k", k), k)
			if _, _, err := h.Cursors().Claim(t.Context(), p.Key); err != nil {
				t.Error(err)
			}
			if err := h.Cursors().Save(p); err != nil {
				t.Error(err)
			}
		}
		pass(time.Minute)
		l.full.Store(false)
		pass(2 * time.Second)
		if n := l.notes.Load(); n != 10 {
			t.Errorf("%d positions were written, want 10", n)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}
