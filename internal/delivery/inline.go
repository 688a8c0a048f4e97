package delivery

import "github.com/watchbox-go/watchbox/store"

// Few is how many streams a publisher may write to by itself. Waking a shard takes longer than a
// few writes: with 5,000 groups of one listener each, it took a third of the median delivery latency
// and most of the 99th percentile (docs/PERFORMANCE.md, S7). More writes would delay the publisher's
// answer.
const Few = 8

const (
	inlineBytes  = 16 << 10 // the most that a publisher reads of the log by itself
	inlineRounds = 8        // how often it looks again for other publishers, within the same few writes
)

// appended describes an append.
type appended struct {
	first, last store.Seq
	entries     []store.Entry
	few         int // how many streams the publisher may still write to
}

// Appended has to be called after each append to the log, if the set was created with notified. If the
// messages are for at most few streams, and no other goroutine runs their shards, it delivers them before
// it returns. Otherwise it wakes those shards. It never waits.
func (s *Set) Appended(first store.Seq, entries []store.Entry, few int) {
	if !s.notified {
		return
	}
	a := appended{first: first, last: first + store.Seq(len(entries)) - 1, entries: entries, few: few}
	for _, sh := range s.shards {
		if sh.follows.Load() {
			sh.appended(&a)
		}
	}
}

// appended runs the shard in the publisher's goroutine, unless another goroutine runs it.
//
// No append is missed. A publisher that finds the shard taken sets again and then tries once more.
// Either the second try succeeds, or the owner has not unlocked yet and will find again set.
func (sh *shard) appended(a *appended) {
	for range inlineRounds {
		if !sh.owner.TryLock() {
			sh.again.Store(true)
			if !sh.owner.TryLock() {
				return
			}
		}
		switch done := sh.inline(a); {
		case !done:
			sh.rouse()
			return
		case !sh.again.Load():
			return
		}
	}
	sh.rouse()
}

// inline does the work of the shard's goroutine if it is a small amount, and unlocks the shard. It
// returns false if work is left for the goroutine.
func (sh *shard) inline(a *appended) (done bool) {
	defer sh.owner.Unlock()
	sh.again.Store(false)
	if sh.changed.Load() {
		return false // a stream has to be recalled first
	}
	n, own := sh.listeners(a.entries)
	if n == 0 && !own && store.Seq(sh.pos.Load()) == a.first-1 {
		sh.pos.Store(uint64(a.last)) // there is nothing to read
	}
	_, newest := sh.set.log.Bounds()
	if sh.parked == 0 || store.Seq(sh.pos.Load()) >= newest.Seq {
		return true
	}
	if n > a.few || own || !sh.readFew(a, newest.Seq) {
		return false
	}
	sh.dispatch(now())
	sh.pos.Store(uint64(sh.batch.Next))
	return !sh.late()
}

// readFew reads the log to its end, and reports whether the messages go to few streams.
func (sh *shard) readFew(a *appended, newest store.Seq) bool {
	q := store.Query{Select: &sh.index, After: store.Seq(sh.pos.Load()), Live: true, NoWait: true}
	err := sh.set.log.Read(q, &sh.batch)
	if err != nil || len(sh.batch.Gaps) > 0 || sh.batch.Next < newest || sh.changed.Load() || len(sh.batch.Buf) > inlineBytes {
		return false
	}
	n := 0
	for i := range sh.batch.Frames {
		name := sh.batch.Frames[i].Group
		if n += sh.index.size(name); n > a.few || sh.index.ownOf(name) != nil {
			return false
		}
	}
	a.few -= n
	return true
}

// listeners returns how many streams get the entries, counting each stream once per match, and whether one
// of the entries is for a single session.
func (sh *shard) listeners(entries []store.Entry) (n int, own bool) {
	for i := range entries {
		name := entries[i].Group
		if sh.index.ownOf(name) != nil {
			return n, true
		}
		if n += sh.index.size(name); n > Few {
			return n, false
		}
	}
	return n, false
}
