package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// Somebody may purge messages while no hub is running. So the janitor counts the messages of the stream, those that stay
// until they are purged, and keeps their number in the bucket. A hub that starts compares it with what is there, and so does one that was cut off from the servers, see missed.go. The
// number is kept for each of 256 parts of the groups, so that few groups are suspected.
//
// If messages are missing but all subjects are there, the first ones of some groups were purged: groups of the part may
// have lost what is before their first message. Otherwise they may have lost anything, and so may groups of which
// nothing is left.
//
// Two hubs may take themselves for the janitor: one of them has just started, or they did not hear each other for a while.
// So a hub announces in the counts of which parts it will remove messages, and replaces only the version of the counts
// that it read before it began to count. A count is dropped if a removal was announced meanwhile, and it keeps the
// removals that other hubs had announced before: they may go on after the messages were counted.

const (
	countsKey = "counts"
	parts     = 256
)

// counts is how many messages the stream has.
type counts struct {
	Epoch    string
	At       store.Seq // only messages up to here are counted
	Messages [parts]int
	Subjects [parts]int         // with at least one of these messages
	Removals map[uint64]removal `json:",omitempty"` // by log: those that may have begun after the messages were counted

	revision uint64 // of the bucket that they were read from, or written as; 0: none
}

// removal is the announcement that a hub removes messages.
type removal struct {
	Parts []int     // sorted
	Until time.Time // by its clock; it ends much earlier if the clocks agree. Zero: it has ended
}

// unsure returns the parts from which messages may be removed.
func (c *counts) unsure() (list [parts]bool) {
	for _, r := range c.Removals {
		for _, part := range r.Parts {
			list[part] = true
		}
	}
	return list
}

// partOf returns the part of a group, whose name is escaped.
func partOf(group string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(group)) // never fails
	return int(h.Sum32() % parts)
}

// register notes the messages behind a position, in order, so that those behind the last counts can be left out. Each hub keeps one:
// it may have to compare at any time.
type register struct {
	seed  maphash.Seed
	after store.Seq
	list  []notedMessage
}

type notedMessage struct {
	seq     store.Seq
	subject uint64 // its hash
}

// maxNoted bounds how many are noted. If there are more, only later counts can be compared.
const maxNoted = 1 << 20

// noteAfter begins to note messages behind a position.
func (t *tail) noteAfter(after store.Seq) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noted.begin(after)
}

func (n *register) begin(after store.Seq) { n.after, n.list = after, nil }

func (n *register) add(subject string, seq store.Seq) {
	if seq <= n.after {
		return
	}
	if len(n.list) == maxNoted {
		n.begin(n.list[maxNoted-1].seq)
	}
	n.list = append(n.list, notedMessage{seq, n.hash(subject)})
}

func (n *register) hash(subject string) uint64 { return maphash.String(n.seed, subject) }

// notedIn returns how many messages of each subject, by its hash, are noted from behind a position up to another. It returns false if
// not all of them are, since there were too many.
func (t *tail) notedIn(after, through store.Seq) (by map[uint64]int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if after < t.noted.after {
		return nil, false
	}
	by = map[uint64]int{}
	for _, m := range t.noted.list {
		if m.seq > after && m.seq <= through {
			by[m.subject]++
		}
	}
	return by, true
}

// forgetNoted forgets the messages up to a position, which are counted.
func (t *tail) forgetNoted(through store.Seq) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := &t.noted; through > n.after {
		kept := slices.IndexFunc(n.list, func(m notedMessage) bool { return m.seq > through })
		if kept < 0 {
			kept = len(n.list)
		}
		n.after, n.list = through, slices.Clone(n.list[kept:])
	}
}

// manyNoted is how many messages a hub notes before it asks up to where they are counted by another one.
const manyNoted = maxNoted / 16

// trimNoted forgets messages that another hub has counted.
func (j *janitor) trimNoted(ctx context.Context) error {
	if j.l.tail.noting() < manyNoted {
		return nil
	}
	c, err := j.l.recallCounts(ctx)
	if err == nil {
		j.l.tail.forgetNoted(c.of(j.l.epoch()).At)
	}
	return err
}

func (t *tail) noting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.noted.list)
}

