package disk

import (
	"slices"
	"sort"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Find implements store.Log.
func (l *Log) Find(filters names.Set, s store.Start) (pos store.Seq, err error) {
	switch {
	case s.Last > 0:
		pos = store.Seq(l.newest.Load())
		err = l.Backward(filters, s.Last, func(seq store.Seq) bool { pos = seq - 1; return true })
	case !s.Since.IsZero():
		return l.findSince(filters, s.Since.UnixMilli())
	}
	return pos, err
}

func (l *Log) findSince(filters names.Set, since int64) (pos store.Seq, err error) {
	l.life.RLock()
	defer l.life.RUnlock()
	if l.closed {
		return 0, store.ErrClosed
	}
	if l.opts.call(func() { pos, err = l.firstSince(since) }); err != nil {
		return 0, err
	}
	return l.beforeLost(pos, filters, since), nil
}

// firstSince returns the position before the first message of a time or later. Times rise with
// seqs, over all groups, so a binary search finds it.
func (l *Log) firstSince(since int64) (store.Seq, error) {
	oldest, newest := store.Seq(l.oldest.Load()), store.Seq(l.newest.Load())
	c, err := l.engine.cursor(seqKey(messageSpace, oldest+1), seqKey(messageSpace, newest+1))
	if err != nil {
		return 0, err
	}
	var bad error
	n := sort.Search(int(newest-oldest), func(i int) bool {
		if !c.SeekGE(seqKey(messageSpace, oldest+store.Seq(i)+1)) {
			return true
		}
		h, _, err := readMessage(c.Value())
		if err != nil {
			bad = err
		}
		return h.time >= since
	})
	pos := newest
	if c.SeekGE(seqKey(messageSpace, oldest+store.Seq(n)+1)) {
		pos = seqOf(c.Key()) - 1
	}
	if err := closeCursor(c); err != nil {
		return 0, err
	}
	return pos, bad
}

// beforeLost returns a position that is also before evicted messages of that time, so that a read reports
// them as a gap.
func (l *Log) beforeLost(pos store.Seq, filters names.Set, since int64) store.Seq {
	for _, f := range filters {
		l.eachMatch(f, func(g *group) { pos = g.before(pos, since) })
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if lost := l.now.forgotten; lost.Seq > 0 && l.now.forgottenTime >= since && l.anyUnknown(filters) {
		pos = min(pos, lost.Seq-1)
	}
	return pos
}

// before returns pos, or the position before the newest evicted message if that is lower and the message is
// of the given time or later.
func (g *group) before(pos store.Seq, since int64) store.Seq {
	if g.now.evicted.Seq == 0 || g.now.evictedTime < since {
		return pos
	}
	return min(pos, g.now.evicted.Seq-1)
}

// anyUnknown reports whether a filter may select a group that was forgotten.
func (l *Log) anyUnknown(filters names.Set) bool {
	return slices.ContainsFunc(filters, func(f names.Filter) bool { return f.Wild() || l.groups[f.String()] == nil })
}
