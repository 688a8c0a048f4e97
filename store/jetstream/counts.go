package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// Somebody may purge messages while no hub is running. So the janitor counts the messages of the stream, those that stay
// until they are purged, and keeps their number in the bucket. A hub that starts compares it with what is there. The
// number is kept for each of 256 parts of the groups, so that few groups are suspected.
//
// If messages are missing but all subjects are there, the first ones of some groups were purged: groups of the part may
// have lost what is before their first message. Otherwise they may have lost anything, and so may groups of which
// nothing is left.

const (
	countsKey = "counts"
	parts     = 256
)

// counts is how many messages the stream has.
type counts struct {
	Created  time.Time // when the stream was created
	At       store.Seq // only messages up to here are counted
	Messages [parts]int
	Subjects [parts]int // with at least one of these messages
	Unsure   []int      `json:",omitempty"` // parts of which a hub is removing messages
}

// partOf returns the part of a group, whose name is escaped.
func partOf(group string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(group)) // never fails
	return int(h.Sum32() % parts)
}

// register has the seqs of the messages behind a position, by subject.
type register struct {
	after store.Seq
	seqs  map[string][]store.Seq
	n     int
}

// maxNoted bounds how many are noted.
const maxNoted = 1 << 20

// beginNoting begins to note messages behind a position.
func (t *tail) beginNoting(after store.Seq) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noted = &register{after: after, seqs: map[string][]store.Seq{}}
}

func (n *register) add(subject string, seq store.Seq) {
	if n == nil || seq <= n.after || n.n > maxNoted {
		return
	}
	n.n++
	n.seqs[subject] = append(n.seqs[subject], seq)
}

// takeNoted ends noting, and returns how many messages of each subject are noted from behind a position up to another. It
// returns false if there were too many, or another stream has begun.
func (t *tail) takeNoted(after, through store.Seq) (by map[string]int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.noted
	t.noted = nil
	if n == nil || n.n > maxNoted {
		return nil, false
	}
	by = map[string]int{}
	for subject, seqs := range n.seqs {
		by[subject] = len(slices.DeleteFunc(seqs, func(s store.Seq) bool { return s <= after || s > through }))
	}
	return by, true
}

// totals returns how many messages that stay the stream has, by subject. They include all up to last, and maybe later
// ones.
func (l *Log) totals(ctx context.Context) (last store.Seq, by map[string]uint64, err error) {
	by = map[string]uint64{}
	for i, kind := range messageKinds[:lastingKinds] {
		info, err := l.stream.Info(ctx, jetstream.WithSubjectFilter(l.subjects.prefix+kind+">"))
		if err != nil {
			return 0, nil, err
		}
		if i == 0 {
			last = store.Seq(info.State.LastSeq)
		}
		for subject, n := range info.State.Subjects {
			by[subject] = n
		}
	}
	return last, by, nil
}

// add adds the messages of totals, except those that are noted.
func (c *counts) add(l *Log, totals map[string]uint64, noted map[string]int) {
	for subject, total := range totals {
		escaped, ok := l.subjects.group(subject)
		if n := int(total) - noted[subject]; ok && n > 0 {
			c.Messages[partOf(escaped)] += n
			c.Subjects[partOf(escaped)]++
		}
	}
}

