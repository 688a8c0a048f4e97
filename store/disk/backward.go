package disk

import (
	"time"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// maxMerged is the most groups whose indexes are merged. If more groups match, all messages are scanned.
const maxMerged = 64

// Backward yields the seqs of the newest messages that match, at most n, the newest first, until yield returns false. It holds no
// lock while it yields. For patterns it first scans a bounded number of the newest messages. Then it merges the indexes of the groups
// that match, unless there are too many.
func (l *Log) Backward(filters names.Set, n int, yield func(store.Seq) bool) error {
	s := &backscan{
		l: l, filters: filters, n: n, below: store.Seq(l.newest.Load()) + 1, now: time.Now().UnixMilli(), yield: yield,
	}
	if filters.Wild() {
		if more, err := s.step(s.byOrder); !more || err != nil {
			return err
		}
	}
	how := s.byOrder
	if s.findGroups() {
		how = s.byIndex
	}
	for {
		if more, err := s.step(how); !more || err != nil {
			return err
		}
	}
}

// backscan is an iteration over the messages that match, the newest first.
type backscan struct {
	l       *Log
	filters names.Set
	n       int       // how many are still wanted
	below   store.Seq // the messages from this seq on were examined
	now     int64
	yield   func(store.Seq) bool

	groups []*group    // the groups that match
	found  []store.Seq // by the current step
	seen   seen
}

// findGroups collects the groups that match. It returns false if there are too many.
func (s *backscan) findGroups() bool {
	for i, f := range s.filters {
		s.l.eachMatch(f, func(g *group) {
			if len(s.groups) <= maxMerged && g.now.messages > 0 && !s.filters[:i].Match(g.name) {
				s.groups = append(s.groups, g)
			}
		})
	}
	return len(s.groups) <= maxMerged
}

// step examines a bounded number of messages and yields those that match. It reports whether there may be
// more.
func (s *backscan) step(how func() (more bool, err error)) (more bool, err error) {
	s.found = s.found[:0]
	if more, err = s.examine(how); err != nil {
		return false, err
	}
	for _, seq := range s.found {
		if !s.yield(seq) {
			return false, nil
		}
	}
	s.n -= len(s.found)
	return more && s.n > 0, nil
}

// examine calls how, unless the log is closed. Close waits for no more than one call.
func (s *backscan) examine(how func() (more bool, err error)) (more bool, err error) {
	s.l.life.RLock()
	defer s.l.life.RUnlock()
	if s.l.closed {
		return false, nil
	}
	s.l.opts.call(func() { more, err = how() })
	return more, err
}

// byOrder examines the messages of all groups.
func (s *backscan) byOrder() (more bool, err error) {
	c, err := s.l.engine.cursor(seqKey(messageSpace, 0), seqKey(messageSpace, s.below))
	if err != nil {
		return false, err
	}
	looked, bytes := 0, 0
	ok := c.Last()
	for ; ok && looked < maxLooked && bytes < maxLookedBytes && len(s.found) < s.n; ok = c.Prev() {
		value, err := c.ValueAndErr()
		var h header
		if err == nil {
			h, _, err = readMessage(value)
		}
		if err != nil {
			_ = c.Close()
			return false, err
		}
		looked++
		bytes += len(value)
		s.below = seqOf(c.Key())
		g := s.seen.group(s.l, h.no)
		if g != nil && s.below > store.Seq(g.gone.Load()) && s.seen.selects(s.filters, g) && (h.expires == 0 || h.expires > s.now) {
			s.found = append(s.found, s.below)
		}
	}
	s.l.maxExamined.note(looked)
	return ok, closeCursor(c)
}

// byIndex merges the indexes of the groups.
func (s *backscan) byIndex() (more bool, err error) {
	m := merge{}
	defer func() {
		if err2 := m.close(); err == nil {
			err = err2
		}
	}()
	for _, g := range s.groups {
		c, err := s.l.engine.cursor(indexKey(g.no, store.Seq(g.gone.Load())+1), indexKey(g.no, s.below))
		if err != nil {
			return false, err
		}
		c.Last()
		m.list = append(m.list, c)
	}
	looked := 0
	for ; looked < maxLooked && len(s.found) < s.n; looked++ {
		c := m.newest()
		if c == nil {
			s.l.maxExamined.note(looked)
			return false, nil
		}
		value, err := c.ValueAndErr()
		var x item
		if err == nil {
			x, err = readIndex(c.Key(), value)
		}
		if err != nil {
			return false, err
		}
		if s.below = x.seq; !x.expired(s.now) {
			s.found = append(s.found, x.seq)
		}
		c.Prev()
	}
	s.l.maxExamined.note(looked)
	return true, nil
}

// newest returns the cursor at the newest message, or nil at the end.
func (m *merge) newest() (newest *cursor) {
	for _, c := range m.list {
		if c.Valid() && (newest == nil || seqOf(c.Key()) > seqOf(newest.Key())) {
			newest = c
		}
	}
	return newest
}
