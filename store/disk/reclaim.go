package disk

import (
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// What was deleted takes room on disk until the engine merges the tables that it is in, which that
// does on its own only where many are. When as much as half of what is held may be taken by what is
// not, all of it is merged, piece by piece.
const (
	reclaimParts = 2           // of what is held
	reclaimLeast = 4 << 20     // bytes
	reclaimPiece = 64 << 20    // bytes of messages at once: others have a turn between two
	reclaimAfter = time.Second // it is tried again, if it could not be done
)

// reclaimable reports whether it is time to.
func (l *Log) reclaimable() bool {
	return len(l.doomed) == 0 && !l.reclaims.Load() && l.failure() == nil &&
		l.dead.Load() > l.next.cost()/reclaimParts+max(reclaimLeast, l.engine.memtable)
}

// reclaim gives room on disk back, if there is enough to, in a goroutine that ends as the log is
// closed.
func (l *Log) reclaim() {
	if !l.reclaimable() {
		return
	}
	l.reclaims.Store(true)
	dead := l.dead.Swap(0)
	pieces := store.Seq(l.next.cost()/reclaimPiece + 1)
	first, last := store.Seq(l.oldest.Load()), l.last
	l.ended.Go(func() {
		defer l.reclaims.Store(false)
		var err error
		l.opts.call(func() { err = l.merge(first, last, pieces) })
		if err != nil {
			l.dead.Add(dead) // it did not come to an end: there was no room, or none is needed any more
		}
	})
}

// merge has the engine merge all tables of messages, of what is retained, and of the index.
func (l *Log) merge(first, last, pieces store.Seq) error {
	step := (last-first)/pieces + 1
	for ; first < last; first += step {
		if err := l.engine.merge(l.closing, seqKey(messageSpace, first), seqKey(messageSpace, first+step)); err != nil {
			return err
		}
	}
	for _, space := range []byte{retainedSpace, indexSpace, expirySpace} {
		if err := l.engine.merge(l.closing, []byte{space}, behind(space)); err != nil {
			return err
		}
	}
	return nil
}
