package delivery

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// batchBytes is what a shard reads of the log at once.
const batchBytes = 256 << 10

// shard is follow for many streams at once, all of them at its own position: it reads once and
// writes each stream once. Its goroutine runs it, or a publisher that finds it at rest (inline.go).
type shard struct {
	set  *Set
	wake chan struct{} // holds one: look again
	done chan struct{}

	owner   sync.Mutex  // held by the one who runs the shard, who owns what is parked
	again   atomic.Bool // a publisher found it held: look again
	follows atomic.Bool // the log, since some stream is parked

	mu    sync.Mutex // guards what follows
	inbox []func()   // to be done by the shard's goroutine
	shut  bool
	why   Reason // it was shut: not changed from then on

	changed atomic.Bool // filters of a stream; recall is in the inbox

	pos   atomic.Uint64 // all up to here has been delivered to what is parked
	fresh atomic.Int64  // what was appended before this time has been read; idle: nothing is owed

	// The owner's.
	index   index
	parked  int
	all     []*Stream // parked or not
	dues    dues
	timer   *time.Timer
	beatAt  instant // when the timer fires
	unwatch func()
	epoch   string
	batch   store.Batch
	touched []*set
	sets    []*set    // of the group in hand
	shared  [2]parcel // JSON and raw, for the set in hand
	single  parcel
	sel     group.Set // what the stream in hand selects
	matched []int     // frames for a stream of several sets
}

func newShard(s *Set) *shard {
	sh := &shard{
		set: s, wake: make(chan struct{}, 1), done: make(chan struct{}),
		timer: time.NewTimer(time.Hour),
		batch: store.Batch{Buf: make([]byte, 0, batchBytes)},
	}
	sh.fresh.Store(idle)
	go sh.run()
	return sh
}

// post has f done by the shard's goroutine.
func (sh *shard) post(f func()) {
	sh.mu.Lock()
	sh.inbox = append(sh.inbox, f)
	sh.mu.Unlock()
	sh.rouse()
}

// rouse has the shard's goroutine look again.
func (sh *shard) rouse() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// ask has f done by the shard's goroutine and waits for it, unless the shard has ended.
func (sh *shard) ask(f func()) {
	done := make(chan struct{})
	sh.post(func() { f(); close(done) })
	select {
	case <-done:
	case <-sh.done:
	}
}

// join adds a stream, which will follow first, unless the shard is shut.
func (sh *shard) join(s *Stream) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.shut {
		return false
	}
	sh.inbox = append(sh.inbox, func() {
		s.at = int32(len(sh.all))
		sh.all = append(sh.all, s)
		if s.ending.Load() != nil { // since before it ran
			sh.end(s)
		}
	})
	sh.rouse()
	return true
}

// close ends all streams. The shard's goroutine ends with the last.
func (sh *shard) close(why Reason) {
	sh.mu.Lock()
	if !sh.shut {
		sh.shut, sh.why = true, why
	}
	sh.inbox = append(sh.inbox, func() {
		for _, s := range sh.all {
			s.End(why)
		}
	})
	sh.mu.Unlock()
	sh.rouse()
}

// run is the shard's goroutine. It ends when the shard is shut and has no stream.
func (sh *shard) run() {
	defer close(sh.done)
	defer sh.timer.Stop()
	for sh.hold() {
		select {
		case <-sh.wake:
		case <-sh.timer.C:
		}
	}
}

// hold looks as the shard's owner, and once more for each publisher that it has kept from doing so.
func (sh *shard) hold() (open bool) {
	for {
		sh.owner.Lock()
		open = sh.look()
		sh.owner.Unlock()
		if !sh.again.Swap(false) {
			return open
		}
	}
}

// look does all there is to do, and reports whether there may ever be more.
func (sh *shard) look() bool {
	for {
		open := sh.work()
		begun := now()
		more := sh.deliver()
		sh.beat(now())
		if !more {
			sh.rest()
			return open
		}
		sh.pause(time.Duration(now() - begun))
	}
}

// work does what is in the inbox.
func (sh *shard) work() (open bool) {
	for {
		sh.mu.Lock()
		todo := sh.inbox
		sh.inbox = nil
		open = !sh.shut || len(sh.all) > 0 || len(todo) > 0
		sh.mu.Unlock()
		if len(todo) == 0 {
			return open
		}
		for _, f := range todo {
			f()
		}
	}
}

// deliver reads the next batch for what is parked and writes it. It reports whether there was
// one.
func (sh *shard) deliver() bool {
	if sh.parked == 0 {
		return false
	}
	now := now()
	sh.fresh.CompareAndSwap(idle, int64(now))
	_, newest := sh.set.log.Bounds()
	after := store.Seq(sh.pos.Load())
	q := store.Query{Select: &sh.index, After: after, Live: true}
	if err := sh.set.log.Read(q, &sh.batch); err != nil || sh.batch.Next == after {
		return false
	}
	if sh.changed.Swap(false) {
		return true // what was read may be for a stream that has to be recalled first
	}
	if len(sh.batch.Gaps) > 0 {
		sh.lapped(now)
		return true
	}
	if sh.batch.Next >= newest.Seq {
		sh.fresh.Store(int64(now)) // it was read to the end
		sh.set.gate.open()
	}
	sh.dispatch(now)
	sh.pos.Store(uint64(sh.batch.Next))
	return true
}

