package disk

import (
	"slices"
	"sort"
	"time"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// Find implements store.Log. What the disk cannot say leads to all that is held.
func (l *Log) Find(filters names.Set, s store.Start) (pos store.Seq) {
	l.life.RLock()
	defer l.life.RUnlock()
	if l.closed {
		return 0
	}
	now := time.Now().UnixMilli()
	var err error
	switch {
	case s.Last > 0:
		var seqs []store.Seq
		l.opts.call(func() { seqs, err = l.lastOf(filters, s.Last, now) })
		if pos = store.Seq(l.newest.Load()); len(seqs) > 0 {
			pos = seqs[0] - 1
		}
	case !s.Since.IsZero():
		since := s.Since.UnixMilli()
		l.opts.call(func() { pos, err = l.firstSince(since) })
		pos = l.beforeLost(pos, filters, since)
	}
	if err != nil {
		return 0
	}
	return pos
}

// Last returns the seqs of the newest messages, at most n, by rising seq.
func (l *Log) Last(filters names.Set, n int) (seqs []store.Seq) {
	l.life.RLock()
	defer l.life.RUnlock()
	if l.closed {
		return nil
	}
	now := time.Now().UnixMilli()
	l.opts.call(func() { seqs, _ = l.lastOf(filters, n, now) }) // none, if the disk cannot say
	return seqs
}

func (l *Log) lastOf(filters names.Set, n int, now int64) (seqs []store.Seq, err error) {
	newest := store.Seq(l.newest.Load())
	if filters.Wild() {
		return l.scanLast(filters, n, newest, now)
	}
	for _, name := range filters.Names() {
		l.mu.RLock()
		g := l.groups[name]
		l.mu.RUnlock()
		if g == nil {
			continue
		}
		if seqs, err = l.appendLast(seqs, g, n, newest, now); err != nil {
			return nil, err
		}
	}
	slices.Sort(seqs)
	return seqs[max(0, len(seqs)-n):], nil
}

// appendLast appends the seqs of a group's newest messages, at most n.
func (l *Log) appendLast(seqs []store.Seq, g *group, n int, newest store.Seq, now int64) ([]store.Seq, error) {
	c, err := l.engine.cursor(indexKey(g.no, store.Seq(g.gone.Load())+1), indexKey(g.no, newest+1))
	if err != nil {
		return nil, err
	}
	n += len(seqs)
	for ok := c.Last(); ok && len(seqs) < n; ok = c.Prev() {
		value, err := c.ValueAndErr()
		var m item
		if err == nil {
			m, err = readIndex(c.Key(), value)
		}
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		if !m.expired(now) {
			seqs = append(seqs, m.seq)
		}
	}
	return seqs, closeCursor(c)
}

func (l *Log) scanLast(filters names.Set, n int, newest store.Seq, now int64) (seqs []store.Seq, err error) {
	c, err := l.engine.cursor(seqKey(messageSpace, 0), seqKey(messageSpace, newest+1))
	if err != nil {
		return nil, err
	}
	var s seen
	for ok := c.Last(); ok && len(seqs) < n; ok = c.Prev() {
		value, err := c.ValueAndErr()
		var h header
		if err == nil {
			h, _, err = readMessage(value)
		}
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		seq := seqOf(c.Key())
		g := s.group(l, h.no)
		if g != nil && seq > store.Seq(g.gone.Load()) && s.selects(filters, g) && (h.expires == 0 || h.expires > now) {
			seqs = append(seqs, seq)
		}
	}
	slices.Reverse(seqs)
	return seqs, closeCursor(c)
}

// firstSince returns the position before the first message of a time or later. Times rise with
// seqs, over all groups, so that it can be searched for.
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

// beforeLost returns a position that is also before what was evicted of that time, so that it is
// told.
func (l *Log) beforeLost(pos store.Seq, filters names.Set, since int64) store.Seq {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if lost := l.now.forgotten; lost.Seq > 0 && l.now.forgottenTime >= since && l.anyUnknown(filters) {
		pos = min(pos, lost.Seq-1)
	}
	for _, f := range filters {
		if !f.Wild() {
			pos = l.groups[f.String()].before(pos, since)
			continue
		}
		for _, g := range l.groups {
			if f.Match(g.name) {
				pos = g.before(pos, since)
			}
		}
	}
	return pos
}

// before returns the position before the newest message evicted, if it is of a time or later and
// that position is below pos. The group may be nil.
func (g *group) before(pos store.Seq, since int64) store.Seq {
	if g == nil || g.now.evicted.Seq == 0 || g.now.evictedTime < since {
		return pos
	}
	return min(pos, g.now.evicted.Seq-1)
}

// anyUnknown reports whether a filter may select a group that was forgotten.
func (l *Log) anyUnknown(filters names.Set) bool {
	return slices.ContainsFunc(filters, func(f names.Filter) bool { return f.Wild() || l.groups[f.String()] == nil })
}
