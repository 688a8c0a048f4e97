package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// farLog is a log with as many messages as fit in memory. The others are read from another machine.
type farLog struct {
	*memory.Log
	t    tester
	hold func(context.Context)

	mu   sync.Mutex
	msgs []store.Frame // the other machine has all

	away   atomic.Bool  // the other machine cannot be reached
	denied atomic.Int64 // reads that would have had to wait
	far    atomic.Int64 // reads from the other machine
}

// newFarRig returns a rig with a farLog in very little memory.
func newFarRig(t tester) (*rig, *farLog) {
	l := &farLog{Log: memory.New(memory.Options{MaxMemory: memory.MinMaxMemory, Behind: true}), t: t}
	return newRigOf(t, l, false), l
}

// Pace implements store.Paced.
func (l *farLog) Pace(hold func(context.Context)) { l.hold = hold }

// Append implements store.Log. Another hub may have appended the entries: shards are not told.
func (l *farLog) Append(_ context.Context, entries []store.Entry) (store.ID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, id := l.Bounds()
	id.Seq += 1 + id.Seq%3 // ids skip numbers
	first := id
	seqs := make([]store.Seq, len(entries))
	for i := range entries {
		frame, msg := entries[i].AppendFrame(nil, id)
		l.msgs = append(l.msgs, store.Frame{Seq: id.Seq, Group: entries[i].Group, Flags: entries[i].Flags(), Msg: msg, Bytes: frame})
		seqs[i] = id.Seq
		id.Seq++
	}
	return first, l.Place(entries, seqs)
}

// Read implements store.Log.
func (l *farLog) Read(q store.Query, b *store.Batch) error {
	err := l.Log.Read(q, b)
	var spilled *memory.SpilledError
	switch {
	case !errors.As(err, &spilled):
		return err
	case q.NoWait:
		l.denied.Add(1)
		return store.ErrWouldWait
	case l.away.Load():
		return store.ErrAway
	}
	l.far.Add(1)
	l.check()
	b.Reset("")
	b.Next = spilled.Through
	if q.Through > 0 {
		b.Next = min(b.Next, q.Through)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.msgs {
		if f.Seq <= q.After || f.Seq > b.Next || !q.Select.Match(f.Group) || f.Seq <= l.Floor(f.Group) || f.Expired(time.Now()) {
			continue
		}
		if !b.Room(len(f.Bytes)) {
			b.Next = f.Seq - 1
			break
		}
		f.At = len(b.Buf)
		b.Buf = append(b.Buf, f.Bytes...)
		b.Frames = append(b.Frames, f)
	}
	return l.Gaps(q, b)
}

// check fails the test if a shard reads from the other machine.
func (l *farLog) check() {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if !more || strings.HasSuffix(f.Function, "delivery.(*Stream).follow") {
			return
		}
		if strings.Contains(f.Function, "delivery.(*shard)") {
			l.t.Errorf("a shard waits for another machine in %s", f.Function)
		}
	}
}

// tooLarge is a message that is not kept in memory.
func tooLarge(group string) store.Message {
	return store.Message{Group: group, Msg: slices.Repeat([]byte("x"), memory.MinMaxMemory)}
}

func TestShardsHandMessagesThatAreFarToFollowers(t *testing.T) {
	r, log := newFarRig(t)
	concerned, other := r.listen(filters("a", "b")), r.listen(filters("b"))
	r.parked(concerned, other)
	for i := range 5 {
		r.say("a", fmt.Sprint(i))
		r.publish(tooLarge("a"))
		end := r.say("b", fmt.Sprint(i))
		concerned.awaitSeq(t, end)
		other.awaitSeq(t, end)
	}
	if n := len(strings.Fields(concerned.payloads())); n != 15 {
		t.Errorf("%d messages were delivered, want 15", n)
	}
	if log.denied.Load() == 0 || log.far.Load() == 0 {
		t.Errorf("%d reads were denied, and %d read far: want both", log.denied.Load(), log.far.Load())
	}
}

// The shard has moved on when a stream parks, and what the stream missed is far.
func TestAStreamThatParksBehindItsShardReadsFarItself(t *testing.T) {
	r, far := newFarRig(t)
	log := &hookedLog{Store: far, catchingUp: func(*store.Batch) {}}
	r.set.Close("")
	r.set = delivery.NewSet(log, false, 1<<30)
	var others []*listener // at least one on each shard
	for range 4 * runtime.GOMAXPROCS(0) {
		others = append(others, r.listen(filters("a")))
	}
	end := store.Seq(0)
	log.following = func() {
		end = r.publish(tooLarge("a"))
		for _, l := range others {
			l.awaitSeq(t, end)
		}
	}
	l := r.listen(filters("a", "x"), view(delivery.View{Raw: true}))
	l.awaitSeq(t, end)
}

