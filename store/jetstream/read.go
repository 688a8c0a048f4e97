package jetstream

import (
	"errors"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// exactly selects one group.
func exactly(name string) group.Set { return group.Set{group.Exact(name)} }

// scratch is the scratch of a batch that has read the stream.
type scratch struct {
	mem    any // the scratch of the log in memory
	window window
}

// Read implements store.Log. Messages for which memory had no room are read from the stream, with all others
// before them.
func (l *Log) Read(q store.Query, b *store.Batch) error {
	s, ok := b.Scratch.(*scratch)
	if ok {
		b.Scratch = s.mem
	}
	err := l.mem.Read(q, b)
	var spilled *memory.SpilledError
	switch {
	case err == nil || !errors.As(err, &spilled):
	case q.NoWait:
		err = store.ErrWouldWait
	default:
		if s == nil {
			s = &scratch{}
		}
		err = l.replay(q, b, &s.window, spilled.Through)
	}
	if s != nil {
		s.mem, b.Scratch = b.Scratch, s
	}
	return err
}

// replay is Read of messages up to a position from the stream.
func (l *Log) replay(q store.Query, b *store.Batch, w *window, through store.Seq) error {
	epoch := l.epoch()
	end := through
	if q.Through > 0 {
		end = min(end, q.Through)
	}
	if err := w.load(l, q.After, end); err != nil {
		return err
	}
	b.Reset(epoch)
	b.Next = min(w.through, end)
	damaged := w.fill(l, &q, b)
	if err := l.mem.Gaps(q, b); err != nil {
		return err
	}
	if b.Epoch != epoch { // another log has begun meanwhile
		b.Reset(b.Epoch)
		b.Next = q.After
	}
	for _, d := range damaged {
		b.AppendGaps(&q, d.lostFor)
	}
	if missing := min(w.missing, b.Next); missing > 0 {
		b.AppendGaps(&q, func(s store.Selector) store.Seq { return l.purges.lost(s, q.After, missing, l.mem.Floor) })
	}
	return nil
}

// lostFor returns the seq of the message if s selects its group, else 0.
func (m *stored) lostFor(s store.Selector) store.Seq {
	if !s.Match(m.group) {
		return 0
	}
	return m.seq
}

// fill copies the messages that the query selects into the batch, as many as fit. It returns those that are damaged.
func (w *window) fill(l *Log, q *store.Query, b *store.Batch) (damaged []*stored) {
	now := time.Now()
	for i := range w.list {
		m := &w.list[i]
		switch {
		case m.seq > b.Next:
			return damaged
		case m.seq <= q.After || !q.Select.Match(m.group):
			continue
		case m.damaged:
			damaged = append(damaged, m)
			continue
		case m.seq <= l.mem.Floor(m.group) || m.expired(now):
			continue
		}
		if e := &m.entry; !appendFrame(b, e, store.ID{Epoch: b.Epoch, Seq: m.seq}) {
			b.Next = m.seq - 1
			return damaged
		}
	}
	return damaged
}

func (m *stored) expired(now time.Time) bool {
	return !m.entry.Expires.IsZero() && !now.Before(m.entry.Expires)
}

// appendFrame appends the frame of an entry, if there is room for it.
func appendFrame(b *store.Batch, e *store.Entry, id store.ID) bool {
	if !b.Room(e.FrameLen(id)) {
		return false
	}
	at := len(b.Buf)
	var msg int
	b.Buf, msg = e.AppendFrame(b.Buf, id)
	b.Frames = append(b.Frames, store.Frame{
		Seq: id.Seq, Group: e.Group, Flags: e.Flags(), Msg: msg, Bytes: b.Buf[at:len(b.Buf):len(b.Buf)], At: at,
	})
	return true
}