// lapped sends all to follow, which finds out for each whether the messages that were evicted
// before this shard could read them were its own. Flow control is there for this not to happen.
func (sh *shard) lapped(now instant) {
	for _, s := range sh.all {
		if s.parked.Load() {
			sh.fall(s, s.pos, unsent{})
		}
	}
	sh.pos.Store(uint64(sh.batch.Next))
	sh.fresh.Store(int64(now))
}

// dispatch gives each set the frames that its filter matched, and then each stream its share.
func (sh *shard) dispatch(now instant) {
	sh.recallOwn()
	group := ""
	sh.touched = sh.touched[:0]
	for i := range sh.batch.Frames {
		if g := sh.batch.Frames[i].Group; g != group || i == 0 {
			group, sh.sets = g, sh.sets[:0]
			sh.index.lookup(g, func(in *set) { sh.sets = append(sh.sets, in) })
		}
		for _, in := range sh.sets {
			if len(in.frames) == 0 {
				sh.touched = append(sh.touched, in)
			}
			in.frames = append(in.frames, i)
		}
	}
	for _, in := range sh.touched {
		sh.deliverSet(in, now)
	}
	for _, in := range sh.touched {
		in.frames = in.frames[:0]
	}
}

// recallOwn has the streams follow whose session something of the batch was sent to: that is rare,
// and each of them is alone with it.
func (sh *shard) recallOwn() {
	for i := range sh.batch.Frames {
		for s := sh.index.ownOf(sh.batch.Frames[i].Group); s != nil; {
			next := s.next
			sh.recall(s)
			s = next
		}
	}
}

// deliverSet writes to the streams of a set what all of them get, rendered once a view.
func (sh *shard) deliverSet(in *set, now instant) {
	sh.shared[0].reset()
	sh.shared[1].reset()
	// From the end: a stream that leaves the set is replaced by one that was served.
	for i := len(in.streams) - 1; i >= 0; i-- {
		s := in.streams[i]
		if p := sh.share(s, in); len(p.out) > 0 {
			sh.send(s, p, now)
		}
	}
}

// share returns what of the batch a stream gets: mostly what all of its set get.
func (sh *shard) share(s *Stream, in *set) *parcel {
	if s.view.NotFrom != "" || s.pos >= sh.batch.Frames[in.frames[0]].Seq || !sh.alone(in, s) {
		return sh.own(s)
	}
	p := &sh.shared[0]
	if s.view.Raw {
		p = &sh.shared[1]
	}
	if len(p.marks) == 0 {
		p.take(&sh.batch, in.frames, s.view.Raw)
	}
	return p
}

// alone reports whether of all sets of a stream this one alone was matched.
func (sh *shard) alone(in *set, s *Stream) bool {
	if len(sh.touched) == 1 {
		return true // as nearly always: then there is no need to look at the stream's others
	}
	for _, at := range s.places {
		if at.set != in && len(at.set.frames) > 0 {
			return false
		}
	}
	return true
}

// own renders what one stream gets: what any of its filters matched, above its position. It is
// nothing for a stream that another set has served.
func (sh *shard) own(s *Stream) *parcel {
	p := &sh.single
	p.reset()
	if s.pos >= sh.batch.Next {
		return p
	}
	sh.matched = sh.matched[:0]
	for _, at := range s.places {
		sh.matched = append(sh.matched, at.set.frames...)
	}
	slices.Sort(sh.matched)
	for _, i := range slices.Compact(sh.matched) {
		if f := &sh.batch.Frames[i]; f.Seq > s.pos {
			p.add(f, s.view)
		}
	}
	if len(p.out) == 0 {
		s.pos = sh.batch.Next
	}
	return p
}

// send writes a parcel to a stream. One that does not take it all goes back to following.
func (sh *shard) send(s *Stream, p *parcel, now instant) {
	if s.early(now) {
		sh.later(s)
		return
	}
	n, err := s.conn.TryWrite(p.out)
	switch {
	case err != nil:
		sh.unpark(s)
		go s.finish(reason(err))
	case n == len(p.out):
		s.wrote(n, len(p.marks))
		s.sent = now
		if len(s.places) > 1 {
			s.pos = sh.batch.Next // its other sets skip this batch
		}
	case s.conn.Blocking():
		sh.fall(s, s.pos, unsent{})
	default:
		sh.fallBehind(s, p, n)
	}
}

