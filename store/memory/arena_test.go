package memory

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestPiecesDoNotOverlap fills pieces of random sizes with a byte of their own, and checks them when they
// are released.
func TestPiecesDoNotOverlap(t *testing.T) {
	type owned struct {
		piece
		mark byte
	}
	const limit = 4 << 20
	a := newArena(limit)
	defer a.close()
	r := rand.New(rand.NewPCG(1, 1))
	var out []owned
	giveBack := func(i int) {
		p := out[i]
		if want := bytes.Repeat([]byte{p.mark}, len(p.data)); !bytes.Equal(p.data, want) {
			t.Fatalf("a piece of %d bytes was written to by another", len(p.data))
		}
		a.release(p.piece)
		out = slices.Delete(out, i, i+1)
	}
	refused := 0
	for i := range 20_000 {
		n := 1 + r.IntN(1+1<<r.IntN(18))
		p, ok := a.alloc(n, purpose(r.IntN(2)), false)
		if ok {
			if len(p.data) < n || len(p.data) > max(2*n, minPiece) {
				t.Fatalf("%d bytes for %d", len(p.data), n)
			}
			for k := range p.data {
				p.data[k] = byte(i)
			}
			out = append(out, owned{p, byte(i)})
		} else {
			refused++
		}
		for len(out) > 0 && (!ok || r.IntN(2) == 0) {
			giveBack(r.IntN(len(out)))
			ok = true
		}
		if a.taken() > limit {
			t.Fatalf("%d bytes are used, the limit is %d", a.taken(), limit)
		}
	}
	for len(out) > 0 {
		giveBack(0)
	}
	if a.used != [2]int64{} || refused == 0 {
		t.Errorf("with nothing out %d bytes are in use; %d requests were refused", a.used, refused)
	}
}

func TestAPieceIsLargeEnough(t *testing.T) {
	for n := 1; n < 3*blockSize; n++ {
		size := roundUp(n)
		if size < n || roundUp(size) != size || n > minPiece && n <= blockSize/4 && size > n+n/3 {
			t.Fatalf("%d bytes get %d", n, size)
		}
	}
}
