package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// janitor writes marks, and removes from the stream what they say is evicted. One hub at a time does this: the one with
// the lowest id.
type janitor struct {
	l       *Log
	told    map[string]time.Time // when the mark of a group was written that only tells of what is evicted
	cleaned map[string]cleaning  // by group
	epoch   string               // of cleaned
	crowded bool                 // there are too many notes to store them again
	counted counter
	found   *telling // what is missing and not told yet; nil: nothing, or not known
}

// cleaning is how far a group's evicted messages are removed from the stream.
type cleaning struct {
	done store.Seq // up to here
	next *mark     // what it says is removed next, once it is old enough; nil: none. The newest mark never is, if messages come to the group all the time
}

// end returns the position up to which a mark has messages removed.
func (m *mark) end() store.Seq { return max(m.Through, m.Retained) }

// How much is done in a turn.
const (
	maxMarks    = 1000
	maxRemovals = 500
)

// sweepEvery is how often each hub forgets removals, and appends whose outcome stays unknown.
const sweepEvery = 10 * time.Minute

func (l *Log) runJanitor() {
	j := &janitor{l: l, told: map[string]time.Time{}, cleaned: map[string]cleaning{}}
	tick := time.NewTicker(l.opts.Times.Janitor)
	defer tick.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		work := j.turn
		select {
		case <-l.tidying.Done():
			j.leave()
			return
		case now := <-sweep.C:
			l.notes.sweep(now)
			l.pending.sweep(now)
			continue
		case <-l.unheard.wake:
		case <-l.purges.wake:
			work = j.markPurges
		case <-l.notes.wake:
			work = j.storeNear
		case <-l.room.wake:
		case <-tick.C:
			l.settleRoom(l.tidying)
		}
		if l.offline.Load() || !l.tail.following() {
			continue
		}
		first := l.hubs.first()
		if l.tail.folded() { // first: without revocations, another hub that starts would accept revoked tokens
			j.try(func(ctx context.Context) error { return l.carry(ctx, first) })
		}
		if j.try(j.learn); !l.unheard.knows() {
			if first {
				j.try(j.turnUnheard)
			}
			j.try(j.storeLost)
			continue
		}
		j.try(j.countUnsure)
		if first {
			j.try(work)
		} else {
			j.try(j.markLate)
			j.try(j.storeLost)
			j.try(j.trimNoted)
			j.try(j.withdraw)
		}
	}
}

// try does a piece of work, and logs why it fails.
func (j *janitor) try(work func(context.Context) error) {
	ctx, cancel := context.WithTimeout(j.l.tidying, j.l.turnTime())
	defer cancel()
	j.l.unheard.ends(cancel)
	switch err := work(ctx); {
	case err == nil || ctx.Err() != nil: // without time, or cut off, the next turn goes on
	case errors.Is(err, errRecounted): // the next turn tries again, if this hub is still the first
	case isFull(err): // so does it once there is room
	case errors.Is(err, store.ErrAway), passing(err): // and when the servers agree; runQuestions says it if they do not
	default:
		j.l.opts.Logger.Warn("the stream is not cleaned up now", "error", err)
	}
}

// turnTime is the most that a turn of the janitor may take.
func (l *Log) turnTime() time.Duration { return 10 * l.opts.Times.Patience }

// first reports whether this hub has the lowest id.
func (h *hubs) first() bool { return h.List()[0].ID == h.Self() }

func (j *janitor) turn(ctx context.Context) error {
	return j.do(ctx,
		j.watch,
		j.storeNear,
		j.markPurges, // those that another hub had to mark
		j.l.remember,
		j.reserve,
		j.markExcesses,
		j.remove,
		func(ctx context.Context) error { return j.forget(ctx, j.l.opts.MaxMarks) },
		func(ctx context.Context) error { return j.count(ctx, false) },
	)
}

// turnUnheard is the turn of a hub that may have missed purges. It does not know how many messages a group has, so that it leaves the
// policies alone. It removes evicted messages only after it has compared the counts: a comparison leaves out what hubs remove. There may be no
// room for the marks of what it has found until then.
func (j *janitor) turnUnheard(ctx context.Context) error {
	steps := []func(context.Context) error{j.watch, j.storeNear, j.markPurges, j.l.remember, j.reserve}
	if j.found != nil {
		steps = append(steps, j.remove)
	}
	return j.do(ctx, steps...)
}

// do does one step after the other until one fails.
func (j *janitor) do(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil && !isFull(err) { // without room, a later step may make some
			return err
		}
	}
	return nil
}

