package jetstream

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// markPurges writes the marks of purges by somebody else.
func (j *janitor) markPurges(ctx context.Context) error { return j.markOlder(ctx, 0) }

// markLate marks what the hub whose work this is has not marked, as it had not read yet what was purged.
func (j *janitor) markLate(ctx context.Context) error {
	return j.markOlder(ctx, 2*j.l.opts.Times.Janitor)
}

func (j *janitor) markOlder(ctx context.Context, age time.Duration) error {
	j.l.purges.owes()
	for {
		p, ok := j.l.purges.next(age)
		if !ok {
			return nil
		}
		lost, err := j.markPurge(ctx, p)
		if err != nil {
			return err
		}
		j.l.purges.done(p, lost)
	}
}

// markPurge compares the groups that a purge may concern with the stream, and writes the marks of those that have lost messages. It
// returns these. The marks are written together, so that a hub that reads one of them has the others, too.
func (j *janitor) markPurge(ctx context.Context, p purged) (lost map[string]bool, err error) {
	lost = map[string]bool{}
	if len(p.newest) == 0 {
		return lost, nil
	}
	left, err := j.left(ctx, p.Filter)
	if err != nil {
		return nil, err
	}
	var list []keyedMark
	for name := range p.newest {
		m, err := j.missing(ctx, &p, name, left)
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		lost[name] = true
		list = append(list, groupMark(*m))
	}
	if len(list) > 0 {
		j.l.opts.Logger.Warn("messages were purged from the stream, not by a hub", "filter", p.Filter, "groups", len(list))
	}
	for part := range slices.Chunk(list, maxBatch/2) {
		if _, err := j.l.markIn(ctx, p.epoch, part); err != nil {
			return nil, err
		}
	}
	return lost, nil
}

// left returns how many messages the stream has of the groups that a purge may concern, by subject.
func (j *janitor) left(ctx context.Context, filter string) (by map[string]uint64, err error) {
	l := j.l
	at := l.tail.position()
	var subjects []string
	if rest, ok := l.subjects.group(filter); ok && !strings.HasPrefix(filter[len(l.subjects.prefix):], ">") {
		subjects = []string{l.subjects.prefix + "*." + rest}
	} else {
		for _, kind := range messageKinds {
			subjects = append(subjects, l.subjects.prefix+kind+">")
		}
	}
	by = map[string]uint64{}
	for _, s := range subjects {
		info, err := l.infoReached(ctx, at, jetstream.WithSubjectFilter(s))
		if err != nil {
			return nil, err
		}
		for subject, n := range info.State.Subjects {
			by[subject] = n
		}
	}
	return by, nil
}

// missing returns the mark of what a purge has removed of a group: what this hub has, and the stream has not; nil: nothing. Only what is
// before the first message that is left of any kind is evicted. What the purge has left behind it stays.
func (j *janitor) missing(ctx context.Context, p *purged, name string, left map[string]uint64) (*mark, error) {
	l := j.l
	floor, first := l.mem.Floor(name), [len(messageKinds)]store.Seq{}
	all := store.Seq(math.MaxInt64)
	for i, kind := range messageKinds {
		first[i] = math.MaxInt64
		subject := l.subjects.message(name, kind)
		if left[subject] == 0 {
			continue
		}
		m, err := l.nextMessage(ctx, subject, floor+1)
		if err != nil {
			return nil, err
		}
		if m != nil {
			first[i] = store.Seq(m.Seq)
			all = min(all, first[i]-1)
		}
	}
	lost, err := j.removedOf(ctx, p, name, floor, &first)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	m := &mark{Eviction: memory.Eviction{Group: name, Through: min(lost, all), Time: now, Unknown: true}, Missing: lost, Written: now}
	if m.Retained, err = j.retainedLost(ctx, p, name); err != nil || lost == 0 && m.Retained == 0 {
		return nil, err
	}
	if lost > m.Through {
		m.Reread = lost
	}
	return m, nil
}

