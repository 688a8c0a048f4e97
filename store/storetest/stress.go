package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// stressTests make all calls concurrently. Afterwards they compare the messages and gaps that each reader got
// with the messages that were sent.
var stressTests = []test{
	{"all at once: 4 writers, 6 readers, policies and purges", atOnce(Options{}, 10, false)},
	{"all at once, 6 MB in 1 MiB", atOnce(Options{MaxMemory: 1 << 20}, 1500, false)},
	{"all at once, groups that keep one message", atOnce(Options{Server: store.Policy{MaxMessages: 1}}, 10, false)},
	{"all at once, and then Close", atOnce(Options{}, 100, true)},
}

var stressGroups = []string{"a", "a/b", "a/b/c", "d", "$e"}

// stress is the state that the goroutines of such a test share.
type stress struct {
	*log
	e    *env
	size int
	done chan struct{} // closed when the last message is sent

	mu   sync.Mutex // guards the fields below
	sent map[store.Seq]*store.Message
}

func atOnce(o Options, size int, closes bool) func(e *env) {
	return func(e *env) {
		s := &stress{
			log: e.start(o), e: e, size: size,
			done: make(chan struct{}), sent: map[store.Seq]*store.Message{},
		}
		var others sync.WaitGroup
		var readers []*listener
		for i, set := range []string{"#", "a", "a/# d", "a a/b a/b/c d $e", "$e #", "a/b/c"} {
			r := &listener{set: filters(set), live: i%2 == 0}
			readers = append(readers, r)
			others.Go(func() { s.listen(r) })
		}
		others.Go(func() { s.repeat(s.setPolicies) })
		others.Go(func() { s.repeat(s.purge) })
		others.Go(func() { s.repeat(s.callReaders) })
		var sends atomic.Int64
		writers(4, 400, func(w, _ int) {
			s.send(w, int(sends.Add(1)))
			if closes && sends.Load() == 800 {
				if err := s.Close(); err != nil {
					e.Error(err)
				}
			}
		})
		close(s.done)
		others.Wait()
		for _, r := range readers {
			s.account(r)
		}
	}
}

// check reports whether err is nil. It fails the test on any error but store.ErrClosed.
func (s *stress) check(err error) bool {
	if err != nil && !errors.Is(err, store.ErrClosed) {
		s.e.Error(err)
	}
	return err == nil
}

