package jetstream

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// How far Find reads the stream at once, and how often it does so to find a time.
const (
	findStep  = windowMessages
	findSteps = 64
)

// skew is how far clocks of hubs and servers may differ.
const skew = time.Minute

// Find implements store.Log.
func (l *Log) Find(filters group.Set, s store.Start) (store.Seq, error) {
	pos, err := l.mem.Find(filters, s)
	horizon := l.mem.Horizon(filters, 0)
	if err != nil || pos >= horizon {
		return pos, err
	}
	ctx, cancel := context.WithTimeout(l.blocked, l.opts.Times.Patience)
	defer cancel()
	switch {
	case s.Last > 0:
		return l.findLast(ctx, filters, s.Last, horizon)
	case !s.Since.IsZero():
		return l.findSince(ctx, filters, s.Since, pos, horizon)
	}
	return pos, nil
}

// findLast returns the position before the newest n messages that match, some of which may not be in memory. It
// reads the stream backward, in larger and larger steps while it finds few of them.
func (l *Log) findLast(ctx context.Context, filters group.Set, n int, horizon store.Seq) (store.Seq, error) {
	pos := horizon
	for seq := range l.mem.Backward(filters, n) {
		if seq <= horizon {
			break
		}
		pos = seq - 1
		n--
	}
	oldest, _ := l.mem.Bounds()
	now := time.Now()
	width := store.Seq(findStep)
	for end := horizon; n > 0 && end > oldest.Seq; {
		from := max(end, oldest.Seq+width) - width
		list, err := l.collect(ctx, filters, from, end)
		if err != nil {
			return 0, err
		}
		for _, m := range slices.Backward(list) {
			if m.damaged || m.seq <= l.mem.Floor(m.group) || m.expired(now) {
				continue
			}
			pos = m.seq - 1
			if n--; n == 0 {
				break
			}
		}
		if end = from; len(list) < findStep {
			width *= 2
		}
	}
	return pos, nil
}

// collect returns the messages after a position up to end that match, in order. The servers select them, so that a long stream
// with few of them is not read.
func (l *Log) collect(ctx context.Context, filters group.Set, after, end store.Seq) (list []stored, err error) {
	for _, subject := range l.subjects.matching(filters) {
		w := window{after: after, through: after}
		for w.through < end {
			if err := l.untilAnswered(ctx, func() error { return w.extend(ctx, l, subject, end) }); err != nil {
				return nil, err
			}
		}
		for _, m := range w.list {
			if m.seq <= end && filters.Match(m.group) {
				list = append(list, m)
			}
		}
	}
	slices.SortFunc(list, func(a, b stored) int { return cmp.Compare(a.seq, b.seq) })
	return slices.CompactFunc(list, func(a, b stored) bool { return a.seq == b.seq }), nil
}

// extend makes the window reach further, up to end if no message with the subject is left.
func (w *window) extend(ctx context.Context, l *Log, subject string, end store.Seq) error {
	before := w.through
	err := w.fetch(ctx, l, request{Seq: before + 1, Next: subject, Batch: windowMessages, MaxBytes: windowBytes})
	if err != nil || w.through > before {
		return err
	}
	return w.end(ctx, l, subject, end) // the server that has found nothing may lag
}

// untilAnswered asks again until a server answers.
func (l *Log) untilAnswered(ctx context.Context, ask func() error) error {
	for ask() != nil {
		switch {
		case l.closed.Load():
			return store.ErrClosed
		case ctx.Err() != nil:
			return store.ErrAway
		}
		pause(ctx, repeatRefused)
	}
	return nil
}

// findSince returns the position before the first message of a time or later, which may not be in memory; pos is a
// position before it.
func (l *Log) findSince(ctx context.Context, filters group.Set, since time.Time, pos, horizon store.Seq) (store.Seq, error) {
	first := window{}
	from := since.Add(-skew)
	if err := l.untilAnswered(ctx, func() error { return first.fetch(ctx, l, request{Since: &from, Batch: 1}) }); err != nil {
		return 0, err
	}
	if len(first.list) > 0 {
		pos = max(pos, first.list[0].seq-1)
	}
	w := window{}
	for step := 0; pos < horizon && step < findSteps; step++ {
		if err := w.load(l, pos, horizon); err != nil {
			return 0, err
		}
		for i := range w.list {
			if m := &w.list[i]; m.seq > pos && !m.damaged && !m.entry.Time.Before(since) {
				return m.seq - 1, nil
			}
		}
		pos = w.through
	}
	return pos, nil
}
