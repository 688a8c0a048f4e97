package memory

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/watchbox-go/watchbox/store"
)

// TestOrderIsASortedList adds and removes messages at random, sparsely and densely, and compares the
// messages after each position with a plain list.
func TestOrderIsASortedList(t *testing.T) {
	a := newArena(64 << 20)
	defer a.close()
	o := &order{arena: a, purpose: history}
	alloc := func(n int, purpose purpose) piece {
		p, _ := a.alloc(n, purpose, true)
		return p
	}
	r := rand.New(rand.NewPCG(1, 1))
	var seqs []store.Seq
	placeOf := func(seq store.Seq) place { return place{int(seq) % 1000, int(seq) % 7} }
	for newest := store.Seq(0); newest < 100_000; {
		newest += 1 + store.Seq(r.IntN(1+1<<r.IntN(6))/8)
		o.reserve(newest, alloc)
		o.add(newest, placeOf(newest))
		seqs = append(seqs, newest)
		for len(seqs) > 3000 || len(seqs) > 0 && r.IntN(3) == 0 {
			i := r.IntN(len(seqs))
			o.remove(seqs[i])
			seqs = slices.Delete(seqs, i, i+1)
		}
		if newest%97 == 0 {
			after := store.Seq(r.IntN(int(newest) + 2))
			i, found := slices.BinarySearch(seqs, after)
			if found {
				i++
			}
			w := o.after(after)
			for _, want := range seqs[i:min(len(seqs), i+50)] {
				if seq, at, ok := w.next(); !ok || seq != want || at != placeOf(seq) {
					t.Fatalf("after %d comes %d at %v, want %d at %v", after, seq, at, want, placeOf(want))
				}
			}
		}
	}
	var back []store.Seq
	o.backward(noSeq, func(seq store.Seq, _ place) bool {
		back = append(back, seq)
		return true
	})
	slices.Reverse(back)
	if !slices.Equal(back, seqs) {
		t.Errorf("backward yields %d messages, want %d", len(back), len(seqs))
	}
	for _, seq := range seqs {
		o.remove(seq)
	}
	if len(o.pages) > 1 || a.used[history] > blockSize+pieceCost+blockCost+256 {
		t.Errorf("with nothing held there are %d pages, %d bytes", len(o.pages), a.used[history])
	}
}
