package memory

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// What the log behind this one needs (Options.Behind).

// SpilledError is returned by Read if messages after the position are spilled. They are read from the log
// behind, like all others from the position up to Through. Reads after Through need no other log, unless
// further messages are spilled.
type SpilledError struct {
	Through store.Seq
}

func (e *SpilledError) Error() string {
	return fmt.Sprintf("messages up to %d are not in memory", e.Through)
}

// Horizon returns the newest spilled message after a position that s may select, or 0 if there is none. It may
// be too high, but not too low. While nothing after the position is spilled it costs one atomic load.
//
// An answer of Find is exact unless it is below Horizon(filters, 0). Then messages of the log behind count, too. For
// Start.Since the exact answer is at least that of Find; for Start.Last, all messages after the horizon are in
// memory (Backward).
func (l *Log) Horizon(s store.Selector, after store.Seq) store.Seq {
	if store.Seq(l.spilledTo.Load()) <= after {
		return 0
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.horizon(s, after)
}

func (l *Log) horizon(s store.Selector, after store.Seq) store.Seq {
	if store.Seq(l.spilledTo.Load()) <= after {
		return 0
	}
	now := time.Now().UnixMilli()
	most := after
	set, ok := s.(group.Set)
	if ok && !set.Wild() {
		unknown := false
		for _, f := range set {
			if r := l.rings[f.String()]; r == nil {
				unknown = true
			} else if r.spilled() {
				most = max(most, r.spill.reach(now))
			}
		}
		if unknown {
			most = max(most, l.unnamed.horizon)
		}
	} else {
		left := maxHoldSteps / 4
		most = l.furthest(s, 0, max(most, l.unnamed.horizon), now, &left)
	}
	if most <= after {
		return 0
	}
	return most
}

// furthest returns the newest spilled message of the selected rings from an item of the queue on, or most
// if that is higher. If no steps are left it assumes that all are selected.
func (l *Log) furthest(s store.Selector, item int, most store.Seq, now int64, left *int) store.Seq {
	if item >= len(l.bySpill.items) {
		return most
	}
	r := l.bySpill.items[item]
	if r.spill.horizon <= most {
		return most // and those behind it are not higher
	}
	if *left--; *left < 0 {
		return r.spill.horizon
	}
	if s.Match(r.name) {
		most = max(most, r.spill.reach(now))
	}
	most = l.furthest(s, 2*item+1, most, now, left)
	return l.furthest(s, 2*item+2, most, now, left)
}

// Floor returns the newest message evicted from a group, or 0. A message that is read from the log behind is
// shown only if it is above the floor.
func (l *Log) Floor(name string) store.Seq {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.floor(name)
}

func (l *Log) floor(name string) store.Seq {
	if r := l.rings[name]; r != nil {
		return r.spill.floor
	}
	return l.floorUnnamed()
}

// Gaps sets the epoch of b, its gaps and what they report, as Read does, for messages that were read from the
// log behind. It removes those that have been evicted since Floor was asked: an evicted message is reported, not
// delivered.
func (l *Log) Gaps(q store.Query, b *store.Batch) error {
	r := readerOf(b)
	q.Live = false // messages that linger here were not read
	r.begin(q, time.Now())
	done, err := l.gapsOnce(r, b)
	if err != nil || done {
		return err
	}
	l.survey(r)
	_, err = l.gapsOnce(r, b)
	return err
}

// gapsOnce returns false if a survey is needed.
func (l *Log) gapsOnce(r *reader, b *store.Batch) (done bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return true, store.ErrClosed
	}
	b.Epoch, b.Gaps, b.Reported = l.life.Load().epoch, b.Gaps[:0], l.opts.Losses.Now()
	r.left = maxHoldSteps / 2
	if done = l.gaps(r, b); done {
		l.dropEvicted(b)
	}
	return done, nil
}

// dropEvicted removes the frames of messages that are evicted. Those that are left move together.
func (l *Log) dropEvicted(b *store.Batch) {
	evicted := func(f store.Frame) bool { return f.Seq <= l.floor(f.Group) }
	if !slices.ContainsFunc(b.Frames, evicted) {
		return
	}
	b.Frames = slices.DeleteFunc(b.Frames, evicted)
	end := 0
	for i := range b.Frames {
		f := &b.Frames[i]
		next := end + copy(b.Buf[end:], f.Bytes)
		f.At, f.Bytes, end = end, b.Buf[end:next:next], next
	}
	b.Buf = b.Buf[:end]
}

