package tiered

import "github.com/watchbox-go/watchbox/store"

// scratch is the scratch of a batch.
type scratch struct {
	disk   any // the scratch of the log on disk
	mem    store.Batch
	buf    []byte // the bytes read from disk, during a merge
	frames []store.Frame
}

// Read implements store.Log.
func (l *Log) Read(q store.Query, b *store.Batch) error {
	s, ok := b.Scratch.(*scratch)
	if !ok {
		s = &scratch{}
		b.Scratch = s
	}
	reported := l.losses.Now() // before reading either log: later losses are reported by the next read
	_, newest := l.Log.Bounds()
	if q.Through == 0 || q.Through > newest.Seq {
		q.Through = newest.Seq
	}
	_, placed := l.mem.Bounds() // read second, so that all messages up to q.Through are placed
	room := cap(b.Buf)
	b.Scratch = s.disk
	err := l.Log.Read(q, b)
	s.disk, b.Scratch = b.Scratch, s
	if err != nil || min(placed.Seq, q.Through) <= q.After {
		b.Reported = reported
		return err
	}
	if b.Next > q.After {
		q.Through = min(q.Through, b.Next) // the log on disk was not examined further
	}
	if cap(s.mem.Buf) < room {
		s.mem.Buf = make([]byte, 0, room)
	}
	if err := l.mem.Read(q, &s.mem); err != nil {
		b.Reset(b.Epoch)
		return err
	}
	mergeGaps(b, &s.mem)
	b.Reported = reported
	if s.mem.Next >= min(placed.Seq, q.Through) {
		s.mem.Next = q.Through // memory has no more messages up to there
	}
	if len(s.mem.Frames) > 0 || s.mem.Next < b.Next {
		s.merge(b, room)
	}
	return nil
}

// mergeGaps adds the gaps of m to b.
func mergeGaps(b, m *store.Batch) {
	for _, g := range m.Gaps {
		known := false
		for i := range b.Gaps {
			if b.Gaps[i].Filter == g.Filter {
				b.Gaps[i].Evicted = max(b.Gaps[i].Evicted, g.Evicted)
				known = true
			}
		}
		if !known {
			b.Gaps = append(b.Gaps, g)
		}
	}
}

// merge puts the messages of both logs into b, as many as fit.
func (s *scratch) merge(b *store.Batch, room int) {
	end := min(b.Next, s.mem.Next) // one of the logs was not read beyond this
	s.buf = append(s.buf[:0], b.Buf...)
	s.frames = append(s.frames[:0], b.Frames...)
	b.Buf, b.Frames = b.Buf[:0], b.Frames[:0]
	disk, mem := s.frames, s.mem.Frames
	for i := range disk {
		f := &disk[i]
		f.Bytes = s.buf[f.At : f.At+len(f.Bytes)]
	}
	for len(disk)+len(mem) > 0 {
		from := &disk
		if len(disk) == 0 || len(mem) > 0 && mem[0].Seq < disk[0].Seq {
			from = &mem
		}
		f := (*from)[0]
		if f.Seq > end {
			break
		}
		if len(b.Buf) > 0 && len(b.Buf)+len(f.Bytes) > room {
			end = f.Seq - 1
			break
		}
		b.Room(len(f.Bytes))
		*from = (*from)[1:]
		f.At = len(b.Buf)
		b.Buf = append(b.Buf, f.Bytes...)
		f.Bytes = b.Buf[f.At:len(b.Buf):len(b.Buf)]
		b.Frames = append(b.Frames, f)
	}
	b.Next = end
}
