package storetest

import (
	"context"
	"slices"
	"sync"

	"github.com/watchbox-go/watchbox/store"
)

// seqs are the seqs of the messages that were appended, in order. The tests name messages by their ordinals, since
// a store may skip ids between two appends.
type seqs struct {
	mu   sync.Mutex
	list []store.Seq
}

// Append implements store.Log, and records the seqs.
func (l *log) Append(ctx context.Context, entries []store.Entry) (store.ID, error) {
	id, err := l.Store.Append(ctx, entries)
	if err == nil {
		l.seqs.add(id.Seq, len(entries))
	}
	return id, err
}

// add records n consecutive seqs. Of two appends at once, the second may be recorded first.
func (s *seqs) add(first store.Seq, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := len(s.list)
	for i > 0 && s.list[i-1] > first {
		i--
	}
	for k := range n {
		s.list = slices.Insert(s.list, i+k, first+store.Seq(k))
	}
}

// at returns the seq of the nth message: 0 for the position before the first, and a seq above the newest for a
// message that does not exist yet.
func (l *log) at(n int) store.Seq {
	l.seqs.mu.Lock()
	defer l.seqs.mu.Unlock()
	last := len(l.seqs.list)
	switch {
	case n <= 0:
		return 0
	case n <= last:
		return l.seqs.list[n-1]
	case last == 0:
		return store.Seq(n)
	}
	return l.seqs.list[last-1] + store.Seq(n-last)
}

// count returns how many messages were appended up to a position: the ordinal of the message there.
func (l *log) count(pos store.Seq) int {
	l.seqs.mu.Lock()
	defer l.seqs.mu.Unlock()
	n, found := slices.BinarySearch(l.seqs.list, pos)
	if found {
		n++
	}
	return n
}
