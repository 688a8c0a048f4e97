package jetstream

import (
	"math"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// A hub that was cut off may find that messages were removed which it has not read. Most were notes that newer ones
// replaced, or were evicted: a later note says so. Otherwise somebody else has removed them, and readers must be
// told before they get a later message. So the tail holds back what follows a hole until it is explained, or
// until everything is read that was in the stream then.

// maxHeld bounds how many messages are held back.
const maxHeld = 1 << 14

// holes are the seqs that the tail missed and cannot explain yet.
type holes struct {
	missing  []span // sorted
	replaced uint64 // how many of them were notes that newer versions replaced
	versions map[string]uint64
	marks    []mark // those that are held
	held     []record
	until    uint64    // the consumer's number of the message at which the holes must be explained
	reached  time.Time // when the tail had first read as far; the zero time: it has not
}

// purgedNote is a version of a note about room that a hub has purged to make room for the next one. It is no loss even if that one is
// refused, and comes much later: other hubs know it by the request.
type purgedNote struct {
	key string
	seq store.Seq
}

// maxPurged is how many are known.
const maxPurged = 64

// heardPurge is called when a hub asks to purge the versions of a note up to a seq.
func (t *tail) heardPurge(subject string, seq store.Seq) {
	for _, key := range roomKeys {
		p := purgedNote{key, seq}
		if t.l.subjects.note(key) != subject {
			continue
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if !slices.Contains(t.purged, p) {
			t.purged = append(t.purged[max(len(t.purged)-maxPurged+1, 0):], p)
		}
		return
	}
}

// replacedAll reports whether newer versions of notes are the reason for all that is missing behind a position. A purged version counts
// only once: not if a later version that replaces it is held.
func (t *tail) replacedAll(after store.Seq) bool {
	h := &t.holes
	n, missing := h.replaced, h.count(after)
	if n >= missing || n+uint64(len(t.purged)) < missing {
		return n >= missing
	}
	for _, p := range t.purged {
		isMissing := p.seq > after && slices.ContainsFunc(h.missing, func(s span) bool { return s.first <= p.seq && p.seq <= s.last })
		if isMissing && !slices.ContainsFunc(h.held, func(r record) bool { return r.is(isNote) && r.key == p.key && r.seq > p.seq }) {
			n++
		}
	}
	return n >= missing
}

// span is from first to last.
type span struct{ first, last store.Seq }

// missed is called when the tail skips seqs. number is the consumer's number of the message behind them, and pending
// how many follow. What was removed before the log was opened is not missed: marks say what was evicted then.
func (t *tail) missed(s span, number, pending uint64) {
	if t.folding > 0 || s.first > s.last {
		return
	}
	h := &t.holes
	h.missing = append(h.missing, s)
	h.until = max(h.until, number+pending)
}

// renumber is called with the first message of another consumer, which numbers its messages anew, and says how many follow.
func (h *holes) renumber(pending uint64) {
	if len(h.missing) > 0 {
		h.until, h.reached = 1+pending, time.Time{}
	}
}

// hold holds a record back. It reports whether the records can be released: not in the middle of an append, whose
// last records are the notes that may explain the holes. A consumer may not count yet the message that has just
// replaced another, so what explains a hole may also come a moment after until.
func (t *tail) hold(r *record, d delivery) (over bool) {
	h := &t.holes
	if d.pending == 0 { // nothing follows any more
		h.until = min(h.until, d.number)
	}
	h.held = append(h.held, *r)
	if r.is(isNote) {
		h.explain(r, t.l.notes.versionOf)
	}
	if d.number >= h.until && h.reached.IsZero() {
		h.reached = time.Now()
	}
	late := d.number >= h.until && time.Since(h.reached) >= t.l.opts.Times.Beat/2
	return !r.is(hasMore) && (t.replacedAll(0) || late || len(h.held) >= maxHeld)
}

// holding reports whether records are held back. Another consumer would deliver the same again, and hold them back for longer.
func (t *tail) holding() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.holes.held) > 0
}

// count returns how many seqs behind a position are missing.
func (h *holes) count(after store.Seq) (n uint64) {
	for _, m := range h.missing {
		if first := max(m.first, after+1); first <= m.last {
			n += uint64(m.last - first + 1)
		}
	}
	return n
}

// last returns the last seq up to a position that is missing; 0: none.
func (h *holes) last(through store.Seq) (seq store.Seq) {
	for _, m := range h.missing {
		if m.first <= through {
			seq = min(m.last, through)
		}
	}
	return seq
}

// explain takes into account what a note explains: the versions since the last one that the hub has read. A mark also says of
// which group messages may be missing: readers are told when the records are released, since more marks may follow.
func (h *holes) explain(r *record, known func(key string) uint64) {
	before, ok := h.versions[r.key]
	if !ok {
		before = known(r.key)
	}
	if h.versions == nil {
		h.versions = map[string]uint64{}
	}
	h.versions[r.key] = r.version
	if r.version <= before { // it was removed and forgotten meanwhile
		before = 0
	}
	h.replaced += r.version - before - 1
	if m, ok := r.mark(); ok {
		h.marks = append(h.marks, m)
	}
}

// release takes the records that were held back, behind the loss of what is not explained.
func (t *tail) release() {
	h := &t.holes
	if len(h.missing) > 0 && !t.replacedAll(0) {
		t.place()
		t.loseMissing()
	}
	held := h.held
	*h = holes{}
	for i := range held {
		t.take(&held[i])
	}
}

// loseMissing tells of the messages that are missing: of the groups whose marks are held, since those marks tell it too late for
// readers of messages that were stored before them; and of all groups if the marks do not explain everything.
func (t *tail) loseMissing() {
	h, mem := &t.holes, t.l.mem
	var explained store.Seq
	for i := range h.marks {
		m := &h.marks[i]
		reach := t.reach(m)
		explained = max(explained, reach)
		switch lost := h.last(reach); {
		case lost == 0:
		case m.Group == everyGroup:
			mem.Lose(lost)
		default:
			mem.LoseGroup(m.Group, lost)
		}
	}
	if len(h.held) >= maxHeld { // other groups may have marks that are not read
		explained = 0
	}
	if lost := h.last(math.MaxInt64); lost > explained && !t.replacedAll(explained) {
		t.l.opts.Logger.Warn("messages were removed from the stream before this hub had read them", "up to", lost)
		mem.Lose(lost)
	}
}

// reach returns up to where a mark may be the reason why messages are missing. Somebody else has removed messages before their mark
// was written. Hubs remove what a mark says after the grace, which this hub has not missed if it had read everything since.
func (t *tail) reach(m *mark) store.Seq {
	times := &t.l.opts.Times
	if m.foreign() || m.Group == everyGroup || time.Since(t.current) >= min(times.Grace, 2*times.Silent) {
		return max(m.Through, m.Missing)
	}
	return m.Missing
}