// Admit returns the error with which Append would refuse the entries. It is asked before they are published:
// Place takes all.
func (l *Log) Admit(entries []store.Entry) error {
	known, err := l.admitKnown(entries)
	if err != nil || known {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := map[string]bool{}
	groups := len(l.rings) - l.opts.MaxGroups
	for i := range entries {
		name := entries[i].Group
		if _, seen := fresh[name]; !seen {
			if fresh[name] = l.rings[name] == nil; fresh[name] {
				groups++
			}
		}
	}
	if !l.dropIdle(groups, 0, fresh) {
		return store.ErrTooManyGroups
	}
	return nil
}

// admitKnown is Admit, unless a group is not known.
func (l *Log) admitKnown(entries []store.Entry) (known bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return false, store.ErrClosed
	}
	life := l.life.Load()
	if err := l.affordable(entries, store.ID{Epoch: life.epoch, Seq: l.last() + 1}); err != nil {
		return false, err
	}
	return !slices.ContainsFunc(entries, func(e store.Entry) bool { return l.rings[e.Group] == nil }), nil
}

// Eviction says that a group's messages up to Through are evicted.
type Eviction struct {
	Group   string
	Through store.Seq
	Time    time.Time // when the message Through was sent
	Next    time.Time // when the oldest message that is left was sent; zero: not known

	// How many messages are evicted that no eviction before has told. Those with an expiry are not counted.
	Messages, Bytes int64
	Unknown         bool `json:",omitempty"` // nobody knows how many; see Excess.Unsure
}

// Evict evicts messages, spilled ones too, as all logs in front of the same log behind do at the same
// position. It releases the lock in between. An eviction that is known before its messages are placed may be
// told then: Place ignores them.
func (l *Log) Evict(e Eviction) error {
	for first := true; ; first = false {
		more, err := l.evictOnce(&e, first)
		if err != nil || !more {
			return err
		}
	}
}

// evictOnce evicts for one hold of the lock, and reports whether there is more.
func (l *Log) evictOnce(e *Eviction, first bool) (more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, store.ErrClosed
	}
	now := time.Now().UnixMilli()
	r := l.rings[e.Group]
	if r == nil {
		r = l.addRing(e.Group, now)
	}
	s := r.spill
	if first && s != nil {
		s.marked = max(s.marked, e.Through)
		l.evictBehind(r, e)
	}
	left := maxHoldSteps
	for c := r.oldest(); c != nil && c.seq(c.evicted) <= e.Through && left > 0; c = r.oldest() {
		l.evictFirst(r, c, now)
		left--
	}
	l.updateQueues(r, now)
	l.schedule(now)
	l.noteHold(maxHoldSteps - left)
	if left <= 0 {
		return true, nil
	}
	if s != nil {
		s.tell(e)
	}
	return false, nil
}

// evictBehind evicts spilled messages.
func (l *Log) evictBehind(r *ring, e *Eviction) {
	s := r.spill
	if e.Through <= s.floor {
		return
	}
	switch {
	case s.horizon == 0:
	case e.Through >= s.horizon:
		l.evictSpilled(r, e.Time.UnixMilli())
	default:
		n := counts{
			min(max(e.Messages-s.ahead.messages, 0), s.messages),
			min(max(e.Bytes-s.ahead.bytes, 0), s.bytes),
		}
		s.ahead.messages += n.messages
		s.ahead.bytes += n.bytes
		l.uncountSpilled(s, n)
		s.unsure = s.unsure || e.Unknown
		s.oldest, s.time = e.Through+1, max(s.time, e.Time.UnixMilli())
		if !e.Next.IsZero() {
			s.time = e.Next.UnixMilli()
		}
	}
	s.floor = e.Through
	l.lose(r, evicted, e.Through, e.Time.UnixMilli())
}

// tell subtracts the messages of an eviction from those that none has told.
func (s *spilled) tell(e *Eviction) {
	s.ahead.messages = max(s.ahead.messages-e.Messages, 0)
	s.ahead.bytes = max(s.ahead.bytes-e.Bytes, 0)
	if s.floor == e.Through {
		s.ahead = counts{}
	}
}

// Advance moves the end of the log to a seq, up to which the log behind has no more messages. Watchers are woken.
func (l *Log) Advance(through store.Seq) {
	l.mu.Lock()
	defer l.wakes.Wake()
	defer l.mu.Unlock()
	now := l.life.Load()
	if l.closed || uint64(through) <= now.newest.Load() {
		return
	}
	now.newest.Store(uint64(through))
	if l.messages == 0 && l.spilledTo.Load() == 0 {
		now.oldest.Store(uint64(through))
	}
}

// Lose records that messages up to a seq may be missing in every group. None is evicted.
func (l *Log) Lose(through store.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.missing = store.Loss{Seq: max(through, l.missing.Seq), At: l.opts.Losses.Tick()}
	for kind := range l.lostMax {
		l.lostMax[kind] = max(l.lostMax[kind], through)
	}
}

// LoseGroup records that messages of a group up to a seq may be missing. None is evicted.
func (l *Log) LoseGroup(name string, through store.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rings[name]
	if r == nil {
		r = l.addRing(name, time.Now().UnixMilli())
	}
	l.lose(r, evicted, through, 0)
	l.lose(r, removed, through, 0)
	l.noteIdle(r)
}

// LoseGone records that messages up to a seq may be missing in groups that the log does not know.
func (l *Log) LoseGone(through store.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgotten.Loss = store.Loss{Seq: max(through, l.forgotten.Seq), At: l.opts.Losses.Tick()}
	for kind := range l.lostMax {
		l.lostMax[kind] = max(l.lostMax[kind], through)
	}
}