// removedOf returns the newest message of a group in memory that was before the first one of its kind in the stream; 0: none. If not all of
// the group are in memory, and it is not known that the stream has the others, it may have been any up to the newest when the purge was told, if no
// mark tells.
func (j *janitor) removedOf(ctx context.Context, p *purged, name string, floor store.Seq, first *[len(messageKinds)]store.Seq) (lost store.Seq, err error) {
	l := j.l
	q := store.Query{Select: exactly(name), Through: p.newest[name]}
	if q.After, err = j.intact(ctx, p, name, floor); err != nil {
		return 0, err
	}
	for b := (&store.Batch{Buf: make([]byte, 0, 64<<10)}); q.After < q.Through; q.After = b.Next {
		err := l.mem.Read(q, b)
		if errors.As(err, new(*memory.SpilledError)) {
			return j.removedUnseen(p, name, first), nil
		}
		if err != nil {
			return 0, err
		}
		for _, f := range b.Frames {
			kind := kindIndex(f.Flags)
			if f.Seq < first[kind] && subjectMatches(p.Filter, l.subjects.message(name, messageKinds[kind])) {
				lost = max(lost, f.Seq)
			}
		}
		if b.Next <= q.After {
			break
		}
	}
	return lost, nil
}

// How many messages of a group, and bytes, are read at most to find out whether the stream has all of them.
const (
	maxMeasured      = 10_000
	maxMeasuredBytes = 16 << 20
)

// intact returns a position up to which the stream has all messages of a group that stay until they are purged. It is floor if nothing else is
// known. A comparison suspects groups in which only others of their part have lost messages.
func (j *janitor) intact(ctx context.Context, p *purged, name string, floor store.Seq) (store.Seq, error) {
	s, sure := j.l.mem.Spilled(name)
	if p.counts == nil || !sure || s.Horizon == 0 || s.Messages > maxMeasured || s.Bytes > maxMeasuredBytes {
		return floor, nil
	}
	switch n, _, err := j.measure(ctx, name, s.Floor, s.Horizon); {
	case err != nil && j.l.unheard.tries() >= fewTurns: // in doubt a gap, rather than that readers wait for ever
		return floor, nil
	case err != nil || n != s.Messages:
		return floor, err
	}
	return max(floor, s.Horizon), nil
}

// removedUnseen is removedOf for a group that is not in memory.
func (j *janitor) removedUnseen(p *purged, name string, first *[len(messageKinds)]store.Seq) (lost store.Seq) {
	l := j.l
	newest := p.newest[name]
	if p.Seq > 0 {
		newest = min(newest, p.Seq-1)
	}
	for i, kind := range messageKinds {
		switch {
		case !subjectMatches(p.Filter, l.subjects.message(name, kind)):
		case p.counts != nil && i >= lastingKinds: // they are not counted
		case first[i] < math.MaxInt64:
			lost = max(lost, min(first[i]-1, newest))
		case p.counts != nil && p.counts.gone[partOf(escape(name))] <= 0 && p.counts.has(l, name) > 0: // there were none of the kind
		case p.Keep == 0:
			lost = newest
		}
	}
	if lost <= l.mem.Floor(name) {
		return 0
	}
	if v, ok := l.notes.get(evictKeys + name); ok && v.at > p.pos {
		if m, ok := (&record{key: evictKeys + name, value: v.value}).mark(); ok && m.Missing >= lost {
			return 0 // another hub has told
		}
	}
	return lost
}

// retainedLost returns the seq of the retained message of a group if the stream does not have it any more, else 0.
func (j *janitor) retainedLost(ctx context.Context, p *purged, name string) (store.Seq, error) {
	seq := j.l.retainedSeq(name)
	if seq == 0 || !j.l.purgeMatches(p, name, true) {
		return 0, nil
	}
	m, err := j.l.askLeader(ctx, j.l.opts.Stream, request{Seq: seq})
	if err != nil || m != nil {
		return 0, err
	}
	return seq, nil
}

// kindIndex returns the index in messageKinds of a message with flags.
func kindIndex(f store.Flags) (i int) {
	if f&store.IsRetain != 0 {
		i++
	}
	if f&store.HasExpiry != 0 {
		i += lastingKinds
	}
	return i
}