// Many streams catch up at once, and their shard moves on meanwhile.
func TestStreamsCatchUpFromFar(t *testing.T) {
	r, log := newFarRig(t)
	var all []*listener
	for i := range 2000 {
		r.publish(store.Message{Group: fmt.Sprint("a/", i%3), Msg: slices.Repeat([]byte("x"), 1000)})
	}
	r.listen(filters("none"))
	for range 8 {
		all = append(all, r.listen(filters("a/1"), start(delivery.Start{Held: true})))
	}
	end := r.publish(store.Message{Group: "a/1", Msg: []byte("end")})
	for _, l := range all {
		l.awaitSeq(t, end)
		if n := len(strings.Fields(l.payloads())); n != 668 {
			t.Errorf("%d messages were delivered, want 668", n)
		}
	}
	if log.far.Load() == 0 {
		t.Error("nothing was read from far")
	}
}

// While the other machine is away, a stream that needs it stays open and hears a sign of life, and no other
// stream waits for it.
func TestAStreamOutlivesALogThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := newFarRig(t)
		first := r.publish(tooLarge("a"))
		log.away.Store(true)
		var waiting []*listener
		for range 30 {
			waiting = append(waiting, r.listen(filters("a"), start(delivery.Start{Held: true}), beat(5*time.Second)))
		}
		near := r.listen(filters("b"))
		near.awaitSeq(t, r.say("b", "near"))
		time.Sleep(time.Minute)
		for _, l := range waiting {
			if n := strings.Count(string(l.bytes()), ":\n\n"); n < 10 || n > 13 || l.closed {
				t.Errorf("%d signs of life in a minute, want 12; closed: %t", n, l.closed)
			}
		}

		waiting[0].hangUp()
		if why := waiting[0].ended(t); why != delivery.Closed {
			t.Errorf("the client left: %s", why)
		}
		waiting[1].stream.End("kicked")
		if why := waiting[1].ended(t); why != "kicked" || !strings.Contains(string(waiting[1].bytes()), "kicked") {
			t.Errorf("the server ended it: %s", why)
		}
		log.away.Store(false)
		for _, l := range waiting[2:] {
			l.awaitSeq(t, first)
		}
	})
}

// A stream that waits for the other machine delays no other stream, and no publisher.
func TestFarReadsDelayNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := newFarRig(t)
		first := r.publish(tooLarge("a"))
		blocked := &blockedLog{farLog: log, gate: make(chan struct{})}
		r.set.Close("")
		r.set = delivery.NewSet(blocked, false, 1<<30)
		var all []*listener
		for range 40 {
			l := r.make(filters("a"), start(delivery.Start{Held: true}))
			all = append(all, l)
			go r.run(l)
		}
		synctest.Wait()
		if n := blocked.entered.Load(); n != int64(2*runtime.GOMAXPROCS(0)) {
			t.Errorf("%d streams read from far at once", n)
		}
		begin := time.Now()
		near := r.listen(filters("b"), start(delivery.Start{Held: true}))
		near.awaitSeq(t, r.say("b", "near"))
		log.hold(t.Context())
		if d := time.Since(begin); d > 0 {
			t.Errorf("others waited for %v", d)
		}
		close(blocked.gate)
		for _, l := range all {
			l.awaitSeq(t, first)
		}
	})
}

// blockedLog lets no read from far return before its gate is open.
type blockedLog struct {
	*farLog
	gate    chan struct{}
	entered atomic.Int64
}

func (l *blockedLog) Read(q store.Query, b *store.Batch) error {
	if !q.NoWait && l.Horizon(q.Select, q.After) > 0 {
		l.entered.Add(1)
		<-l.gate
	}
	return l.farLog.Read(q, b)
}

// Messages of other hubs wait for the shards, as publishers do. Otherwise they would push those that the shards have
// not delivered yet out of memory.
func TestOthersMessagesWaitForTheShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := newFarRig(t)
		slow := r.listen(filters("a"), takes(func(n int) int {
			time.Sleep(50 * time.Millisecond) // the shard is busy
			return n
		}))
		synctest.Wait()
		for i := range 20 {
			log.hold(t.Context())
			time.Sleep(5 * time.Millisecond) // the network is ten times as fast
			for k := range 100 {
				r.publish(store.Message{Group: "a", Msg: slices.Repeat([]byte("x"), 1000+i+k)})
			}
		}
		for slow.stream.Position() < r.newest() { // not awaitSeq: a goroutine that waits for a mutex stops the clock
			time.Sleep(time.Second)
		}
		if n := log.denied.Load(); n > 0 {
			t.Errorf("shards missed messages in memory %d times", n)
		}
	})
}
