package disk

import (
	"slices"
	"time"

	names "github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// The most that a Read examines: messages, and bytes of messages on disk. A Read whose filter matches few
// messages returns with room left in its batch, and Next says how far it came. The limits bound how long
// Close, and the turn of a reader that has gone, can take.
const (
	maxLooked      = 4096
	maxLookedBytes = 4 << 20
)

// Read implements store.Log. Recent messages are copied under the lock. Before that, older ones are
// read from the disk without the lock. Gaps are determined last, so that they include messages that were
// evicted meanwhile.
func (l *Log) Read(q store.Query, b *store.Batch) (err error) {
	l.life.RLock()
	defer l.life.RUnlock()
	b.Reset(l.epoch)
	if l.closed {
		return store.ErrClosed
	}
	end := store.Seq(l.newest.Load())
	if q.Through > 0 {
		end = min(end, q.Through)
	}
	r := reading{l: l, q: &q, b: b, pos: q.After, end: end, now: time.Now(), seen: seenOf(b)}
	if q.Retained {
		if l.opts.call(func() { err = r.retained() }); err != nil {
			b.Reset(l.epoch)
			return describe(err)
		}
		r.b.Next = r.next()
		return nil
	}
	for !r.copyRecent() {
		if r.manyLosses {
			r.manyLosses = false
			r.survey()
			continue
		}
		l.opts.call(func() { err = r.disk() })
		if err != nil {
			b.Reset(l.epoch)
			return describe(err)
		}
	}
	return nil
}

// reading is a Read under way.
type reading struct {
	l    *Log
	q    *store.Query
	b    *store.Batch
	pos  store.Seq // all matching messages up to here are in the batch
	end  store.Seq
	base store.Seq // base of the tail, when last read
	done bool      // the batch is full or a limit is reached; pos says how far the read came
	now  time.Time
	seen *seen

	manyLosses bool // a survey of the groups is needed for the gaps
	surveyed   survey

	looked      int // messages examined
	lookedBytes int // bytes of messages on disk that were examined
}

// look counts an examined message. If a limit is reached, it ends the read before the message and returns
// false.
func (r *reading) look(seq store.Seq, bytes int) bool {
	if r.looked == maxLooked || r.lookedBytes >= maxLookedBytes {
		r.done = true
		r.pos = seq - 1
		return false
	}
	r.looked++
	r.lookedBytes += bytes
	return true
}

func (r *reading) next() store.Seq {
	if r.done {
		return r.pos
	}
	return max(r.end, r.q.After)
}

// copyRecent completes a read from the tail. It returns false if older messages must be read, or the groups
// surveyed, first.
func (r *reading) copyRecent() (done bool) {
	l := r.l
	l.mu.RLock()
	defer l.mu.RUnlock()
	r.base = l.tail.base
	if r.pos < min(r.base, r.end) && !r.done {
		return false
	}
	if r.q.After < r.end && !r.gaps() {
		r.b.Gaps, r.manyLosses = r.b.Gaps[:0], true
		return false
	}
	r.b.Reported = l.opts.Losses.Now()
	r.dropGone()
	if !r.done {
		l.tail.after(r.pos, r.takeRecent)
	}
	r.b.Next = r.next()
	return true
}

func (r *reading) takeRecent(m *recent, frame []byte) bool {
	if m.seq > r.end || !r.look(m.seq, 0) {
		return false
	}
	if m.seq <= m.g.now.gone && !r.q.Live || m.expired(r.now.UnixMilli()) || !r.seen.selects(r.q.Select, m.g) {
		return true
	}
	return r.take(m.g, m.seq, m.flags, m.msg, frame)
}

// take adds a frame, and reports whether there was room for it.
func (r *reading) take(g *group, seq store.Seq, flags store.Flags, msg int, frame []byte) bool {
	b := r.b
	if !b.Room(len(frame)) {
		r.done = true
		r.pos = seq - 1
		return false
	}
	at := len(b.Buf)
	b.Buf = append(b.Buf, frame...)
	b.Frames = append(b.Frames, store.Frame{
		Seq: seq, Group: g.name, Flags: flags, Msg: msg, Bytes: b.Buf[at:len(b.Buf):len(b.Buf)], At: at,
	})
	return true
}

// dropGone removes messages from the batch that were evicted since they were read. The gaps cover them.
func (r *reading) dropGone() {
	b := r.b
	gone := func(f store.Frame) bool {
		g := r.l.groups[f.Group]
		return g == nil || f.Seq <= g.now.gone
	}
	if !slices.ContainsFunc(b.Frames, gone) {
		return
	}
	frames := b.Frames
	b.Buf, b.Frames = b.Buf[:0], b.Frames[:0]
	for _, f := range frames {
		if !gone(f) {
			f.At = len(b.Buf)
			b.Buf = append(b.Buf, f.Bytes...)
			f.Bytes = b.Buf[f.At:len(b.Buf):len(b.Buf)]
			b.Frames = append(b.Frames, f)
		}
	}
}

// sparse is the ratio of all messages to those of the named groups from which single lookups are faster than
// a scan.
const sparse = 8

// disk continues the read on disk, at most up to where the tail begins.
func (r *reading) disk() (err error) {
	through := min(r.base, r.end)
	if named := r.named(); named != nil {
		err = r.lookUp(named, through)
	} else {
		through, err = r.scan(through)
	}
	if err == nil && !r.done {
		r.pos = through
	}
	return err
}

// named returns the groups of a query without wildcards if they hold few messages, else nil.
func (r *reading) named() []*group {
	set, ok := r.q.Select.(names.Set)
	if !ok || set.Wild() {
		return nil
	}
	l := r.l
	l.mu.RLock()
	defer l.mu.RUnlock()
	list, messages := []*group{}, int64(0)
	for _, f := range set {
		if g := l.groups[f.String()]; g != nil && !slices.Contains(list, g) {
			list = append(list, g)
			messages += g.now.messages
		}
	}
	if messages*sparse > l.now.messages {
		return nil
	}
	return list
}

// scan examines all messages. It returns how far it came, unless the read is done.
func (r *reading) scan(through store.Seq) (store.Seq, error) {
	w, err := r.l.walkFrom(r.pos + 1)
	if err != nil {
		return 0, err
	}
	through = min(through, w.through)
	for ok := w.Valid(); ok; ok = w.Next() {
		seq := seqOf(w.Key())
		if seq > through {
			break
		}
		value, err := w.ValueAndErr()
		if err == nil && r.look(seq, len(value)) {
			err = r.takeStored(seq, value)
		}
		if err != nil {
			_ = w.Close()
			return 0, err
		}
		if r.done && time.Now().Before(w.ends) {
			r.l.parked.park(w)
			return 0, nil
		}
		if r.done {
			break
		}
	}
	return through, closeCursor(w.cursor)
}

// closeCursor closes a cursor, and returns the first error of its use or of closing it.
func closeCursor(c *cursor) error {
	err := c.Error()
	if err2 := c.Close(); err == nil {
		err = err2
	}
	return err
}

// takeStored adds a stored message if it is selected and held.
func (r *reading) takeStored(seq store.Seq, value []byte) error {
	h, frame, err := readMessage(value)
	if err != nil {
		return err
	}
	g := r.seen.group(r.l, h.no)
	if g == nil || seq <= store.Seq(g.gone.Load()) || !r.seen.selects(r.q.Select, g) ||
		h.expires > 0 && h.expires <= r.now.UnixMilli() {
		return nil
	}
	r.take(g, seq, h.flags, h.msg, frame)
	return nil
}

// lookUp reads the messages of a few groups by their index.
func (r *reading) lookUp(list []*group, through store.Seq) (err error) {
	if len(list) == 0 {
		return nil
	}
	m := &merge{}
	defer func() {
		if err2 := m.close(); err == nil {
			err = err2
		}
	}()
	for _, g := range list {
		if err := m.add(r.l.engine, g.no, r.pos, through); err != nil {
			return err
		}
	}
	c, err := r.l.engine.cursor(seqKey(messageSpace, r.pos+1), seqKey(messageSpace, through+1))
	if err != nil {
		return err
	}
	for seq := m.next(); seq > 0 && !r.done; seq = m.next() {
		if !r.look(seq, 0) {
			break
		}
		if !c.SeekGE(seqKey(messageSpace, seq)) || seqOf(c.Key()) != seq {
			continue // deleted after the index was read: the gaps will cover it
		}
		value, err := c.ValueAndErr()
		r.lookedBytes += len(value)
		if err == nil {
			err = r.takeStored(seq, value)
		}
		if err != nil {
			_ = c.Close()
			return err
		}
	}
	return closeCursor(c)
}

// merge yields the seqs of several groups in order.
type merge struct{ list []*cursor }

func (m *merge) add(e *engine, no uint32, after, through store.Seq) error {
	c, err := e.cursor(indexKey(no, after+1), indexKey(no, through+1))
	if err != nil {
		return err
	}
	c.First()
	m.list = append(m.list, c)
	return nil
}

// next returns the next seq, or 0 at the end.
func (m *merge) next() (seq store.Seq) {
	var least *cursor
	for _, c := range m.list {
		if c.Valid() {
			if s := seqOf(c.Key()); least == nil || s < seq {
				seq, least = s, c
			}
		}
	}
	if least != nil {
		least.Next()
	}
	return seq
}

func (m *merge) close() (err error) {
	for _, c := range m.list {
		if err2 := closeCursor(c); err == nil {
			err = err2
		}
	}
	return err
}

// retained reads the retained messages of the selected groups.
func (r *reading) retained() error {
	if r.pos >= r.end {
		return nil
	}
	c, err := r.l.engine.cursor(seqKey(retainedSpace, r.pos+1), seqKey(retainedSpace, r.end+1))
	if err != nil {
		return err
	}
	for ok := c.First(); ok && !r.done; ok = c.Next() {
		value, err := c.ValueAndErr()
		if err == nil && r.look(seqOf(c.Key()), len(value)) {
			err = r.takeRetained(seqOf(c.Key()), value)
		}
		if err != nil {
			_ = c.Close()
			return err
		}
	}
	return closeCursor(c)
}

func (r *reading) takeRetained(seq store.Seq, value []byte) error {
	h, frame, err := readMessage(value)
	if err != nil {
		return err
	}
	g := r.seen.group(r.l, h.no)
	if g == nil || !r.seen.selects(r.q.Select, g) || h.expires > 0 && h.expires <= r.now.UnixMilli() {
		return nil
	}
	r.l.mu.RLock()
	held := g.now.retained == seq
	r.l.mu.RUnlock()
	if held {
		r.take(g, seq, h.flags, h.msg, frame)
	}
	return nil
}

// seen caches groups and whether they are selected, since a selector may have many filters. It is the scratch
// of a batch.
type seen struct {
	groups [64]*group
	chosen [64]choice
}

type choice struct {
	g  *group
	in bool
}

func seenOf(b *store.Batch) *seen {
	s, ok := b.Scratch.(*seen)
	if !ok {
		s = &seen{}
		b.Scratch = s
	}
	clear(s.chosen[:]) // another query selects other groups
	clear(s.groups[:])
	return s
}

// group returns the group with the given number, or nil.
func (s *seen) group(l *Log, no uint32) *group {
	at := &s.groups[no%uint32(len(s.groups))]
	if g := *at; g != nil && g.no == no {
		return g
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.byNo[no]
	*at = g
	return g
}

func (s *seen) selects(sel store.Selector, g *group) bool {
	x := &s.chosen[g.no%uint32(len(s.chosen))]
	if x.g != g {
		x.g, x.in = g, sel.Match(g.name)
	}
	return x.in
}
