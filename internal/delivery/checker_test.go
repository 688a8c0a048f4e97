package delivery_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// expectation describes the messages that a stream has to get: those that its terms select.
type expectation struct {
	terms   []term
	notFrom string
	raw     bool
	start   store.Seq
	held    map[store.Seq]bool // up to until, the stream gets only these messages; nil: all
	until   store.Seq
	unknown int  // how many gaps with the reason epoch come at the start
	cut     bool // the stream was disconnected: a gap may be about messages that it had still to get
}

// term selects the messages that filter matches, after from and up to to.
type term struct {
	filter   group.Filter
	from, to store.Seq
}

// expect returns the expectation of a stream whose filters do not change.
func expect(f group.Set, start store.Seq) *expectation {
	c := &expectation{start: start}
	for _, x := range f {
		c.terms = append(c.terms, term{x, start, math.MaxUint64})
	}
	return c
}

// expects reports whether the stream has to get the message.
func (c *expectation) expects(m *message) bool {
	if m.seq <= c.start || c.notFrom != "" && m.uid == c.notFrom || c.held != nil && m.seq <= c.until && !c.held[m.seq] {
		return false
	}
	for _, t := range c.terms {
		if m.seq > t.from && m.seq <= t.to && t.filter.Match(m.group) {
			return true
		}
	}
	return false
}

// reportedGap is a gap event of a stream.
type reportedGap struct {
	filter, reason string
	after, upTo    store.Seq
	covers         int // how many published messages it is about
}

// checker reads a stream as a client does, and compares it with the published messages. It checks that
// each message of the expectation is received once, in order and unchanged, or that a gap covers it; that at each
// id all messages up to it have been received; and that there is no gap without a lost message.
type checker struct {
	*expectation
	published []message
	pos       store.Seq // all messages of the expectation up to here have been received, or a gap covers them
	next      int       // the first published message after pos
	gaps      []reportedGap
	epochs    int
}

// verify checks the blocks of a stream, and that all messages up to end have been received.
func (c *expectation) verify(published []message, blocks []block, end store.Seq) error {
	ck := &checker{expectation: c, published: published, pos: c.start}
	for ck.next < len(published) && published[ck.next].seq <= c.start {
		ck.next++
	}
	last := c.start
	for i := range blocks {
		b := &blocks[i]
		if b.id == "" && b.event != "gap" {
			if err := ck.withoutID(b); err != nil {
				return fmt.Errorf("block %d, %v: %w", i, *b, err)
			}
			continue
		}
		if b.id != "" && b.seq < last {
			return fmt.Errorf("block %d, %v: the id goes back from %d", i, *b, last)
		}
		if err := ck.receive(b, last); err != nil {
			return fmt.Errorf("block %d, %v, after %d: %w", i, *b, last, err)
		}
		last = max(last, b.seq)
	}
	if err := ck.reach(end, nil); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	for _, g := range ck.gaps {
		if g.covers == 0 && !c.cut && !ck.skipped(g.after) {
			return fmt.Errorf("a gap without a lost message: %+v", g)
		}
	}
	if ck.epochs != c.unknown {
		return fmt.Errorf("%d gaps with the reason epoch, want %d", ck.epochs, c.unknown)
	}
	return nil
}

// skipped reports whether the stream jumped from a position and lost messages there. The jump reports a gap
// for each filter, also for those that lost none.
func (ck *checker) skipped(from store.Seq) bool {
	return slices.ContainsFunc(ck.gaps, func(g reportedGap) bool {
		return g.reason == delivery.GapSlow && g.after == from && g.covers > 0
	})
}

// withoutID checks an event that has no id.
func (ck *checker) withoutID(b *block) error {
	if b.event == "bye" || ck.raw { // a raw retained message has only its payload
		return nil
	}
	var m struct {
		ID       string
		Retained bool
	}
	if err := json.Unmarshal([]byte(b.data), &m); err != nil || !m.Retained {
		return fmt.Errorf("neither an id nor retained")
	}
	return nil
}

// receive checks a gap, a heartbeat or a message. last is the position before it.
func (ck *checker) receive(b *block, last store.Seq) error {
	switch {
	case b.event == "gap":
		return ck.gap(b)
	case b.comment:
		return ck.reach(b.seq, nil)
	case b.seq == last:
		return fmt.Errorf("a repeated message, or one after a position that includes it")
	}
	i, found := slices.BinarySearchFunc(ck.published, b.seq, func(m message, seq store.Seq) int { return cmp.Compare(m.seq, seq) })
	if !found {
		return fmt.Errorf("never published")
	}
	m := &ck.published[i]
	if !ck.expects(m) {
		return fmt.Errorf("not for this stream: %v", *m)
	}
	if err := ck.same(b, m); err != nil {
		return err
	}
	return ck.reach(b.seq, m)
}

// same compares a message with the published one.
func (ck *checker) same(b *block, m *message) error {
	if ck.raw {
		if quoted := string(store.AppendQuote(nil, b.data)); quoted != m.body {
			return fmt.Errorf("differs from the published message: %s", m.body)
		}
		return nil
	}
	var got struct {
		ID, Group, UID string
		Msg            json.RawMessage
	}
	if err := json.Unmarshal([]byte(b.data), &got); err != nil {
		return err
	}
	if got.ID != b.id || got.Group != m.group || got.UID != m.uid || string(got.Msg) != m.body {
		return fmt.Errorf("differs from the published message: %+v", *m)
	}
	return nil
}

