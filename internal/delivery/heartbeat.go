package delivery

import (
	"container/heap"
	"time"

	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// beat handles the streams that are due, and sets the timer for the next one.
func (sh *shard) beat(now instant) {
	for len(sh.dues) > 0 && sh.dues[0].due <= now {
		s := sh.dues[0]
		switch {
		case s.waiting:
			s.waiting = false
			sh.clearDue(s)
			go s.follow()
		case !s.parked.Load(): // the server ends it, and its goroutine is stuck in a write
			sh.clearDue(s)
			_ = s.conn.Close()
		case now < s.sent.add(s.heartbeat):
			sh.setDue(s, s.sent.add(s.heartbeat))
		default:
			sh.heartbeat(s, now)
		}
	}
	next := time.Hour
	if len(sh.dues) > 0 {
		next = time.Duration(sh.dues[0].due - now)
	}
	sh.beatAt = now.add(next)
	sh.timer.Reset(next)
}

// late reports whether a stream is due before the timer fires: the shard's goroutine has to set it.
func (sh *shard) late() bool { return len(sh.dues) > 0 && sh.dues[0].due < sh.beatAt }

// heartbeat sends a stream its position. It is called when nothing was sent for the heartbeat interval.
func (sh *shard) heartbeat(s *Stream, now instant) {
	pos := max(s.pos, store.Seq(sh.pos.Load())) // it may be ahead of the shard
	sh.single.reset()
	beat := sse.AppendHeartbeat(sh.single.buf, store.ID{Epoch: sh.epoch, Seq: pos}.String())
	sh.single.buf = beat
	n, err := s.conn.TryWrite(beat)
	s.sent = now
	sh.setDue(s, now.add(s.heartbeat))
	switch {
	case err != nil:
		sh.unpark(s)
		go s.finish(reason(err))
	case n < len(beat):
		rest, _ := sh.set.unsent.own(beat[n:]) // no error: there is always room for so few bytes
		sh.handOff(s, pos, rest)
	}
}

// dues is a heap of streams, ordered by when the shard has to look at them.
type dues []*Stream

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].due < d[j].due }
func (d dues) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].dueIndex, d[j].dueIndex = int32(i), int32(j)
}
func (d *dues) Push(x any) { *d = append(*d, x.(*Stream)) }
func (d *dues) Pop() any {
	last := len(*d) - 1
	s := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return s
}

func (sh *shard) setDue(s *Stream, at instant) {
	s.due = at
	if s.dueIndex >= 0 {
		heap.Fix(&sh.dues, int(s.dueIndex))
		return
	}
	s.dueIndex = int32(len(sh.dues))
	heap.Push(&sh.dues, s)
}

func (sh *shard) clearDue(s *Stream) {
	if s.dueIndex >= 0 {
		heap.Remove(&sh.dues, int(s.dueIndex))
		s.dueIndex = -1
	}
}