// totals returns how many messages that stay the stream has up to a position, by subject. Messages that are stored while the servers answer may be
// included. The tail has read everything up to that position then. If the stream is another one than the tail reads, totals returns errReplaced: its
// positions mean nothing until the tail knows.
func (l *Log) totals(ctx context.Context) (last store.Seq, by map[string]uint64, err error) {
	by = map[string]uint64{}
	for i, kind := range messageKinds[:lastingKinds] {
		info, err := l.infoReached(ctx, 0, jetstream.WithSubjectFilter(l.subjects.prefix+kind+">"))
		if err != nil {
			return 0, nil, err
		}
		end := store.Seq(info.State.LastSeq)
		if i == 0 {
			last = end
		}
		if err := l.tail.waitFor(ctx, end); err != nil {
			return 0, nil, err
		}
		late, _ := l.tail.notedIn(last, end) // they would hide that others are missing
		for subject, n := range info.State.Subjects {
			by[subject] = n - min(n, uint64(late[l.tail.noted.hash(subject)]))
		}
	}
	return last, by, nil
}

// add adds the messages of totals, except those that are noted.
func (c *counts) add(l *Log, totals map[string]uint64, noted map[uint64]int) {
	for subject, total := range totals {
		escaped, ok := l.subjects.group(subject)
		if n := int(total) - noted[l.tail.noted.hash(subject)]; ok && n > 0 {
			c.Messages[partOf(escaped)] += n
			c.Subjects[partOf(escaped)]++
		}
	}
}

// recallCounts returns the counts of the bucket, which may be of another epoch.
func (l *Log) recallCounts(ctx context.Context) (*counts, error) {
	value, revision, err := l.bucket.Get(ctx, countsKey)
	if err != nil {
		return nil, err
	}
	c := &counts{revision: revision}
	if json.Unmarshal(value, c) != nil {
		return &counts{revision: revision}, nil
	}
	return c, nil
}

// of returns the counts of an epoch. If there are none, no message has to be there.
func (c *counts) of(epoch string) *counts {
	if c.Epoch != epoch {
		return &counts{Epoch: epoch, revision: c.revision}
	}
	return c
}

// errRecounted means that another hub has written the counts meanwhile.
var errRecounted = errors.New("another hub has written the counts of messages")

// writeCounts writes counts into the bucket, in place of the revision that they have. If another hub was faster, it
// returns errRecounted.
func (l *Log) writeCounts(ctx context.Context, c *counts) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	revision, err := l.bucket.Update(ctx, countsKey, b, c.revision)
	switch {
	case isConflict(err):
		return errRecounted
	case err == nil:
		c.revision = revision
	}
	return err
}

// difference says in which parts messages are missing.
type difference struct {
	epoch   string
	missing [parts]int  // how many
	gone    [parts]int  // how many subjects have lost all their messages, at least
	unsure  [parts]bool // hubs may have removed messages: nobody knows how many are missing

	left  map[string]uint64 // how many messages the stream had, by subject
	asked store.Seq         // when it had all messages up to here, and maybe later ones

	counted store.Seq      // what is missing was there up to here; 0: the counts say nothing
	noted   map[uint64]int // how many messages were stored from there up to asked, by the hash of their subject
}

// has returns how many messages that stay the stream had of a group.
func (d *difference) has(l *Log, group string) (n int64) {
	for _, kind := range messageKinds[:lastingKinds] {
		n += int64(d.left[l.subjects.message(group, kind)])
	}
	return n
}

// found reports whether messages are missing.
func (d *difference) found() bool { return slices.Max(d.missing[:]) > 0 }

// doubtful reports whether messages may be missing.
func (d *difference) doubtful() bool { return d.found() || slices.Contains(d.unsure[:], true) }

// compare returns where messages are missing that were there when they were last counted. It returns errRecounted if another hub writes the
// counts meanwhile: it may have told what was missing.
func (l *Log) compare(ctx context.Context, was *counts) (*difference, error) {
	last, totals, err := l.totals(ctx)
	if err != nil {
		return nil, err
	}
	d := &difference{epoch: was.Epoch, left: totals, asked: last, counted: was.At}
	if was.At == 0 {
		return d, nil
	}
	noted, ok := l.tail.notedIn(was.At, last)
	is, err := l.recallCounts(ctx)
	switch {
	case err != nil:
		return nil, err
	case is.revision != was.revision:
		return nil, errRecounted
	case was.Epoch != l.epoch(): // nothing is counted of the stream that the log has now
		return nil, errRenewed
	case !ok:
		l.opts.Logger.Warn("too many messages were stored since they were last counted: listeners may not be told of those that somebody purged meanwhile",
			"counted up to", was.At)
		return d, nil
	}
	d.noted = noted
	var now counts
	now.add(l, totals, noted)
	d.unsure = was.unsure()
	for i := range parts {
		if d.unsure[i] {
			continue
		}
		d.gone[i] = max(was.Subjects[i]-now.Subjects[i], 0)
		d.missing[i] = max(was.Messages[i]-now.Messages[i], d.gone[i])
	}
	return d, nil
}

