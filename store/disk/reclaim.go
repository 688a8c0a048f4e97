package disk

import (
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Deleted messages take room on disk until the engine merges their tables, which it does on its own only
// where there are many tables. When deleted messages may take half as much as those that are held, the
// log has all tables merged, piece by piece.
const (
	reclaimParts = 2           // of what is held
	reclaimLeast = 4 << 20     // bytes
	reclaimPiece = 64 << 20    // bytes of messages at once: others have a turn between two
	reclaimAfter = time.Second // it is tried again, if it could not be done
)

// reclaimable reports whether it is time to.
func (l *Log) reclaimable() bool {
	return len(l.deletions) == 0 && !l.reclaims.Load() && l.failure() == nil &&
		l.deletedBytes.Load() > l.next.cost()/reclaimParts+max(reclaimLeast, l.engine.memtable)
}

// reclaim gives room on disk back, if there is enough to, in a goroutine that ends as the log is
// closed.
func (l *Log) reclaim() {
	if !l.reclaimable() {
		return
	}
	l.reclaims.Store(true)
	bytes := l.deletedBytes.Swap(0)
	pieces := store.Seq(l.next.cost()/reclaimPiece + 1)
	first, last := store.Seq(l.oldest.Load()), l.last
	l.ended.Go(func() {
		defer l.reclaims.Store(false)
		var err error
		l.opts.call(func() { err = l.merge(first, last, pieces) })
		if err != nil {
			l.deletedBytes.Add(bytes) // it was not completed: there was no room, or the log is being closed
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
