package delivery

import (
	"errors"
	"slices"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// follow is the definition of a subscription: read the messages after the position, write them, repeat
// until there are no more, and park. It runs on a goroutine that may wait for the socket.
func (s *Stream) follow() {
	for {
		more, err := s.advance()
		away := errors.Is(err, store.ErrAway)
		switch {
		case err != nil && !away || s.gone.Load() != nil:
			s.finish(reason(err))
			return
		case s.ending.Load() != nil:
			_, _ = s.conn.Write(s.bye()) // the shard closes the connection if this takes longer than endAfter
			s.finish(Closed)
			return
		case s.full:
			s.shard.post(func() { s.shard.await(s) })
			return
		case away:
			s.retry()
			return
		case !more:
			s.live = true
			s.shard.park(s)
			return
		}
	}
}

// advance takes one step. While it waits for the socket it holds no turn, and no more than the rest of one
// message. If the stream is over by the time it gets a turn, it gives the turn back at once.
//
// A step that has to wait for another machine takes one of the far turns, so that it delays no stream that need not
// wait, and no publisher.
func (s *Stream) advance() (more bool, err error) {
	if s.over() {
		return false, nil
	}
	turns := s.shard.set.turns
	if s.far {
		turns = s.shard.set.far()
	}
	t := turns.take()
	if s.over() {
		turns.give(t)
		return false, nil
	}
	rest, more, err := s.step(t)
	turns.give(t)
	if s.far = errors.Is(err, store.ErrWouldWait); s.far {
		s.lag()
		return true, nil
	}
	if err == nil && len(rest.bytes) > 0 {
		err = s.wait(rest)
	}
	return more, err
}

// lag makes a live stream catch up again, because its next messages have to be read from another machine. Such a read returns
// none that a policy has evicted, so losses that were no gap for the live stream are reported now. Later reads do not return these
// messages either, until the stream has passed them.
func (s *Stream) lag() {
	if s.live {
		s.live, s.lossReported = false, 0
	}
}

// over reports whether the stream needs no more messages: its client has left, or the server ends it
// while it catches up. A stream that has caught up still gets the messages published before its end.
func (s *Stream) over() bool {
	return s.gone.Load() != nil || s.ending.Load() != nil && !s.live
}

// step reads once and writes as much as it can without waiting. It returns the unsent rest of the message
// that the write ended in, and whether the log may hold more.
func (s *Stream) step(t *turn) (rest unsent, more bool, err error) {
	s.full = false
	switch more, err = s.read(t); {
	case err == errRenewed:
		s.renew(t.batch.Epoch)
		return unsent{}, true, nil
	case err != nil:
		return unsent{}, false, err
	}
	p := &t.parcel
	t.next = p.reached(t.next)
	if len(p.out) == 0 {
		s.full = p.full
		s.told(p, t.next)
		s.arrive(p.pass, t.next)
		return unsent{}, more, nil
	}
	n, err := s.conn.TryWrite(p.out)
	if err != nil {
		s.toldPart(p, n)
		return unsent{}, false, err
	}
	s.sent = now()
	if n == len(p.out) {
		s.full = p.full
		s.told(p, t.next)
		s.wrote(n, len(p.marks))
		if s.live {
			s.shard.set.latency.measure(p, &t.writes)
		}
		s.arrive(p.pass, t.next)
		return unsent{}, more, nil
	}
	least := 0
	if s.conn.Blocking() && !s.shard.set.unsent.halfFull() {
		least = blockingWrite
	}
	rest, reached, err := s.cut(p, n, least)
	if err != nil {
		return unsent{}, false, err
	}
	if len(rest.bytes) == len(p.out)-n {
		reached = t.next
	}
	s.arrive(p.pass, reached)
	return rest, true, nil
}

// cut keeps the rest of the message in which a write of n bytes of the parcel ended. It returns that rest
// and the position after the message.
func (s *Stream) cut(p *parcel, n, least int) (rest unsent, reached store.Seq, err error) {
	i := p.cut(n, least)
	if rest, err = s.shard.set.unsent.keep(p, n, i); err != nil {
		s.toldPart(p, n)
		s.wrote(n, i)
		return unsent{}, 0, err
	}
	s.wrote(n+len(rest.bytes), i+1)
	rest.last = p.marks[i]
	s.told(p, rest.last.seq)
	return rest, rest.last.seq, nil
}

// blockingWrite is how many bytes of small messages a goroutine writes at once if its writes may block.
const blockingWrite = 16 << 10

// arrive moves the position of a pass forward.
func (s *Stream) arrive(in Pass, seq store.Seq) {
	switch in {
	case Retained:
		s.opening.retained.at = seq
	case Earlier:
		s.opening.earlier.at = seq
	default:
		s.pos = max(s.pos, seq)
		s.mark.Store(uint64(s.pos))
	}
}

// readFirst fills the turn's parcel with messages that have to be sent before those after the position. It returns
// false if there are none.
func (s *Stream) readFirst(t *turn) (any bool, err error) {
	switch o := s.opening; {
	case o == nil:
		return false, nil
	case o.retained.left():
		return true, s.readRetained(t)
	case o.earlier.left():
		return true, s.readEarlier(t)
	}
	return false, nil
}

// read fills the turn's parcel with the next messages, and sets the turn's next to the position after them.
func (s *Stream) read(t *turn) (more bool, err error) {
	t.parcel.reset()
	if first, err := s.readFirst(t); first {
		return true, err
	}
	s.apply()
	if first, err := s.readFirst(t); first {
		return true, err
	}
	_, newest := s.shard.set.log.Bounds()
	if s.skip && s.begun() {
		return s.jump(t, newest.Seq)
	}
	some, changes, err := s.readToChange(t)
	if err != nil {
		return false, err
	}
	s.renderGaps(t, some)
	s.ask(&t.parcel)
	s.render(t)
	t.next = t.batch.Next
	// A gap may be about messages after the batch. Until the stream has passed them it is not live: as a live stream it would get them.
	return changes || len(t.batch.Gaps) > 0 || t.batch.Next < newest.Seq, nil
}

// readToChange reads the next messages, up to the position of the next change of filters, unless the stream is there.
func (s *Stream) readToChange(t *turn) (some, changes bool, err error) {
	for {
		next, changes := s.pending()
		if changes && next.from <= s.pos { // the change is made when the opening is over
			_, newest := s.shard.set.log.Bounds()
			t.batch.Reset(newest.Epoch)
			t.batch.Next = s.pos
			return false, true, nil
		}
		if err := s.readLog(t, next.from); err != nil {
			return false, false, err
		}
		if _, now := s.pending(); now == changes { // otherwise a change was added meanwhile: read again, up to it
			return true, changes, nil
		}
	}
}

// readLog reads the next messages, up to a position; 0: to the end. The gaps are those that have not been reported.
func (s *Stream) readLog(t *turn, through store.Seq) error {
	q := store.Query{Select: s.selects(&t.sel), After: s.pos, Through: through, Reported: s.lossReported, Live: s.live, NoWait: !s.far}
	if s.opening == nil || len(s.opening.joined) == 0 || s.lossReported == 0 {
		return s.readAs(q, &t.batch)
	}
	q.Reported = 0
	if err := s.readAs(q, &t.batch); err != nil || len(t.batch.Gaps) == 0 {
		return err
	}
	gaps := slices.Clone(t.batch.Gaps)
	q.Reported = s.lossReported
	if err := s.readAs(q, &t.batch); err != nil {
		return err
	}
	for _, g := range gaps {
		if s.opening.begins(g.Filter) && !t.lacks(g.Filter) {
			t.batch.Gaps = append(t.batch.Gaps, g)
		}
	}
	return nil
}

func (s *Stream) readRetained(t *turn) error {
	part := &s.opening.retained
	q := store.Query{Select: part.set, After: part.at, Through: part.to, Retained: true}
	if err := s.readAs(q, &t.batch); err != nil {
		return err
	}
	s.askOwn(&t.parcel, Retained)
	for i := range t.batch.Frames {
		t.parcel.addRetained(&t.batch.Frames[i], s.view)
	}
	t.next = t.batch.Next
	return nil
}

// readEarlier reads messages before the position, for a filter that begins there. It reports a gap only for messages that were
// evicted after its first read. If messages after the position were, too, the read of the log reports both.
func (s *Stream) readEarlier(t *turn) error {
	o := s.opening
	part := &o.earlier
	q := store.Query{Select: part.set, After: part.at, Through: part.to, Reported: o.reported, NoWait: !s.far}
	if err := s.readAs(q, &t.batch); err != nil {
		return err
	}
	s.askOwn(&t.parcel, Earlier)
	switch gaps := t.batch.Gaps; {
	case !o.asked || len(gaps) == 0:
	case gaps[0].Evicted > part.to: // gaps has one filter
		o.lost = append(o.lost, loss{gaps[0].Filter, part.at})
	default:
		s.renderEach(t, part.set.Strings(), s.id(t, part.at), GapEvicted)
	}
	o.asked, o.reported = true, t.batch.Reported
	s.render(t)
	t.next = t.batch.Next
	return nil
}

// render adds the batch to the parcel.
func (s *Stream) render(t *turn) {
	n := len(t.batch.Frames)
	if n > 0 && s.view == (View{}) && len(t.parcel.buf) == 0 {
		t.parcel.piece(&t.batch, 0, n-1)
		return
	}
	for i := range t.batch.Frames {
		t.parcel.add(&t.batch.Frames[i], s.view)
	}
}

// renderGaps starts the parcel with a gap event for each filter that has lost messages. some says that the log was read.
func (s *Stream) renderGaps(t *turn, some bool) {
	var begins opening
	if s.opening != nil {
		begins, s.opening = *s.opening, nil
	}
	if some {
		s.lossReported = t.batch.Reported
		for _, l := range begins.lost { // a live stream may get the later ones
			if !t.lacks(l.filter) {
				t.batch.Gaps = append(t.batch.Gaps, store.Gap{Filter: l.filter})
			}
		}
	} else if len(begins.joined)+len(begins.lost) > 0 {
		s.opening = &opening{joined: begins.joined, lost: begins.lost, over: true}
	}
	switch {
	case begins.unknown != "":
		s.renderEach(t, s.filters.Strings(), begins.unknown, GapEpoch)
	case !begins.held && len(t.batch.Gaps) > 0:
		after := map[store.Seq][]string{} // one position, unless filters begin
		for _, g := range t.batch.Gaps {
			pos := begins.lostAfter(g.Filter, s.pos)
			after[pos] = append(after[pos], g.Filter)
		}
		for pos, filters := range after {
			s.renderEach(t, filters, s.id(t, pos), GapEvicted)
		}
	}
}

// behindGap returns the position in a gap's id: the one before the first message that is held.
func behindGap(t *turn) store.Seq {
	if len(t.batch.Frames) > 0 {
		return t.batch.Frames[0].Seq - 1
	}
	return t.batch.Next
}

// renderEach starts the parcel with a gap for each of the filters. Only the last gap has an id, so that a
// client that is disconnected before it gets all of them again.
func (s *Stream) renderEach(t *turn, filters []string, after, reason string) {
	g := Gap{After: after, Reason: reason}
	if len(t.batch.Frames) > 0 {
		g.Oldest = string(t.batch.Frames[0].ID())
	}
	s.shard.set.stats.gaps.Add(uint64(len(filters)))
	for i, f := range filters {
		g.Filter = f
		id := ""
		if i == len(filters)-1 {
			id = s.id(t, behindGap(t))
		}
		if s.view.codec != nil {
			t.parcel.buf = s.view.codec.AppendGap(t.parcel.buf, &g)
			continue
		}
		t.parcel.buf = sse.AppendEvent(t.parcel.buf, "gap", id, g.AppendJSON(nil))
	}
	if len(t.parcel.buf) > 0 {
		t.parcel.end(behindGap(t), unshared)
	}
}

func (s *Stream) id(t *turn, seq store.Seq) string {
	return store.ID{Epoch: t.batch.Epoch, Seq: seq}.String()
}

// jump moves the position to the newest message, for a slow stream whose policy is slow: skip. It reports a
// gap for each filter that may have lost messages.
func (s *Stream) jump(t *turn, newest store.Seq) (more bool, err error) {
	change, changes := s.pending()
	if changes {
		newest = change.from
	}
	if err := s.readLog(t, newest); err != nil {
		return false, err
	}
	s.skip = false
	s.ask(&t.parcel)
	much := t.batch.Next < newest // one read did not reach the newest: assume that every filter lost some
	lost := slices.DeleteFunc(s.selects(&t.sel), func(f group.Filter) bool { return !much && !t.has(f) })
	t.next = newest
	t.batch.Frames, t.batch.Next = t.batch.Frames[:0], t.next
	s.renderEach(t, lost.Strings(), s.id(t, s.pos), GapSlow)
	return changes, nil
}

// wait writes the rest of a message. It waits for the socket without a limit.
func (s *Stream) wait(rest unsent) error {
	begin := now()
	s.shard.set.stats.full.Add(1)
	_, err := s.conn.Write(rest.bytes)
	s.shard.set.stats.full.Add(-1)
	if err == nil && s.live {
		s.shard.set.latency.measureMark(&rest.last)
	}
	rest.release()
	s.sent = now()
	if err == nil && s.live && s.conn.Blocking() && s.sent > begin.add(slowWrite) {
		return s.slow()
	}
	return err
}

// slowWrite is the time after which a blocking write counts as slow. A write that does not block counts as
// slow if the socket does not accept all of it.
const slowWrite = time.Second

// slow applies the policy for slow streams. It returns errSlow if the policy ends them.
func (s *Stream) slow() error {
	if len(s.filters) == 0 {
		return nil // it has left all groups, and gets only the messages to its session
	}
	switch s.shard.set.log.Policy(s.filters[0]).Slow {
	case store.SlowSkip:
		s.skip = true
	case store.SlowDisconnect:
		return errSlow
	}
	return nil
}
