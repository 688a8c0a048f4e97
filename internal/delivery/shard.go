package delivery

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// batchBytes is how much a shard reads of the log at once.
const batchBytes = 256 << 10

// shard is follow for many streams that are all at the shard's position: it reads the log once and writes
// to each stream once. Its goroutine runs it, or a publisher that finds it idle (inline.go).
type shard struct {
	set  *Set
	wake chan struct{} // holds one: look again
	done chan struct{}

	owner   sync.Mutex  // held by the goroutine that runs the shard, and so owns the parked streams
	again   atomic.Bool // a publisher found owner locked: look again
	follows atomic.Bool // it reads the log, because streams are parked

	mu    sync.Mutex // guards what follows
	inbox []func()   // calls for the shard's owner
	shut  bool
	why   Reason // why it was shut; does not change after that

	changed atomic.Bool // the filters of a stream have changed, and a recall is in the inbox

	pos   atomic.Uint64 // messages up to here have been delivered to the parked streams
	fresh atomic.Int64  // messages appended before this time have been read; idle: all have been

	// Used by the owner alone.
	index     index
	all       []*Stream // the parked ones first
	parked    int       // how many of all are parked
	dues      dues
	timer     *time.Timer
	beatAt    instant // when the timer fires
	unwatch   func()
	epoch     string
	batch     store.Batch
	touched   []*audience
	audiences []*audience // of the current group
	shared    [2]parcel   // as JSON and raw, for the current audience
	commons   []parcel    // of codecs, for the current audience
	single    parcel
	sel       group.Set // the filters of the current stream
	matched   []int     // frames for a stream in several audiences
	writes    uint32    // how many were measured or left out; see latencies
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

// post has the shard's owner call f.
func (sh *shard) post(f func()) {
	sh.mu.Lock()
	sh.inbox = append(sh.inbox, f)
	sh.mu.Unlock()
	sh.attend()
}

// attend makes the calls in the inbox if no other goroutine runs the shard, because that costs less than
// waking the shard's goroutine. Otherwise, and for what is left to do, it wakes that goroutine.
func (sh *shard) attend() {
	if !sh.owner.TryLock() {
		sh.rouse()
		return
	}
	open := sh.work()
	late := sh.late()
	sh.owner.Unlock()
	if !open || late || sh.again.Load() {
		sh.rouse()
	}
}

// rouse wakes the shard's goroutine.
func (sh *shard) rouse() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// ask has the shard's owner call f, and waits for it, unless the shard has ended.
func (sh *shard) ask(f func()) {
	done := make(chan struct{})
	sh.post(func() { f(); close(done) })
	select {
	case <-done:
	case <-sh.done:
	}
}

// join adds a stream, which follows first. It returns false if the shard is shut.
func (sh *shard) join(s *Stream) bool {
	sh.mu.Lock()
	if sh.shut {
		sh.mu.Unlock()
		return false
	}
	sh.inbox = append(sh.inbox, func() {
		s.allIndex = int32(len(sh.all))
		sh.all = append(sh.all, s)
		if s.ending.Load() != nil { // End was called before Run
			sh.end(s)
		}
	})
	sh.mu.Unlock()
	sh.attend()
	return true
}

// close ends all streams. The shard's goroutine ends after the last of them.
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

// hold runs look as the owner, and again if a publisher has found the shard locked meanwhile.
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

// look does all the work there is, and reports whether there may be more later.
func (sh *shard) look() bool {
	for {
		open := sh.work()
		begun := now()
		more := sh.deliver()
		sh.beat(now())
		if !more {
			sh.settle()
			return open
		}
		sh.pause(time.Duration(now() - begun))
	}
}

// work makes the calls in the inbox. It reports whether the shard stays open.
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

// deliver reads the next batch and writes it to the parked streams. It reports whether there was one.
func (sh *shard) deliver() bool {
	if sh.parked == 0 {
		return false
	}
	now := now()
	sh.fresh.CompareAndSwap(idle, int64(now))
	_, newest := sh.set.log.Bounds()
	after := store.Seq(sh.pos.Load())
	q := store.Query{Select: &sh.index, After: after, Live: true, NoWait: true}
	err := sh.set.log.Read(q, &sh.batch)
	switch {
	case errors.Is(err, store.ErrWouldWait):
		sh.lapped(now, newest.Seq)
		return true
	case err != nil:
		return false
	case sh.batch.Epoch != sh.epoch:
		sh.recallAll()
		return false
	case sh.batch.Next == after:
		return false
	}
	if sh.changed.Swap(false) {
		return true // the batch may be for a stream that has to be recalled first
	}
	if len(sh.batch.Gaps) > 0 {
		sh.lapped(now, sh.batch.Next)
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

// lapped makes all streams follow, because messages up to a position are no longer in memory: follow reads them from
// another machine, or finds out for each stream whether it has a gap. Flow control prevents this in normal
// operation.
func (sh *shard) lapped(now instant, through store.Seq) {
	for sh.parked > 0 {
		s := sh.all[sh.parked-1]
		sh.handOff(s, s.pos, unsent{})
	}
	sh.pos.Store(uint64(through))
	sh.fresh.Store(int64(now))
}

// dispatch collects the frames that each audience matches, and then writes to its streams.
func (sh *shard) dispatch(now instant) {
	sh.recallOwn()
	group := ""
	sh.touched = sh.touched[:0]
	for i := range sh.batch.Frames {
		if g := sh.batch.Frames[i].Group; g != group || i == 0 {
			group, sh.audiences = g, sh.audiences[:0]
			sh.index.lookup(g, func(in *audience) { sh.audiences = append(sh.audiences, in) })
		}
		for _, in := range sh.audiences {
			if len(in.frames) == 0 {
				sh.touched = append(sh.touched, in)
			}
			in.frames = append(in.frames, i)
		}
	}
	for _, in := range sh.touched {
		sh.deliverTo(in, now)
	}
	for _, in := range sh.touched {
		in.frames = in.frames[:0]
	}
}

// recallOwn makes streams follow if the batch has a message to their session. That is rare, and no two
// streams share such a batch.
func (sh *shard) recallOwn() {
	for i := range sh.batch.Frames {
		for s := sh.index.ownOf(sh.batch.Frames[i].Group); s != nil; {
			next := s.next
			sh.recall(s)
			s = next
		}
	}
}

// deliverTo writes to the streams of an audience. It renders the messages once as JSON and once raw.
func (sh *shard) deliverTo(in *audience, now instant) {
	sh.shared[0].reset()
	sh.shared[1].reset()
	sh.commons = sh.commons[:0]
	// From the end: a stream that leaves the audience is replaced by one that has been written to already.
	for i := len(in.streams) - 1; i >= 0; i-- {
		s := in.streams[i]
		if p := sh.share(s, in); len(p.out) > 0 {
			sh.send(s, p, now)
		} else if p.full {
			sh.suspend(s, p.next)
		}
	}
}

// share returns the part of the batch that a stream gets. It is usually the same for the whole audience.
func (sh *shard) share(s *Stream, in *audience) *parcel {
	if s.view.NotFrom != "" || s.pos >= sh.batch.Frames[in.frames[0]].Seq || !sh.alone(in, s) {
		return sh.own(s)
	}
	if s.view.codec != nil {
		return sh.encode(s, in)
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

// encode is share for a stream with a codec.
func (sh *shard) encode(s *Stream, in *audience) *parcel {
	c := s.view.codec.Common()
	if c == nil {
		return sh.own(s)
	}
	for i := range sh.commons {
		if p := &sh.commons[i]; p.common == c {
			return p
		}
	}
	if n := len(sh.commons); n < cap(sh.commons) {
		sh.commons = sh.commons[:n+1] // with the buffer that it had
	} else {
		sh.commons = append(sh.commons, parcel{})
	}
	p := &sh.commons[len(sh.commons)-1]
	p.reset()
	p.common = c
	for _, i := range in.frames {
		p.encode(&sh.batch.Frames[i])
	}
	return p
}

// alone reports whether in is the only audience of the stream that the batch matches.
func (sh *shard) alone(in *audience, s *Stream) bool {
	if len(sh.touched) == 1 {
		return true // the usual case: no need to look at the stream's other audiences
	}
	for _, at := range s.places {
		if at.audience != in && len(at.audience.frames) > 0 {
			return false
		}
	}
	return true
}

// own renders the messages for one stream: those after its position that any of its filters matches. The
// parcel is empty if the stream was written to as part of another audience.
func (sh *shard) own(s *Stream) *parcel {
	p := &sh.single
	p.reset()
	if s.pos >= sh.batch.Next {
		return p
	}
	sh.matched = sh.matched[:0]
	for _, at := range s.places {
		sh.matched = append(sh.matched, at.audience.frames...)
	}
	slices.Sort(sh.matched)
	s.ask(p)
	for _, i := range slices.Compact(sh.matched) {
		if f := &sh.batch.Frames[i]; f.Seq > s.pos {
			p.add(f, s.view)
		}
	}
	if len(p.out) == 0 && !p.full {
		s.pos = sh.batch.Next
	}
	return p
}

// send writes a parcel to a stream. If the socket does not accept all of it, the stream follows.
func (sh *shard) send(s *Stream, p *parcel, now instant) {
	if s.mustCoalesce(now) {
		s.toldPart(p, 0)
		sh.later(s)
		return
	}
	n, err := s.conn.TryWrite(p.out)
	switch {
	case err != nil:
		s.toldPart(p, n)
		sh.unpark(s)
		go s.finish(reason(err))
	case n == len(p.out):
		s.told(p, p.reached(sh.batch.Next))
		s.wrote(n, len(p.marks))
		sh.set.latency.measure(p, &sh.writes)
		s.sent = now
		switch {
		case p.full:
			sh.suspend(s, p.next)
		case len(s.places) > 1:
			s.pos = sh.batch.Next // its other audiences skip this batch
		}
	case s.conn.Blocking():
		s.toldPart(p, 0)
		sh.handOff(s, s.pos, unsent{})
	default:
		sh.handOffUnsent(s, p, n)
	}
}

// settle records that the shard has no ready work, and frees memory that it does not need while idle.
func (sh *shard) settle() {
	sh.fresh.Store(idle)
	sh.set.gate.open()
	if sh.parked == 0 && sh.follows.Swap(false) && !sh.set.notified {
		sh.unwatch()
	}
	if cap(sh.batch.Buf) > batchBytes { // it has grown for a large message
		sh.batch.Buf = make([]byte, 0, batchBytes)
	}
	for _, p := range []*parcel{&sh.shared[0], &sh.shared[1], &sh.single} {
		p.trim(2 * batchBytes)
	}
	commons := sh.commons[:cap(sh.commons)]
	for i := range commons {
		commons[i].trim(2 * batchBytes)
	}
}