// send appends one to three messages, each with a text of its own.
func (s *stress) send(w, n int) {
	r := rand.New(rand.NewPCG(uint64(w), uint64(n)))
	list := make([]*store.Message, 1+r.IntN(3))
	for i := range list {
		list[i] = text(stressGroups[r.IntN(len(stressGroups))], fmt.Sprint(n, i, strings.Repeat("x", r.IntN(2*s.size))))
		list[i].Retain = r.IntN(10) == 0
	}
	id, err := s.Append(context.Background(), entries(list...))
	if !s.check(err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range list {
		s.sent[id.Seq+store.Seq(i)] = m
	}
}

// repeat calls change after appends, until the last.
func (s *stress) repeat(change func(r *rand.Rand)) {
	r := rand.New(rand.NewPCG(1, 2))
	wake := make(chan struct{}, 1)
	defer s.Watch(wake)()
	for {
		select {
		case <-wake:
			change(r)
		case <-s.done:
			return
		}
	}
}

func (s *stress) setPolicies(r *rand.Rand) {
	f := filters([]string{"a", "a/#", "+", "$e", "a/b/c"}[r.IntN(5)])[0]
	s.check(s.SetPolicy(f, []store.Policy{
		{}, {MaxMessages: 1}, {MaxMessages: 30}, {MaxBytes: 2000}, {MaxAge: 5 * time.Millisecond},
		{Compress: store.Yes}, {MaxMessages: store.Unbounded, MaxAge: time.Hour},
	}[r.IntN(7)]))
}

func (s *stress) purge(r *rand.Rand) {
	if r.IntN(10) == 0 {
		s.check(s.Purge(stressGroups[r.IntN(len(stressGroups))]))
	}
}

func (s *stress) callReaders(r *rand.Rand) {
	if oldest, newest := s.Bounds(); oldest.Seq > newest.Seq {
		s.e.Errorf("the log goes from %v to %v", oldest, newest)
	}
	s.Groups(store.GroupQuery{Limit: 10})
	s.Usage()
	s.Find(filters("a #"), store.Start{Last: r.IntN(20)})
	s.Find(filters("a"), store.Start{Since: time.Now().Add(-time.Millisecond)})
	b := &store.Batch{}
	s.check(s.Read(store.Query{Select: filters("#"), Retained: true}, b))
}

// listener reads from its position at each wake-up, and records the result.
type listener struct {
	set      group.Set
	live     bool
	pos      store.Seq
	got      map[store.Seq]string
	reported []reportedGap
}

// reportedGap is a gap with the position after which it was read.
type reportedGap struct {
	store.Gap
	after store.Seq
}

func (s *stress) listen(r *listener) {
	r.got = map[store.Seq]string{}
	wake := make(chan struct{}, 1)
	defer s.Watch(wake)()
	b := &store.Batch{Buf: make([]byte, 0, 8<<10)}
	for reported, over := uint64(0), false; !over; {
		select {
		case <-wake:
		case <-s.done:
			over = true
		}
		for end := s.newest(); r.pos < end; end = s.newest() {
			if !s.check(s.Read(store.Query{Select: r.set, After: r.pos, Reported: reported, Live: r.live}, b)) {
				return
			}
			if len(b.Gaps) > 0 {
				reported = b.Reported
			}
			r.take(s.e, b)
		}
	}
}

// take records a batch, and fails unless it moves forward.
func (r *listener) take(e *env, b *store.Batch) {
	for _, g := range b.Gaps {
		r.reported = append(r.reported, reportedGap{g, r.pos})
	}
	last := r.pos
	for i := range b.Frames {
		f := &b.Frames[i]
		if f.Seq <= last || f.Seq > b.Next {
			e.Errorf("%v: %d comes after %d, Next is %d", r.set, f.Seq, last, b.Next)
		}
		last = f.Seq
		r.got[f.Seq] = string(f.Payload(nil))
	}
	if b.Next <= r.pos {
		e.Errorf("%v: Next is %d after a read at %d", r.set, b.Next, r.pos)
	}
	r.pos = b.Next
}

// account fails unless the listener got each message up to its position or a gap that covers it, and
// nothing else.
func (s *stress) account(r *listener) {
	missed := 0
	for seq, m := range s.sent {
		switch text, ok := r.got[seq]; {
		case !r.set.Match(m.Group) || seq > r.pos:
		case !ok && !r.hasGapFor(seq, m.Group):
			s.e.Errorf("%v, live %v: %d of %s is missing without a gap", r.set, r.live, seq, m.Group)
		case !ok:
			missed++
		case text != string(store.Unquote(nil, m.Msg)):
			s.e.Errorf("%v: %d is %.100q, and was sent as %.100q", r.set, seq, text, m.Msg)
		}
	}
	for seq := range r.got {
		if m := s.sent[seq]; m == nil || !r.set.Match(m.Group) {
			s.e.Errorf("%v: got %d, whose group does not match", r.set, seq)
		}
	}
	for _, g := range r.reported {
		if m := s.sent[g.Evicted]; m == nil || !filters(g.Filter).Match(m.Group) || g.Evicted <= g.after {
			s.e.Errorf("%v: the gap %v after %d has no loss", r.set, g.Gap, g.after)
		}
	}
	s.e.Logf("%v, live %v: got %d messages up to %d, and missed %d in %d gaps",
		r.set, r.live, len(r.got), r.pos, missed, len(r.reported))
}

// hasGapFor reports whether the listener got a gap that covers a message.
func (r *listener) hasGapFor(seq store.Seq, name string) bool {
	for _, g := range r.reported {
		if g.after < seq && seq <= g.Evicted && filters(g.Filter).Match(name) {
			return true
		}
	}
	return false
}
