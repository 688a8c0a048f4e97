package disk

import (
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// Deleted messages take room on disk until the engine merges their tables. By itself it does so only where
// there are many tables. When deleted messages may take half as much room as those that are held, the log
// merges all tables, piece by piece.
const (
	reclaimParts = 2           // the part of the bytes held
	reclaimLeast = 4 << 20     // bytes
	reclaimPiece = 64 << 20    // bytes of messages per merge, so that other merges can run in between
	reclaimAfter = time.Second // the delay before a failed attempt is repeated
)

// reclaimable reports whether there is enough room to give back.
func (l *Log) reclaimable() bool {
	return len(l.deletions) == 0 && !l.reclaims.Load() && l.failure() == nil &&
		l.deletedBytes.Load() > l.next.cost()/reclaimParts+max(reclaimLeast, l.engine.memtable)
}

// reclaim starts a goroutine that gives room on disk back, if there is enough. Close ends it.
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
			l.deletedBytes.Add(bytes) // not completed: there was no room, or the log is being closed
		}
	})
}

// merge merges the tables of messages, retained messages, the index and expiry.
func (l *Log) merge(first, last, pieces store.Seq) error {
	step := (last-first)/pieces + 1
	for ; first < last; first += step {
		if err := l.engine.merge(l.closing, seqKey(messageSpace, first), seqKey(messageSpace, first+step)); err != nil {
			return err
		}
	}
	for _, space := range []byte{retainedSpace, indexSpace, expirySpace} {
		if err := l.engine.merge(l.closing, []byte{space}, keyAfter(space)); err != nil {
			return err
		}
	}
	return nil
}