// forget forgets the marks of the oldest losses, up to a few hundred in a turn, if there are more than most. What they
// say was removed from the stream before. If another hub writes one of them meanwhile, they stay until a later turn.
func (j *janitor) forget(ctx context.Context, most int) error {
	epoch, marks := j.l.epoch(), j.l.notes.marks()
	if len(marks) <= most {
		return nil
	}
	slices.SortFunc(marks, func(a, b mark) int { return cmp.Compare(a.Through, b.Through) })
	old := keyedMark{key: lostKey}
	var list []store.Note
	for _, m := range marks[:min(len(marks)-most, maxBatch/2)] {
		if m.Group == everyGroup || j.cleaned[m.Group].done < m.end() {
			continue
		}
		old.Through = max(old.Through, m.Through, m.Missing)
		list = append(list, store.Note{Key: evictKeys + m.Group, Guarded: true, At: m.at})
		delete(j.cleaned, m.Group)
	}
	if len(list) == 0 {
		return nil
	}
	if _, err := j.l.markOnce(ctx, epoch, []keyedMark{old}, list...); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}

// watch looks whether somebody else has removed messages from the front of the stream. The note of the epoch lies
// there, and the hubs do not remove it.
func (j *janitor) watch(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	info, err := j.l.streamInfo(asking)
	if err == nil {
		j.l.tail.configured(&info.Config)
	}
	if err != nil || !info.Created.Equal(j.l.tail.streamCreated()) {
		return err // the tail begins a new epoch, if the stream is another one
	}
	gone := store.Seq(info.State.FirstSeq) - 1
	v, ok := j.l.notes.get(epochKey)
	purged := gone >= v.place.seq
	if !ok || !purged && (gone <= j.l.notes.told() || !limited(&info.Config)) {
		return nil
	}
	j.l.opts.Logger.Warn("messages were removed from the front of the stream, not by a hub", "up to", gone)
	if purged {
		return j.l.renewEpoch(ctx, gone)
	}
	_, err = j.l.mark(ctx, []keyedMark{lostMark(gone)})
	return err
}

// told returns the position up to which the mark of all groups says that the stream has nothing.
func (t *noteTable) told() store.Seq {
	var m mark
	if v, ok := t.get(evictKeys + everyGroup); !ok || json.Unmarshal(v.value, &m) != nil {
		return 0
	}
	return m.Through
}

// limited reports whether an operator has set limits.
func limited(c *jetstream.StreamConfig) bool { return c.MaxBytes > 0 || c.MaxMsgs > 0 || c.MaxAge > 0 }

// markExcesses writes the marks of groups that have lost messages, or have to.
func (j *janitor) markExcesses(ctx context.Context) error {
	epoch, now := j.l.epoch(), time.Now()
	n := 0
	for x := range j.l.mem.Excesses() {
		e := x.Told
		if x.Horizon > 0 && !x.Unsure {
			if err := j.cut(ctx, &x, &e); err != nil {
				return err
			}
		}
		// Marks of groups that messages come to all the time may wait.
		if e.Through == 0 || e.Through == x.Told.Through && now.Sub(j.told[x.Group]) < j.l.opts.Times.Grace/5 {
			continue
		}
		j.told[x.Group] = now
		_, err := j.l.markOnce(ctx, epoch, []keyedMark{groupMark(mark{Eviction: e, Written: now})})
		switch {
		case errors.Is(err, store.ErrConflict): // its counts are wrong now: the next turn has those that are right
			delete(j.told, x.Group)
		case err != nil:
			return err
		}
		if n++; n == maxMarks {
			break
		}
	}
	for name, at := range j.told {
		if now.Sub(at) > j.l.opts.Times.Grace {
			delete(j.told, name)
		}
	}
	return nil
}

// cut extends an eviction by the spilled messages of a group that its policy does not keep.
func (j *janitor) cut(ctx context.Context, x *memory.Excess, e *memory.Eviction) error {
	e.Group = x.Group
	n, bytes, now := x.Messages, x.Bytes, time.Now()
	keep := func(m *stored) bool {
		p := &x.Policy
		return (p.MaxMessages == 0 || n <= p.MaxMessages) && (p.MaxBytes == 0 || bytes <= p.MaxBytes) &&
			(p.MaxAge == 0 || m.entry.Time.Add(p.MaxAge).After(now))
	}
	c := cursor{l: j.l, group: x.Group, after: x.Floor, end: x.Horizon}
	for {
		m, err := c.next(ctx)
		if err != nil || m == nil {
			return err
		}
		if keep(m) {
			e.Next = m.entry.Time
			return nil
		}
		e.Through, e.Time = m.seq, m.entry.Time
		if size, counts := j.size(m); counts {
			n--
			bytes -= size
			e.Messages++
			e.Bytes += size
		}
	}
}

// size returns how many bytes of its group a message takes, and whether it is counted.
func (j *janitor) size(m *stored) (bytes int64, counts bool) {
	if m.damaged || !m.entry.Expires.IsZero() {
		return 0, false
	}
	return int64(m.entry.FrameLen(store.ID{Epoch: j.l.epoch(), Seq: m.seq})), true
}