// fall lets a stream follow from a position, with a rest to be written first.
func (sh *shard) fall(s *Stream, pos store.Seq, rest unsent) {
	s.pos = max(s.pos, pos)
	sh.unpark(s)
	if rest.bytes == nil {
		go s.follow()
		return
	}
	if !s.conn.Blocking() {
		sh.set.stats.fell.Add(1)
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

// fallBehind lets a stream follow whose socket took n bytes of a parcel and no more.
func (sh *shard) fallBehind(s *Stream, p *parcel, n int) {
	rest, reached, err := s.cut(p, n, 0)
	if err != nil {
		sh.unpark(s)
		go s.finish(reason(err))
		return
	}
	sh.fall(s, reached, rest)
}

// later lets a stream whose messages are coalesced follow when its time has come.
func (sh *shard) later(s *Stream) {
	sh.unpark(s)
	s.rests = true
	sh.setDue(s, s.sent.add(s.coalesce))
}

// park takes a stream that has followed to the end. Its last stretch, if it is short, is written
// here: the shard's position does not move meanwhile, so that there is no race to the end.
func (sh *shard) park(s *Stream) { sh.post(func() { sh.adopt(s) }) }

func (sh *shard) adopt(s *Stream) {
	if sh.parked == 0 {
		sh.begin()
	}
	if s.gone.Load() != nil || s.ending.Load() != nil || s.changes.Load() != nil {
		go s.follow() // to its end, or to its other filters
		return
	}
	if s.pos < store.Seq(sh.pos.Load()) && !sh.catchUp(s) {
		return
	}
	s.parked.Store(true)
	sh.parked++
	sh.index.add(s)
	sh.setDue(s, s.sent.add(s.heartbeat))
}

// begin has the shard follow the log from its present end.
func (sh *shard) begin() {
	if !sh.follows.Swap(true) && !sh.set.told {
		sh.unwatch = sh.set.log.Watch(sh.wake)
	}
	_, newest := sh.set.log.Bounds()
	sh.epoch = newest.Epoch
	sh.pos.Store(uint64(newest.Seq))
}

// catchUp brings a stream to the shard's position, if one read and one write do.
func (sh *shard) catchUp(s *Stream) bool {
	through := store.Seq(sh.pos.Load())
	q := store.Query{Select: s.selects(&sh.sel), After: s.pos, Through: through, Told: s.told, Live: true}
	sh.single.reset()
	if err := sh.set.log.Read(q, &sh.batch); err != nil || len(sh.batch.Gaps) > 0 || sh.batch.Next < through {
		go s.follow()
		return false
	}
	for i := range sh.batch.Frames {
		sh.single.add(&sh.batch.Frames[i], s.view)
	}
	if p := &sh.single; len(p.out) > 0 {
		if s.early(now()) {
			sh.later(s)
			return false
		}
		if s.conn.Blocking() {
			go s.follow()
			return false
		}
		n, err := s.conn.TryWrite(p.out)
		switch {
		case err != nil:
			go s.finish(reason(err))
			return false
		case n < len(p.out):
			sh.fallBehind(s, p, n)
			return false
		}
		s.wrote(n, len(p.marks))
		s.sent = now()
	}
	s.pos = through
	return true
}

// unpark takes a stream out of what the shard delivers to, at the position that it has.
func (sh *shard) unpark(s *Stream) {
	if !s.parked.Load() {
		return
	}
	s.pos = max(s.pos, store.Seq(sh.pos.Load())) // where it was, in the midst of the others
	s.mark.Store(uint64(s.pos))
	s.parked.Store(false)
	sh.parked--
	sh.index.remove(s)
	sh.noDue(s)
}

// rest says that nothing is owed any more, and gives back what is not needed until there is.
func (sh *shard) rest() {
	sh.fresh.Store(idle)
	sh.set.gate.open()
	if sh.parked == 0 && sh.follows.Swap(false) && !sh.set.told {
		sh.unwatch()
	}
	if cap(sh.batch.Buf) > batchBytes { // it grew for one large message
		sh.batch.Buf = make([]byte, 0, batchBytes)
	}
	for _, p := range []*parcel{&sh.shared[0], &sh.shared[1], &sh.single} {
		p.trim(2 * batchBytes)
	}
}

// gone ends a parked stream that the other side has closed. One that follows notices itself.
func (sh *shard) gone(s *Stream) {
	if sh.held(s) {
		go s.finish(Closed)
	}
}

// held takes a stream that waits in the shard, parked or for its time, out of it.
func (sh *shard) held(s *Stream) bool {
	if !s.parked.Load() && !s.rests {
		return false
	}
	sh.unpark(s)
	s.rests = false
	sh.noDue(s)
	return true
}

// recall has a parked stream follow, because its filters are to change.
func (sh *shard) recall(s *Stream) {
	if s.parked.Load() {
		sh.fall(s, s.pos, unsent{})
	}
}

// end ends a stream for the server: at once if it is parked, else within a moment.
func (sh *shard) end(s *Stream) {
	if s.at < 0 {
		return // it does not run yet, or has ended
	}
	if sh.held(s) {
		go s.follow()
	}
	sh.setDue(s, now().add(endAfter))
}

// endAfter is how long a stream that is being written to may take to come to its end.
const endAfter = time.Second

// forget drops a stream that has ended.
func (sh *shard) forget(s *Stream) {
	sh.noDue(s)
	if s.at < 0 {
		return
	}
	last := len(sh.all) - 1
	sh.all[s.at] = sh.all[last]
	sh.all[s.at].at = s.at
	sh.all[last] = nil
	sh.all = sh.all[:last]
	s.at = -1
}
