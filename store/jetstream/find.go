package jetstream

import (
	"context"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// How far Find reads the stream.
const (
	findStep  = windowMessages
	findSteps = 64
)

// skew is how far clocks of hubs and servers may differ.
const skew = time.Minute

// Find implements store.Log. Where it has to read the stream, it reads a bounded number of messages.
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
// reads the stream backward.
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
	for end, step := horizon, 0; n > 0 && end > oldest.Seq && step < findSteps; step++ {
		from := max(end, findStep) - findStep
		w := window{}
		if err := w.cover(ctx, l, from, end); err != nil {
			return 0, err
		}
		for _, m := range slices.Backward(w.list) {
			if m.damaged || m.seq > end || !filters.Match(m.group) || m.seq <= l.mem.Floor(m.group) || m.expired(now) {
				continue
			}
			pos = m.seq - 1
			if n--; n == 0 {
				return pos, nil
			}
		}
		end = from
	}
	return pos, nil
}

// cover reads all messages after a position up to end.
func (w *window) cover(ctx context.Context, l *Log, after, end store.Seq) error {
	w.after, w.through = after, after
	for w.through < end {
		part := window{}
		if err := part.load(l, w.through, end); err != nil {
			return err
		}
		w.list, w.through = append(w.list, part.list...), part.through
		if ctx.Err() != nil {
			return store.ErrAway
		}
	}
	return nil
}

// findSince returns the position before the first message of a time or later, which may not be in memory; pos is a
// position before it.
func (l *Log) findSince(ctx context.Context, filters group.Set, since time.Time, pos, horizon store.Seq) (store.Seq, error) {
	first := window{}
	from := since.Add(-skew)
	for first.fetch(ctx, l, request{Since: &from, Batch: 1}) != nil {
		switch {
		case l.closed.Load():
			return 0, store.ErrClosed
		case ctx.Err() != nil:
			return 0, store.ErrAway
		}
		pause(ctx, repeatRefused)
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
