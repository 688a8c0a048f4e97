package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/watchbox-go/watchbox/store"
)

// settlingTests test logs that are store.Settling.
var settlingTests = []sharedTest{
	{"of appends with an unknown outcome, AppendSettling tells those that are stored, once and in order, 100 appends of 4 writers", settles},
}

// settled is what AppendSettling has told, and how its calls have ended.
type settled struct {
	mu       sync.Mutex // guards what follows
	unknown  map[string]bool
	told     map[string]store.ID
	returned store.Seq // the highest one
	wrong    []string
}

// append appends two messages whose text names the append.
func (x *settled) append(s store.Settling, name string) {
	id, err := s.AppendSettling(context.Background(), entries(text("a", name), text("b", name)), func(first store.ID) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if _, again := x.told[name]; again {
			x.wrong = append(x.wrong, name+" is told twice")
		}
		x.told[name] = first
		if first.Seq < x.returned {
			x.wrong = append(x.wrong, fmt.Sprintf("%s, which has the id %v, is told after an append with the seq %d has returned", name, first, x.returned))
		}
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case err == nil:
		x.returned = max(x.returned, id.Seq)
	case errors.Is(err, store.ErrUnknownOutcome):
		x.unknown[name] = true
	case !errors.Is(err, store.ErrAway):
		x.wrong = append(x.wrong, fmt.Sprintf("append of %s: %v", name, err))
	}
}

// agrees reports whether exactly those appends were told that are stored and had an unknown outcome. n is how many there are.
func (x *settled) agrees(b *store.Batch) (n int, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	want := map[string]store.ID{}
	for i, name := range texts(b) {
		if x.unknown[name] {
			want[name] = store.ID{Epoch: b.Epoch, Seq: b.Frames[i].Seq}
		}
	}
	return len(want), maps.Equal(want, x.told)
}

func settles(c *cluster) {
	a, stop := c.disturbed()
	s, ok := a.Shared.(store.Settling)
	if !ok {
		c.Skip("the log is not store.Settling")
	}
	x := &settled{unknown: map[string]bool{}, told: map[string]store.ID{}}
	writers(4, 25, func(w, r int) { x.append(s, fmt.Sprintf("%d/%d", w, r)) })
	stop()
	stored := 0
	c.eventually("what is told is what is stored", func() (ok bool) {
		stored, ok = x.agrees(a.all("a"))
		return ok
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, w := range x.wrong {
		c.Error(w)
	}
	c.Logf("the outcome of %d appends was unknown, %d of them are stored", len(x.unknown), stored)
	if stored == 0 {
		c.Error("there was nothing to tell")
	}
}
