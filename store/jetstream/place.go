package jetstream

import (
	"context"
	"errors"
	"strings"

	"github.com/watchbox-go/watchbox/store"
)

// maxUnplaced is how many messages, and bytes of messages, the tail collects before it places them.
const (
	maxUnplaced      = 512
	maxUnplacedBytes = 1 << 20
)

// placing collects whole appends, to place them together.
type placing struct {
	entries []store.Entry
	seqs    []store.Seq
	bytes   int
	done    []placed
}

// full reports whether enough is collected to be placed.
func (p *placing) full() bool { return len(p.entries) >= maxUnplaced || p.bytes >= maxUnplacedBytes }

// placed is an append of this log that will be placed.
type placed struct {
	number uint64
	first  store.Seq
}

// take adds a record to what is placed next.
func (t *tail) take(r *record) {
	if n := len(t.unfinished); n > 0 && t.unfinished[0].by != r.by { // the rest of it was removed from the stream
		t.finish()
	}
	t.unfinished = append(t.unfinished, *r)
	if !r.is(hasMore) {
		t.finish()
	}
}

// finish takes the records of an append as complete. Its notes take effect before its messages can be read.
func (t *tail) finish() {
	p := &t.placing
	first := &t.unfinished[0]
	for i := range t.unfinished {
		if r := &t.unfinished[i]; r.is(isNote) {
			t.note(r, first.seq)
		}
	}
	for i := range t.unfinished {
		r := &t.unfinished[i]
		if r.is(isNote) {
			continue
		}
		r.entry.Group = t.name(r.entry.Group)
		p.entries = append(p.entries, r.entry)
		p.seqs = append(p.seqs, r.seq)
		p.bytes += len(r.entry.Tail)
		for _, n := range r.brief {
			t.l.notes.addBrief(n, first.seq)
		}
	}
	if first.by.log == t.l.self {
		p.done = append(p.done, placed{first.by.number, first.seq - store.Seq(first.index)}) // those before it may have been removed
	}
	clear(t.unfinished)
	t.unfinished = t.unfinished[:0]
}

// note applies a note. One that changes what the log keeps does so behind the messages before it.
func (t *tail) note(r *record, first store.Seq) {
	if isOwn(r.key) {
		t.place()
	}
	t.l.apply(r, first)
}

// maxNames bounds the table of names.
const maxNames = 1 << 17

// name returns the string, not as part of a message.
func (t *tail) name(s string) string {
	if known, ok := t.names[s]; ok {
		return known
	}
	if len(t.names) >= maxNames {
		clear(t.names)
	}
	s = strings.Clone(s)
	t.names[s] = s
	return s
}

// place makes the collected messages readable.
func (t *tail) place() {
	p := &t.placing
	if len(p.entries) == 0 {
		return
	}
	if err := t.l.mem.Place(p.entries, p.seqs); err != nil && !errors.Is(err, store.ErrClosed) {
		t.l.opts.Logger.Error("messages of the stream are not placed", "error", err)
	}
	clear(p.entries)
	p.entries, p.seqs, p.bytes = p.entries[:0], p.seqs[:0], 0
	t.fresh.Store(true)
}

// Pace implements store.Paced.
func (l *Log) Pace(hold func(context.Context)) { l.hold.Store(&hold) }

// flush places everything that is complete, and tells those that wait for it.
func (t *tail) flush() {
	t.place()
	epoch := t.l.epoch()
	for _, d := range t.placing.done {
		t.l.pending.placed(d.number, store.ID{Epoch: epoch, Seq: d.first})
	}
	t.placing.done = t.placing.done[:0]
	if len(t.unfinished)+len(t.holes.held) > 0 {
		return
	}
	t.reached = t.at
	if t.folding > 0 && t.reached >= t.folding {
		t.folding = 0
	}
	t.l.arrived(t)
}
