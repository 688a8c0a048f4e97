package delivery_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// claim is the messages that a stream has to get: those that its filters match, each between two positions.
type claim struct {
	terms   []term
	notFrom string
	raw     bool
	start   store.Seq
	held    map[store.Seq]bool // of the messages up to until, only these; nil: all
	until   store.Seq
	unknown int  // gaps with the reason epoch, at the start
	cut     bool // the stream was disconnected: a gap may be about messages that were still to come
}

type term struct {
	filter   group.Filter
	from, to store.Seq // behind from, up to to
}

// wants is the claim of a stream whose filters do not change.
func wants(f group.Set, start store.Seq) *claim {
	c := &claim{start: start}
	for _, x := range f {
		c.terms = append(c.terms, term{x, start, math.MaxUint64})
	}
	return c
}

func (c *claim) owed(m *message) bool {
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

// told is a gap event of a stream.
type told struct {
	filter, reason string
	after, upTo    store.Seq
	covers         int
}

// judge reads a stream as a client does, and compares it with what was published: each message of the claim
// comes once, in order and unchanged, or a gap covers it; an id says that all messages up to it have come;
// and there is no gap without a lost message.
type judge struct {
	*claim
	published []message
	pos       store.Seq // all owed up to here has come, or a gap covers it
	gaps      []told
	epochs    int
}

// verdict checks blocks, and at the end whether all messages up to the position have come.
func (c *claim) verdict(published []message, blocks []block, end store.Seq) error {
	j := &judge{claim: c, published: published, pos: c.start}
	last := c.start
	for i := range blocks {
		b := &blocks[i]
		if b.id == "" && b.event != "gap" {
			if err := j.withoutID(b); err != nil {
				return fmt.Errorf("block %d, %v: %w", i, *b, err)
			}
			continue
		}
		if b.id != "" && b.seq < last {
			return fmt.Errorf("block %d, %v: the id goes back from %d", i, *b, last)
		}
		if err := j.hear(b, last); err != nil {
			return fmt.Errorf("block %d, %v, behind %d: %w", i, *b, last, err)
		}
		last = max(last, b.seq)
	}
	if err := j.reach(end, nil); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	for _, g := range j.gaps {
		if g.covers == 0 && !c.cut && !j.skipped(g.after) {
			return fmt.Errorf("a gap without need: %+v", g)
		}
	}
	if j.epochs != c.unknown {
		return fmt.Errorf("%d gaps of epoch, and not %d", j.epochs, c.unknown)
	}
	return nil
}

// skipped reports whether the stream jumped from a position and lost messages there. It did not look
// for which of its filters.
func (j *judge) skipped(from store.Seq) bool {
	return slices.ContainsFunc(j.gaps, func(g told) bool {
		return g.reason == delivery.GapSlow && g.after == from && g.covers > 0
	})
}

func (j *judge) withoutID(b *block) error {
	if b.event == "bye" || j.raw { // what is retained has nothing but its payload
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

func (j *judge) hear(b *block, last store.Seq) error {
	switch {
	case b.event == "gap":
		return j.gap(b)
	case b.comment:
		return j.reach(b.seq, nil)
	case b.seq == last:
		return fmt.Errorf("a message twice, or behind a position that says that it was")
	case int(b.seq) > len(j.published):
		return fmt.Errorf("never published")
	}
	m := &j.published[b.seq-1]
	if !j.owed(m) {
		return fmt.Errorf("not for this stream: %v", *m)
	}
	if err := j.same(b, m); err != nil {
		return err
	}
	return j.reach(b.seq, m)
}

// same compares a message with what was published.
func (j *judge) same(b *block, m *message) error {
	if j.raw {
		if quoted := string(store.AppendQuote(nil, b.data)); quoted != m.body {
			return fmt.Errorf("not what was published: %s", m.body)
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
		return fmt.Errorf("not what was published: %+v", *m)
	}
	return nil
}

// reach moves on to a position, with the message there, if one has come.
func (j *judge) reach(to store.Seq, with *message) error {
	for ; j.pos < min(to, store.Seq(len(j.published))); j.pos++ {
		m := &j.published[j.pos]
		if m == with {
			continue
		}
		// A gap may be about a message that the stream would not get: nobody knows the sender of an evicted message, nor
		// whether only those were lost that came after the filter was left.
		if !j.covered(m) && j.owed(m) && !m.optional {
			return fmt.Errorf("lost without a gap: %v", *m)
		}
	}
	return nil
}

// covered reports whether a gap was told for the message, for each filter by itself.
func (j *judge) covered(m *message) bool {
	found := false
	for i := range j.gaps {
		g := &j.gaps[i]
		if f, _ := group.ParseFilter(g.filter); f.Match(m.group) && g.after < m.seq && m.seq <= g.upTo {
			g.covers++
			found = true
		}
	}
	return found
}

func (j *judge) gap(b *block) error {
	var g delivery.Gap
	if err := json.Unmarshal([]byte(b.data), &g); err != nil {
		return err
	}
	if g.Reason == delivery.GapEpoch {
		j.epochs++
		return nil
	}
	id, err := store.ParseID(g.After)
	if err != nil {
		return err
	}
	if id.Seq < j.pos {
		return fmt.Errorf("a gap after %d, where the stream was at %d", id.Seq, j.pos)
	}
	if err := j.reach(id.Seq, nil); err != nil {
		return err
	}
	j.gaps = append(j.gaps, told{g.Filter, g.Reason, id.Seq, b.newest, 0})
	if b.id == "" {
		return nil
	}
	return j.reach(b.seq, nil)
}

// TestJudge gives the judge streams with one mistake each.
func TestJudge(t *testing.T) {
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
		"all":                            {both, good, true},
		"one filter":                     {filters("a"), with(1, 3, 5), true},
		"heartbeats":                     {filters("a"), with(1, beat(2), 3, beat(4), 5, beat(6)), true},
		"a gap at the start":             {both, with(gap(2, 0, "a"), 3, 4, 5, 6), false}, // b lost one, too
		"gaps at the start":              {both, with(gap(0, 0, "a"), gap(2, 0, "b"), 3, 4, 5, 6), true},
		"a gap whose id says too much":   {both, with(gap(2, 0, "a"), gap(2, 0, "b"), 3, 4, 5, 6), false},
		"a gap for what lies later":      {both, with(gap(0, 0, "b"), 1, 3, 4, 5, 6), true},
		"a gap for the other":            {both, with(gap(0, 0, "a"), 1, 3, 4, 5, 6), false},
		"a gap after another position":   {both, with(1, gap(2, 0, "b"), 3, 4, 5, 6), false},
		"a gap without need":             {both, with(1, 2, gap(2, 2, "a"), 3, 4, 5, 6), false},
		"a gap told twice, without need": {both, with(gap(0, 0, "a"), gap(2, 0, "b"), 3, 4, gap(4, 4, "b"), 5, 6), false},
		"dropped":                        {both, with(1, 2, 4, 5, 6), false},
		"dropped at the end":             {both, with(1, 2, 3, 4, 5), false},
		"dropped before a heartbeat":     {both, with(1, 2, beat(3), 4, 5, 6), false},
		"twice":                          {both, with(1, 2, 2, 3, 4, 5, 6), false},
		"swapped":                        {both, with(1, 3, 2, 4, 5, 6), false},
		"changed":                        {both, with(1, 2, changed, 4, 5, 6), false},
		"another's":                      {filters("a"), with(1, 2, 3, 5), false},
		"behind a heartbeat that told":   {both, with(1, 2, 3, beat(4), 4, 5, 6), false},
	} {
		err := wants(c.filters, 0).verdict(published, c.blocks, 6)
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