// checkAtStart writes marks if messages are missing that were there when they were last counted, unless another hub has told. The log has just read
// the stream, and does not know what was there before.
func (l *Log) checkAtStart(ctx context.Context, told bool) error {
	if told {
		return nil
	}
	var t *telling
	err := patiently(ctx, func(ctx context.Context) (err error) { t, err = l.findAtStart(ctx); return err })
	if err != nil || t == nil {
		return err
	}
	l.opts.Logger.Warn("messages were removed from the stream while no hub was running", "up to", t.counted)
	return l.tellEach(ctx, t, patiently)
}

// findAtStart compares the counts, and returns what is missing; nil: nothing.
func (l *Log) findAtStart(ctx context.Context) (*telling, error) {
	was, err := l.recallCounts(ctx)
	if err != nil {
		return nil, err
	}
	if was = was.of(l.epoch()); was.At == 0 {
		return nil, nil
	}
	d, err := l.compare(ctx, was)
	if err != nil || !d.found() {
		return nil, err
	}
	t := &telling{difference: *d}
	for g := range store.EachGroup(l.mem, "") {
		if d.missing[partOf(escape(g.Group))] > 0 {
			t.groups = append(t.groups, g.Group)
		}
	}
	t.limit(l.opts.MaxMarks, was.At) // the janitor would forget some of their marks, and then tell all groups
	t.markOf = func(ctx context.Context, name string) (*mark, error) { return l.before(ctx, name, d) }
	return t, nil
}

// readToEnd waits until the tail has read what the stream has now.
func (l *Log) readToEnd(ctx context.Context) error {
	info, err := l.streamInfo(ctx)
	if err != nil {
		return err
	}
	return l.tail.waitFor(ctx, store.Seq(info.State.LastSeq))
}

// before returns the mark of a group that may lack messages: what is before its first message, if there is one for each of its kinds, or
// anything that was counted.
func (l *Log) before(ctx context.Context, group string, d *difference) (*mark, error) {
	m := &mark{Eviction: memory.Eviction{Group: group}, Missing: d.counted, Written: time.Now()}
	if d.gone[partOf(escape(group))] > 0 {
		return m, nil
	}
	m.Missing = 0
	for _, kind := range messageKinds[:lastingKinds] {
		subject := l.subjects.message(group, kind)
		if d.left[subject] == 0 {
			continue
		}
		first, err := l.firstMessage(ctx, subject)
		if err != nil {
			return nil, err
		}
		if first != nil { // the kinds may have lost different numbers of messages
			m.Missing = max(m.Missing, store.Seq(first.Seq)-1)
		}
	}
	if m.Missing == 0 {
		return nil, nil
	}
	return m, nil
}

// counter is what a janitor knows of the counts in the bucket.
type counter struct {
	wrote    *counts   // nil: none
	next     time.Time // when they are counted again
	removing time.Time // until when a removal of this hub that has not ended may go on
}

// maxCounting bounds which part of the time is spent with counting.
const maxCounting = 20

// disturb announces in the bucket that messages of groups will be removed.
func (j *janitor) disturb(ctx context.Context, groups []mark) error {
	c, err := j.l.recallCounts(ctx) // another hub may have counted since this one did
	if err != nil {
		return err
	}
	c = c.of(j.l.epoch())
	r := c.Removals[j.l.self]
	for _, m := range groups {
		r.Parts = append(r.Parts, partOf(escape(m.Group)))
	}
	slices.Sort(r.Parts)
	r.Parts = slices.Compact(r.Parts)
	r.Until = j.l.removesUntil()
	if c.Removals == nil {
		c.Removals = map[uint64]removal{}
	}
	c.Removals[j.l.self] = r
	return j.announce(ctx, c)
}