// Spill spills the messages of a group up to a seq, and maybe some behind it: the log behind does not have all of them any more. Nobody
// knows how many, see Excess.Unsure.
func (l *Log) Spill(name string, through store.Seq) {
	for more := true; more; {
		more = l.spillOnce(name, through)
	}
}

// spillOnce spills for one hold of the lock, and reports whether there is more.
func (l *Log) spillOnce(name string, through store.Seq) (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rings[name]
	if r == nil || l.closed {
		return false
	}
	now, left := time.Now().UnixMilli(), maxHoldSteps
	for len(r.chunks) > 0 && r.chunks[0].base <= through && left > 0 {
		left -= r.chunks[0].n
		l.spillChunk(r, now)
		r.spill.unsure = r.spilled()
	}
	l.schedule(now)
	l.noteHold(maxHoldSteps - left)
	return len(r.chunks) > 0 && r.chunks[0].base <= through
}

// Excess is a group with messages that its policy does not keep.
type Excess struct {
	Group           string
	Policy          store.Policy // its bounds alone
	Messages, Bytes int64        // held, including spilled ones, except those of them that expire
	Floor, Horizon  store.Seq    // messages after Floor up to Horizon are spilled; Horizon is 0 if none is

	// Spilled and SpilledBytes are those of Messages and Bytes that are spilled. If Unsure, they may be too high: they
	// have to be counted, and Correct to be called.
	Spilled, SpilledBytes int64
	Unsure                bool

	// Told is what has been evicted here since the last Evict of the group, for example because the messages in
	// memory alone exceeded the policy. Its Through is 0 if there is nothing to tell.
	Told Eviction
}

// excessStep is how many groups are examined in one hold of the lock.
const excessStep = 1024

// Excesses yields the groups whose policy is exceeded because of spilled messages, those where messages were evicted of which
// Evict has not told, and those that are unsure. It holds no lock while it yields.
func (l *Log) Excesses() iter.Seq[Excess] {
	return func(yield func(Excess) bool) {
		var page []Excess
		for after, more := "", true; more; more = after != "" {
			page = page[:0]
			now := time.Now().UnixMilli()
			l.mu.RLock()
			after = l.names.Walk(after, "", excessStep, func(_ string, r *ring) {
				if x, ok := r.over(now); ok {
					page = append(page, x)
				}
			})
			l.mu.RUnlock()
			for _, x := range page {
				if !yield(x) {
					return
				}
			}
		}
	}
}

// over describes the ring if Excesses yields it.
func (r *ring) over(now int64) (x Excess, ok bool) {
	s, p := r.spill, &r.policy
	n, bytes := r.messages+s.messages, r.bytes+s.bytes
	exceeds := s.messages > 0 && (p.MaxMessages > 0 && n > p.MaxMessages ||
		p.MaxBytes > 0 && bytes > p.MaxBytes ||
		p.MaxAge > 0 && s.time+p.MaxAge.Milliseconds() <= now)
	if !exceeds && s.floor <= s.marked && !s.unsure {
		return x, false
	}
	x = Excess{
		Group: r.name, Policy: store.Policy{MaxMessages: p.MaxMessages, MaxBytes: p.MaxBytes, MaxAge: p.MaxAge}, Messages: n, Bytes: bytes, Floor: s.floor, Horizon: s.reach(now),
		Spilled: s.messages, SpilledBytes: s.bytes, Unsure: s.unsure,
	}
	if s.floor > s.marked {
		x.Told = Eviction{
			Group: r.name, Through: s.floor, Time: time.UnixMilli(r.evictedTime),
			Messages: s.ahead.messages, Bytes: s.ahead.bytes,
		}
	}
	return x, true
}

// Spilled describes the messages of a group that are spilled.
type Spilled struct {
	Messages, Bytes int64     // without those that expire
	Floor, Horizon  store.Seq // they are after Floor, up to Horizon; Horizon is 0 if there are none
}

// Spilled returns which messages of a group are spilled. sure is false if there may be more or fewer.
func (l *Log) Spilled(name string) (s Spilled, sure bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	r := l.rings[name]
	if r == nil || r.spill.unsure || l.unnamed.horizon > r.spill.floor {
		return s, false
	}
	return Spilled{r.spill.messages, r.spill.bytes, r.spill.floor, r.spill.horizon}, true
}

// Correct subtracts messages and bytes that Excesses counted as spilled in a group and that are not there. If the group
// has lost others meanwhile, it does nothing, and Excesses yields the group as before.
func (l *Log) Correct(x *Excess, messages, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rings[x.Group]
	if r == nil || r.spill.floor != x.Floor || !r.spill.unsure {
		return
	}
	s := r.spill
	l.uncountSpilled(s, counts{min(max(messages, 0), s.messages), min(max(bytes, 0), s.bytes)})
	s.unsure = false
}
