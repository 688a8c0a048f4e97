// Package sparse is a store whose ids have holes, for tests. Package store promises that ids rise, and that the
// entries of one Append have consecutive ids. Code that assumes more works with a log of its own, and fails with
// one that several hubs share.
package sparse

import (
	"context"
	"math/rand/v2"
	"sync"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// Log is a log in memory that skips ids between appends: none before about half of them, and seldom so many
// that memory has to begin a new page or chunk.
type Log struct {
	*memory.Log

	mu   sync.Mutex // guards the fields below
	rand *rand.Rand
	last store.Seq
}

// New returns an empty log. All logs skip the same ids.
func New(o memory.Options) *Log {
	return &Log{Log: memory.New(o), rand: rand.New(rand.NewPCG(1, 2))}
}

// Append implements store.Log.
func (l *Log) Append(_ context.Context, entries []store.Entry) (store.ID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seqs := make([]store.Seq, len(entries))
	next := l.last + l.skip()
	for i := range seqs {
		next++
		seqs[i] = next
	}
	if err := l.Place(entries, seqs); err != nil {
		return store.ID{}, err
	}
	l.last = next
	_, newest := l.Bounds()
	return store.ID{Epoch: newest.Epoch, Seq: seqs[0]}, nil
}

// skip returns how many ids are skipped. The first message never has the seq 1.
func (l *Log) skip() store.Seq {
	switch n := l.rand.IntN(1000); {
	case n < 500 && l.last > 0:
		return 0
	case n < 980:
		return 1 + store.Seq(l.rand.IntN(20))
	case n < 998:
		return 10_000
	default:
		return 1 << 30
	}
}