// announce writes counts with the announcement of a removal. If there is no room, it first removes the version that they replace,
// which needs none. If others have taken that room, too, it removes whatever is there: a hub that starts without counts has nothing
// to compare, and misses nothing.
func (j *janitor) announce(ctx context.Context, c *counts) error {
	err := j.write(ctx, c)
	if isFull(err) && c.revision > 0 {
		if err = j.l.bucket.Remove(ctx, countsKey, c.revision+1); err == nil {
			c.revision = 0
			err = j.write(ctx, c)
		}
	}
	if isFull(err) {
		j.counted.wrote = nil
		err = j.l.bucket.Remove(ctx, countsKey, 0)
	}
	return err
}

// withdraw writes that a removal which this hub has announced has ended. It leaves the announcement there, since the counts may include
// what was removed: the next count, by the first hub, drops it.
func (j *janitor) withdraw(ctx context.Context) error {
	if was := j.counted.wrote; was == nil || was.Removals[j.l.self].Until.IsZero() || time.Now().Before(j.counted.removing) {
		return nil
	}
	c, err := j.l.recallCounts(ctx)
	if err != nil {
		return err
	}
	c = c.of(j.l.epoch())
	r, ok := c.Removals[j.l.self]
	if !ok {
		j.counted.wrote = nil
		return nil
	}
	r.Until = time.Time{}
	c.Removals[j.l.self] = r
	if err = j.l.writeCounts(ctx, c); err == nil { // what is remembered of the stream belongs to the count, which stays
		j.counted.wrote = c
	}
	return err
}

// count counts the messages, and writes the result into the bucket. With now, it does so though the tail has received nothing since
// the last time: messages of other hubs may be on their way.
func (j *janitor) count(ctx context.Context, now bool) error {
	began := time.Now()
	l, was := j.l, j.counted.wrote
	same := was != nil && was.At == l.tail.position() && len(was.Removals) == 0
	if !now && (same || began.Before(j.counted.next)) {
		return nil
	}
	missed, known := l.unheard.state()
	if !known {
		return nil // what is missing must be told before it is not counted any more
	}
	before, err := l.recallCounts(ctx)
	if err != nil {
		return err
	}
	before = before.of(l.epoch())
	if _, announced := before.Removals[l.self]; !announced && began.Before(j.counted.removing) {
		return nil // there was no room to announce a removal that may go on
	}
	if before.revision == 0 { // a hub that removes messages without an announcement takes this version away: the count is dropped
		if err := j.write(ctx, before); err != nil {
			return err
		}
	}
	from, totals, err := l.totals(ctx)
	if err != nil {
		return err
	}
	info, err := l.streamInfo(ctx)
	if err != nil {
		return err
	}
	// Messages that were stored meanwhile may be counted or not: they are left out.
	if err := l.tail.waitFor(ctx, store.Seq(info.State.LastSeq)); err != nil {
		return err
	}
	behind, ok := l.tail.notedIn(from, store.Seq(info.State.LastSeq))
	j.counted.next = time.Now().Add(maxCounting * time.Since(began))
	if now, _ := l.unheard.state(); !ok || now != missed || !info.Created.Equal(l.tail.streamCreated()) {
		return nil
	}
	c := &counts{Epoch: before.Epoch, At: from, Removals: before.Removals, revision: before.revision}
	maps.DeleteFunc(c.Removals, func(log uint64, r removal) bool {
		until := r.Until
		if log == l.self {
			until = j.counted.removing
		}
		return began.After(until)
	})
	c.add(l, totals, behind)
	if err := j.write(ctx, c); err != nil {
		return err
	}
	l.tail.forgetNoted(c.At)
	return nil
}

// write writes counts into the bucket, after what is remembered: a stream that has less than what is counted is another one.
func (j *janitor) write(ctx context.Context, c *counts) error {
	err := j.l.remember(ctx)
	if err == nil {
		err = j.l.writeCounts(ctx, c)
	}
	if err == nil {
		j.counted.wrote = c
	}
	return err
}

// removesUntil returns until when a removal that begins now may go on: the servers may be late with the last request.
func (l *Log) removesUntil() time.Time { return time.Now().Add(2 * l.turnTime()) }

// leave counts the messages once more before the log is closed, since others may be removed before a hub starts again.
func (j *janitor) leave() {
	if j.l.offline.Load() || !j.l.tail.following() || !j.l.hubs.first() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	_ = errors.Join(j.l.remember(ctx), j.count(ctx, true)) // the last ones are still right
}