// recallCounts returns the counts of the bucket, or nil if they are of another stream.
func (l *Log) recallCounts(ctx context.Context, created time.Time) (*counts, error) {
	e, err := l.bucket.Get(ctx, countsKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &counts{}
	if err := json.Unmarshal(e.Value(), c); err != nil || !c.Created.Equal(created) {
		return nil, nil
	}
	return c, nil
}

// checkCounts writes marks if messages are missing that were there when they were last counted.
func (l *Log) checkCounts(ctx context.Context, was *counts) error {
	if was == nil {
		return nil
	}
	last, totals, err := l.totals(ctx)
	if err != nil {
		return err
	}
	if err := l.tail.waitFor(ctx, last); err != nil {
		return err
	}
	noted, ok := l.tail.takeNoted(was.At, last)
	is, err := l.recallCounts(ctx, was.Created)
	if err != nil || !ok || is == nil || is.At != was.At || !slices.Equal(is.Unsure, was.Unsure) {
		return err // another hub is running, and notices what is removed
	}
	now := counts{}
	now.add(l, totals, noted)
	var missing, gone [parts]bool
	for i := range parts {
		if slices.Contains(was.Unsure, i) {
			continue
		}
		gone[i] = now.Subjects[i] < was.Subjects[i]
		missing[i] = gone[i] || now.Messages[i] < was.Messages[i]
	}
	if !slices.Contains(missing[:], true) {
		return nil
	}
	l.opts.Logger.Warn("messages were removed from the stream while no hub was running", "up to", was.At)
	if slices.Contains(gone[:], true) {
		if err := l.markAt(ctx, goneKey, mark{Missing: was.At, Written: time.Now()}); err != nil {
			return err
		}
	}
	for g := range store.EachGroup(l.mem, "") {
		part := partOf(escape(g.Group))
		if !missing[part] {
			continue
		}
		m := mark{Eviction: memory.Eviction{Group: g.Group}, Missing: was.At, Written: time.Now()}
		if !gone[part] {
			if m.Missing, err = l.before(ctx, g.Group); err != nil {
				return err
			}
		}
		if err := l.mark(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// before returns the position before the first message of a group for each of whose kinds there is one.
func (l *Log) before(ctx context.Context, group string) (pos store.Seq, err error) {
	for _, kind := range messageKinds[:lastingKinds] {
		m, err := l.firstMessage(ctx, l.subjects.message(group, kind))
		if err != nil {
			return 0, err
		}
		if m != nil { // the kinds may have lost different numbers of messages
			pos = max(pos, store.Seq(m.Seq)-1)
		}
	}
	return pos, nil
}

// counter is what a janitor knows of the counts in the bucket.
type counter struct {
	wrote *counts   // nil: none
	next  time.Time // when they are counted again
}

// maxCounting bounds which part of the time is spent with counting.
const maxCounting = 20

// disturb notes in the bucket that messages of groups are being removed.
func (j *janitor) disturb(ctx context.Context, groups []mark) error {
	was, err := j.l.recallCounts(ctx, j.l.tail.streamCreated()) // another hub may have counted since this one did
	if err != nil {
		return err
	}
	if was == nil {
		was = &counts{Created: j.l.tail.streamCreated()} // nothing has to be there until they are counted
	}
	c := *was
	c.Unsure = slices.Clone(was.Unsure)
	for _, m := range groups {
		c.Unsure = append(c.Unsure, partOf(escape(m.Group)))
	}
	slices.Sort(c.Unsure)
	c.Unsure = slices.Compact(c.Unsure)
	return j.write(ctx, &c)
}

// count counts the messages, and writes the result into the bucket.
func (j *janitor) count(ctx context.Context, now bool) error {
	began := time.Now()
	l, was := j.l, j.counted.wrote
	same := was != nil && was.At == l.tail.position() && len(was.Unsure) == 0
	if same || !now && began.Before(j.counted.next) {
		return nil
	}
	l.tail.beginNoting(l.tail.position())
	from, totals, err := l.totals(ctx)
	if err != nil {
		return err
	}
	info, err := l.stream.Info(ctx)
	if err != nil {
		return err
	}
	// Messages that were stored meanwhile may be counted or not: they are left out.
	if err := l.tail.waitFor(ctx, store.Seq(info.State.LastSeq)); err != nil {
		return err
	}
	behind, ok := l.tail.takeNoted(from, store.Seq(info.State.LastSeq))
	j.counted.next = time.Now().Add(maxCounting * time.Since(began))
	if !ok || !info.Created.Equal(l.tail.streamCreated()) {
		return nil
	}
	c := &counts{Created: info.Created, At: from}
	c.add(l, totals, behind)
	return j.write(ctx, c)
}

func (j *janitor) write(ctx context.Context, c *counts) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err = j.l.bucket.Put(ctx, countsKey, b); err == nil {
		j.counted.wrote = c
	}
	if isFull(err) {
		return nil
	}
	return err
}

// leave counts the messages once more before the log is closed, since others may be removed before a hub starts again.
func (j *janitor) leave() {
	if !j.l.nc.IsConnected() || !j.l.tail.following() || !j.l.hubs.first() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	_ = errors.Join(j.l.remember(ctx), j.count(ctx, true)) // the last ones are still right
}