// reach moves on to a position. with is the message received there, or nil.
func (ck *checker) reach(to store.Seq, with *message) error {
	for ; ck.next < len(ck.published) && ck.published[ck.next].seq <= to; ck.next++ {
		m := &ck.published[ck.next]
		if m == with {
			continue
		}
		// A gap may be about a message that the stream would not get: the sender of an evicted message is not known,
		// and neither is whether all lost messages came after the filter was left. So covered is called for each message.
		if !ck.covered(m) && ck.expects(m) && !m.optional {
			return fmt.Errorf("lost without a gap: %v", *m)
		}
	}
	ck.pos = max(ck.pos, to)
	return nil
}

// covered reports whether a gap covers the message, and counts the message for each such gap.
func (ck *checker) covered(m *message) bool {
	found := false
	for i := range ck.gaps {
		g := &ck.gaps[i]
		if f, _ := group.ParseFilter(g.filter); f.Match(m.group) && g.after < m.seq && m.seq <= g.upTo {
			g.covers++
			found = true
		}
	}
	return found
}

func (ck *checker) gap(b *block) error {
	var g delivery.Gap
	if err := json.Unmarshal([]byte(b.data), &g); err != nil {
		return err
	}
	if g.Reason == delivery.GapEpoch {
		ck.epochs++
		return nil
	}
	id, err := store.ParseID(g.After)
	if err != nil {
		return err
	}
	if id.Seq < ck.pos {
		return fmt.Errorf("a gap after %d, but the stream was at %d", id.Seq, ck.pos)
	}
	if err := ck.reach(id.Seq, nil); err != nil {
		return err
	}
	ck.gaps = append(ck.gaps, reportedGap{g.Filter, g.Reason, id.Seq, b.newest, 0})
	if b.id == "" {
		return nil
	}
	return ck.reach(b.seq, nil)
}

// TestTheCheckerFindsEachMistake checks correct streams, and streams with one mistake each.
func TestTheCheckerFindsEachMistake(t *testing.T) {
	published := []message{}
	var good []block
	for i := range 6 {
		name := []string{"a", "b"}[i%2]
		id := fmt.Sprintf("e-%d", i+1)
		published = append(published, message{seq: store.Seq(i + 1), group: name, body: fmt.Sprint(i)})
		good = append(good, block{id: id, seq: store.Seq(i + 1), data: fmt.Sprintf(`{"id":%q,"group":%q,"msg":%d}`, id, name, i)})
	}
	gap := func(id, after int, f string) block {
		return block{id: fmt.Sprintf("e-%d", id), seq: store.Seq(id), event: "gap", newest: 6,
			data: fmt.Sprintf(`{"filter":%q,"after":"e-%d","reason":"evicted"}`, f, after)}
	}
	beat := func(id int) block { return block{id: fmt.Sprintf("e-%d", id), seq: store.Seq(id), comment: true} }
	both := filters("a", "b")
	with := func(list ...any) (out []block) {
		for _, x := range list {
			switch x := x.(type) {
			case int:
				out = append(out, good[x-1])
			case block:
				out = append(out, x)
			}
		}
		return out
	}
	changed := good[2]
	changed.data = `{"id":"e-3","group":"a","msg":7}`
	for name, c := range map[string]struct {
		filters group.Set
		blocks  []block
		good    bool
	}{
		"all":                           {both, good, true},
		"one filter":                    {filters("a"), with(1, 3, 5), true},
		"heartbeats":                    {filters("a"), with(1, beat(2), 3, beat(4), 5, beat(6)), true},
		"a gap for one of two filters":  {both, with(gap(2, 0, "a"), 3, 4, 5, 6), false}, // b lost one, too
		"a gap for each filter":         {both, with(gap(0, 0, "a"), gap(2, 0, "b"), 3, 4, 5, 6), true},
		"a gap with too high an id":     {both, with(gap(2, 0, "a"), gap(2, 0, "b"), 3, 4, 5, 6), false},
		"a gap before earlier messages": {both, with(gap(0, 0, "b"), 1, 3, 4, 5, 6), true},
		"a gap for the wrong filter":    {both, with(gap(0, 0, "a"), 1, 3, 4, 5, 6), false},
		"a gap after another position":  {both, with(1, gap(2, 0, "b"), 3, 4, 5, 6), false},
		"a gap without a lost message":  {both, with(1, 2, gap(2, 2, "a"), 3, 4, 5, 6), false},
		"a repeated gap":                {both, with(gap(0, 0, "a"), gap(2, 0, "b"), 3, 4, gap(4, 4, "b"), 5, 6), false},
		"lost":                          {both, with(1, 2, 4, 5, 6), false},
		"lost at the end":               {both, with(1, 2, 3, 4, 5), false},
		"lost before a heartbeat":       {both, with(1, 2, beat(3), 4, 5, 6), false},
		"repeated":                      {both, with(1, 2, 2, 3, 4, 5, 6), false},
		"swapped":                       {both, with(1, 3, 2, 4, 5, 6), false},
		"changed":                       {both, with(1, 2, changed, 4, 5, 6), false},
		"of another group":              {filters("a"), with(1, 2, 3, 5), false},
		"after a heartbeat with its id": {both, with(1, 2, 3, beat(4), 4, 5, 6), false},
	} {
		err := expect(c.filters, 0).verify(published, c.blocks, 6)
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
