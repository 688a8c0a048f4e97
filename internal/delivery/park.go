package delivery

import (
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// How streams move between a shard and the goroutines that follow.

// handOff hands a stream from the shard to a goroutine of its own, which writes rest, the unsent part of a
// message, and then follows from pos.
func (sh *shard) handOff(s *Stream, pos store.Seq, rest unsent) {
	s.pos = max(s.pos, pos)
	sh.unpark(s)
	if rest.bytes == nil {
		go s.follow()
		return
	}
	if !s.conn.Blocking() {
		sh.set.stats.shortWrites.Add(1)
		if err := s.slow(); err != nil {
			rest.release()
			go s.finish(Slow)
			return
		}
	}
	go func() {
		if err := s.wait(rest); err != nil {
			s.finish(reason(err))
			return
		}
		s.follow()
	}()
}

// handOffUnsent hands off a stream whose socket took only n bytes of a parcel.
func (sh *shard) handOffUnsent(s *Stream, p *parcel, n int) {
	rest, reached, err := s.cut(p, n, 0)
	if err != nil {
		sh.unpark(s)
		go s.finish(reason(err))
		return
	}
	sh.handOff(s, reached, rest)
}

// later makes a stream whose messages are coalesced follow when they may be sent.
func (sh *shard) later(s *Stream) {
	sh.unpark(s)
	s.waiting = true
	sh.setDue(s, s.sent.add(s.coalesce))
}

// retryAfter is how long a stream waits before it reads again from a log that cannot be reached.
const retryAfter = time.Second

// retry makes a stream that follows wait in the shard. It still sends a sign of life, a comment, when one is due.
func (s *Stream) retry() {
	if s.view.codec == nil && now() >= s.sent.add(s.heartbeat) {
		_, _ = s.conn.Write([]byte(":\n\n")) // an error: the client has left, which Gone tells
		s.sent = now()
	}
	s.shard.post(func() {
		if s.gone.Load() != nil || s.ending.Load() != nil {
			go s.follow()
			return
		}
		s.waiting = true
		s.shard.setDue(s, now().add(retryAfter))
	})
}

// park takes over a stream that has followed to the end of the log. The shard writes what has been
// appended since, if it is little. Its position does not move meanwhile, so the stream cannot miss a
// message.
func (sh *shard) park(s *Stream) { sh.post(func() { sh.adopt(s) }) }

func (sh *shard) adopt(s *Stream) {
	if _, newest := sh.set.log.Bounds(); sh.parked > 0 && newest.Epoch != sh.epoch {
		sh.recallAll()
	}
	if sh.parked == 0 {
		sh.begin()
	}
	if s.gone.Load() != nil || s.ending.Load() != nil || s.changes.Load() != nil || s.Epoch() != sh.epoch {
		go s.follow() // it ends, changes its filters, or has a position of another epoch
		return
	}
	if s.pos < store.Seq(sh.pos.Load()) && !sh.catchUp(s) {
		return
	}
	s.parked.Store(true)
	sh.swap(s, sh.parked)
	sh.parked++
	sh.index.add(s)
	if s.view.codec == nil {
		sh.setDue(s, s.sent.add(s.heartbeat))
	}
}

// begin makes the shard read the log from its current end.
func (sh *shard) begin() {
	if !sh.follows.Swap(true) && !sh.set.notified {
		sh.unwatch = sh.set.log.Watch(sh.wake)
	}
	_, newest := sh.set.log.Bounds()
	sh.epoch = newest.Epoch
	sh.pos.Store(uint64(newest.Seq))
}

// catchUp brings a stream to the shard's position, if one read and one write suffice.
func (sh *shard) catchUp(s *Stream) bool {
	through := store.Seq(sh.pos.Load())
	q := store.Query{Select: s.selects(&sh.sel), After: s.pos, Through: through, Reported: s.lossReported, Live: true, NoWait: true}
	sh.single.reset()
	if err := sh.set.log.Read(q, &sh.batch); err != nil || sh.batch.Epoch != sh.epoch || len(sh.batch.Gaps) > 0 || sh.batch.Next < through {
		go s.follow()
		return false
	}
	p := &sh.single
	s.ask(p)
	for i := range sh.batch.Frames {
		p.add(&sh.batch.Frames[i], s.view)
	}
	if len(p.out) > 0 && !sh.catchUpWith(s, p) {
		return false
	}
	if p.full {
		s.arrive(Logged, p.next)
		sh.await(s)
		return false
	}
	s.pos = through
	return true
}

// catchUpWith writes a parcel to a stream that is not parked yet.
func (sh *shard) catchUpWith(s *Stream, p *parcel) bool {
	if s.mustCoalesce(now()) {
		s.toldPart(p, 0)
		sh.later(s)
		return false
	}
	if s.conn.Blocking() {
		s.toldPart(p, 0)
		go s.follow()
		return false
	}
	n, err := s.conn.TryWrite(p.out)
	switch {
	case err != nil:
		s.toldPart(p, n)
		go s.finish(reason(err))
		return false
	case n < len(p.out):
		sh.handOffUnsent(s, p, n)
		return false
	}
	s.told(p, p.reached(sh.batch.Next))
	s.wrote(n, len(p.marks))
	s.sent = now()
	return true
}

// unpark removes a stream from the parked ones and sets its position.
func (sh *shard) unpark(s *Stream) {
	if !s.parked.Load() {
		return
	}
	s.pos = max(s.pos, store.Seq(sh.pos.Load())) // the shard's position was its own
	s.mark.Store(uint64(s.pos))
	s.parked.Store(false)
	sh.parked--
	sh.swap(s, sh.parked)
	sh.index.remove(s)
	sh.clearDue(s)
}

// swap moves a stream to an index in the list of all streams.
func (sh *shard) swap(s *Stream, to int) {
	other := sh.all[to]
	sh.all[s.allIndex], other.allIndex = other, s.allIndex
	sh.all[to], s.allIndex = s, int32(to)
}

// following appends the filters of the streams that are not parked: they catch up, or wait for their sockets.
func (sh *shard) following(to []group.Set) []group.Set {
	for _, s := range sh.all[sh.parked:] {
		if s.gone.Load() == nil && s.ending.Load() == nil {
			to = append(to, *s.wants.Load())
		}
	}
	return to
}

// gone ends a parked stream whose client has left. A stream that follows notices by itself.
func (sh *shard) gone(s *Stream) {
	if sh.withdraw(s) {
		go s.finish(Closed)
	}
}

// withdraw takes a stream that is parked, or waits, out of the shard. It returns false for any other stream.
func (sh *shard) withdraw(s *Stream) bool {
	if !s.parked.Load() && !s.waiting {
		return false
	}
	sh.unpark(s)
	s.waiting = false
	sh.clearDue(s)
	return true
}

// recall makes a parked stream follow, because its filters change.
func (sh *shard) recall(s *Stream) {
	if s.parked.Load() {
		sh.handOff(s, s.pos, unsent{})
	}
}

// end ends a stream for the server: at once if it is parked, otherwise within endAfter.
func (sh *shard) end(s *Stream) {
	if s.allIndex < 0 {
		return // it has not started, or has ended
	}
	if sh.withdraw(s) {
		go s.follow()
	}
	sh.setDue(s, now().add(endAfter))
}

// endAfter is how long a stream that follows may take to end before its connection is closed.
const endAfter = time.Second

// forget removes a stream that has ended.
func (sh *shard) forget(s *Stream) {
	sh.clearDue(s)
	if s.allIndex < 0 {
		return
	}
	last := len(sh.all) - 1
	sh.all[s.allIndex] = sh.all[last]
	sh.all[s.allIndex].allIndex = s.allIndex
	sh.all[last] = nil
	sh.all = sh.all[:last]
	s.allIndex = -1
}