// countUnsure counts the spilled messages of groups of which somebody else may have removed some. Each hub does so: they do not
// spill the same messages.
func (j *janitor) countUnsure(ctx context.Context) error {
	for x := range j.l.mem.Excesses() {
		if !x.Unsure {
			continue
		}
		err := j.recount(ctx, &x)
		if err != nil && !errors.Is(err, errBehind) && !errors.Is(err, errShort) { // after those, the next turn tries again
			return err
		}
	}
	return nil
}

// recount counts the spilled messages of a group, of which somebody else may have removed some.
func (j *janitor) recount(ctx context.Context, x *memory.Excess) error {
	n, bytes, err := j.measure(ctx, x.Group, x.Floor, x.Horizon)
	if err == nil {
		j.l.mem.Correct(x, x.Spilled-n, x.SpilledBytes-bytes)
	}
	return err
}

// measure counts the messages of a group in the stream after a position, up to another one, except those that expire.
func (j *janitor) measure(ctx context.Context, group string, after, through store.Seq) (n, bytes int64, err error) {
	if err := j.l.leaderReached(ctx, through); err != nil {
		return 0, 0, err
	}
	c := cursor{l: j.l, group: group, after: after, end: through, exact: true}
	for {
		m, err := c.next(ctx)
		if err != nil || m == nil {
			return n, bytes, err
		}
		if size, counts := j.size(m); counts {
			n++
			bytes += size
		}
	}
}

// remove removes from the stream what was marked long enough ago.
func (j *janitor) remove(ctx context.Context) error {
	grace := j.l.opts.Times.Grace
	if j.l.shortage() != nil { // a hub that lags for longer is given up by the others
		grace = min(grace, 2*j.l.opts.Times.Silent)
	}
	if epoch := j.l.epoch(); epoch != j.epoch {
		j.epoch, j.cleaned = epoch, map[string]cleaning{}
	}
	marks := j.l.notes.marks()
	j.forgetCleaned(marks)
	var due []mark
	for _, m := range marks {
		c := j.cleaned[m.Group]
		if m.Group == everyGroup || m.end() <= c.done {
			continue
		}
		if c.next == nil {
			c.next = &m
			j.cleaned[m.Group] = c
		}
		if time.Since(c.next.Written) >= grace && len(due) < maxRemovals {
			due = append(due, *c.next)
		}
	}
	if len(due) == 0 {
		return nil
	}
	if err := j.disturb(ctx, due); err != nil {
		return err
	}
	unended := j.counted.removing // of an earlier one
	j.counted.removing = j.l.removesUntil()
	for _, m := range due {
		if err := j.removeMarked(ctx, &m); err != nil {
			return err
		}
		j.cleaned[m.Group] = cleaning{done: m.end()}
	}
	j.counted.removing = unended
	return nil
}

// forgetCleaned forgets the groups that have no mark any more, once there are more groups than marks: another hub may have forgotten their
// marks.
func (j *janitor) forgetCleaned(marks []mark) {
	if len(j.cleaned) <= len(marks) {
		return
	}
	marked := map[string]bool{}
	for _, m := range marks {
		marked[m.Group] = true
	}
	maps.DeleteFunc(j.cleaned, func(name string, _ cleaning) bool { return !marked[name] })
}

// removeMarked removes what a mark says, but never the retained message of the group.
func (j *janitor) removeMarked(ctx context.Context, m *mark) error {
	for _, kind := range messageKinds {
		subject := j.l.subjects.message(m.Group, kind)
		last, err := j.l.lastMessage(ctx, subject)
		if err != nil {
			return err
		}
		if last == nil {
			continue
		}
		below := m.Through + 1
		switch retain := kind == retained || kind == expiringRetained; {
		case retain && m.Retained >= store.Seq(last.Seq):
			below = store.Seq(last.Seq) + 1
		case retain:
			below = min(below, store.Seq(last.Seq))
		}
		if err := j.purge(ctx, subject, below); err != nil {
			return err
		}
	}
	return nil
}

// purge removes the messages of a subject below a seq.
func (j *janitor) purge(ctx context.Context, subject string, below store.Seq) error {
	if below <= 1 {
		return nil
	}
	return j.l.purgeSubject(ctx, subject, jetstream.WithPurgeSequence(uint64(below)))
}

// purgeSubject removes messages of a subject. It returns errReplaced while the tail does not read the stream, which may be another one by
// then: the seqs of its messages are not those that this hub knows.
func (l *Log) purgeSubject(ctx context.Context, subject string, o ...jetstream.StreamPurgeOpt) error {
	if !l.tail.following() {
		return errReplaced
	}
	err := l.stream.Purge(ctx, append(o, jetstream.WithPurgeSubject(subject))...)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // the tail notices
	}
	return err
}

// marks returns the marks of all groups.
func (t *noteTable) marks() (list []mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, v := range t.notes {
		name, ok := markedGroup(key)
		var m mark
		if !ok || v.removed || json.Unmarshal(v.value, &m) != nil {
			continue
		}
		m.Group, m.at = name, v.at
		list = append(list, m)
	}
	return list
}
