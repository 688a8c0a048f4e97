package delivery_test

import (
	"encoding/json"
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
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// windowed is the codec of a client that takes only some messages before it has to acknowledge. It renders what an
// event stream would get, but for the ids of gaps, and checks how it is called.
type windowed struct {
	t      tester
	size   int // the most messages that are not acknowledged; 0: no limit, and the bytes are shared if the view allows it
	view   delivery.View
	resume func()
	asked  func() // is called when it is full; nil: nothing

	rendered *atomic.Int64 // counts the messages that several streams share; nil: it is not needed

	mu      sync.Mutex
	manual  bool // the client acknowledges only when acknowledge is called
	flying  []flight
	reached [3]store.Seq // by pass: where Append has been
	open    int          // messages that the client has received and not acknowledged
	full    int          // how often it was full
	own     int          // messages rendered for this stream alone
	sent    [3]store.Seq // by pass: the last position that Sent told
}

// flight is a message that was appended and is not acknowledged.
type flight struct {
	seq  store.Seq
	pass delivery.Pass
	sent bool
}

func codec(size int) setup {
	return func(_ *delivery.Config, c *fakeConn) { c.codec = &windowed{size: size} }
}

// later makes the client acknowledge only when acknowledge is called.
func later(_ *delivery.Config, c *fakeConn) { c.codec.manual = true }

func all(list ...setup) setup {
	return func(c *delivery.Config, f *fakeConn) {
		for _, s := range list {
			s(c, f)
		}
	}
}

func (w *windowed) Append(b []byte, f *store.Frame, pass delivery.Pass) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if pass == delivery.Logged && f.Seq <= w.reached[pass] {
		w.t.Errorf("message %d of pass %d is asked for after %d", f.Seq, pass, w.reached[pass])
	}
	if w.view.NotFrom != "" && string(f.UID()) == w.view.NotFrom {
		return b, false
	}
	if w.size > 0 && len(w.flying) >= w.size {
		w.full++
		if w.asked != nil {
			w.mu.Unlock()
			w.asked()
			w.mu.Lock()
		}
		return b, true
	}
	w.reached[pass] = f.Seq
	w.own++
	if w.size > 0 {
		w.flying = append(w.flying, flight{seq: f.Seq, pass: pass})
	}
	switch {
	case pass == delivery.Retained:
		return f.AppendRetained(b, w.view.Raw), false
	case pass == delivery.Earlier:
		return sse.AppendEvent(b, "earlier", "", f.Payload(nil)), false
	}
	return events{raw: w.view.Raw}.Append(b, f), false
}

// Sent implements delivery.Codec.
func (w *windowed) Sent(reached store.Seq, pass delivery.Pass) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if pass == delivery.Logged && reached < w.sent[pass] {
		w.t.Errorf("sent up to %d in pass %d, after %d", reached, pass, w.sent[pass])
	}
	w.sent[pass], w.reached[pass] = reached, reached
	w.flying = slices.DeleteFunc(w.flying, func(f flight) bool { return f.pass == pass && !f.sent && f.seq > reached })
	for i := range w.flying {
		if f := &w.flying[i]; f.pass == pass {
			f.sent = true
		}
	}
}

func (w *windowed) AppendGap(b []byte, g *delivery.Gap) []byte {
	return sse.AppendEvent(b, "gap", "", g.AppendJSON(nil))
}

func (w *windowed) AppendBye(b []byte, why delivery.Reason) []byte {
	return sse.AppendEvent(b, "bye", "", append(store.AppendQuote([]byte(`{"reason":`), string(why)), '}'))
}

func (w *windowed) Common() delivery.Common {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size > 0 || w.view.NotFrom != "" {
		return nil
	}
	return events{w.view.Raw, w.rendered}
}

// events renders messages as an event stream does.
type events struct {
	raw      bool
	rendered *atomic.Int64 // counts; may be nil
}

func (e events) Append(b []byte, f *store.Frame) []byte {
	if e.rendered != nil {
		e.rendered.Add(1)
	}
	if e.raw {
		return f.AppendRaw(b)
	}
	return append(b, f.Bytes...)
}

// received is called with what the client receives.
func (w *windowed) received(list []block) {
	if w.size == 0 {
		return
	}
	n := 0
	for _, b := range list {
		if b.event != "gap" && b.event != "bye" {
			n++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open += n; w.open > len(w.flying) {
		w.t.Errorf("the client has %d messages that it has not acknowledged, the codec appended %d", w.open, len(w.flying))
	}
	if !w.manual {
		go w.acknowledge(n)
	}
}

// acknowledge acknowledges the oldest of the messages that the client has received.
func (w *windowed) acknowledge(n int) {
	w.mu.Lock()
	n = min(n, w.open)
	w.open -= n
	w.flying = slices.Delete(w.flying, 0, n)
	w.mu.Unlock()
	if n > 0 {
		w.resume()
	}
}

// acknowledgeAll acknowledges what the client has received, and from now on what it receives.
func (w *windowed) acknowledgeAll() {
	w.mu.Lock()
	w.manual = false
	w.mu.Unlock()
	w.acknowledge(1 << 30)
}

// fills waits until the client has received as many messages as it may.
func (l *listener) fills(t tester) {
	t.Helper()
	l.await(t, "the end of the window", func() bool {
		l.codec.mu.Lock()
		defer l.codec.mu.Unlock()
		return l.codec.open == l.codec.size
	})
}

func TestAFullStreamWaitsWithoutAGoroutineAndDelaysNoOne(t *testing.T) {
	for _, from := range []string{"parked", "following"} {
		t.Run(from, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, memory.Options{}, true)
				other := r.listen(filters("a"))
				if from == "following" {
					r.say("a", "0")
				}
				before := runtime.NumGoroutine()
				streams := make([]*listener, 50)
				for i := range streams {
					begin := delivery.Start{Live: true, After: r.newest()}
					if from == "following" {
						begin = delivery.Start{}
					}
					streams[i] = r.listen(filters("a"), codec(1), later, start(begin))
				}
				for i := range 20 {
					end := r.say("a", fmt.Sprint(i+1))
					synctest.Wait()
					if other.last() != end {
						t.Fatalf("the stream beside is at %d, want %d", other.last(), end)
					}
				}
				if n := runtime.NumGoroutine() - before; n > 0 {
					t.Errorf("%d goroutines for streams that are full", n)
				}
				for _, l := range streams {
					if n := len(l.blocks()); n != 1 || !l.stream.Behind() {
						t.Errorf("%d messages, behind: %v; want one, and behind", n, l.stream.Behind())
					}
				}
				if s := r.set.Stats(); s.Held != 0 || s.Full != 0 {
					t.Errorf("publishers were held %d times, %d streams wait for their sockets", s.Held, s.Full)
				}
				for _, l := range streams {
					l.codec.acknowledgeAll()
				}
				synctest.Wait()
				for _, l := range streams {
					if l.last() != r.newest() || l.stream.Behind() {
						t.Errorf("at %d of %d after all acknowledgements", l.last(), r.newest())
					}
				}
			})
		})
	}
}

// last returns the position of the last message received.
func (c *fakeConn) last() store.Seq {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parser.last().seq
}

// The client acknowledges after the codec has said that it is full, and before the stream waits.
func TestAResumeAtTheTimeOfFullIsNotLost(t *testing.T) {
	for name, with := range map[string]setup{
		"parked":    later,
		"following": all(later, takes(func(n int) int { return n / 2 })),
		"blocking":  all(later, blocking(true)),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memory.Options{}, true)
			l := r.make(filters("a"), codec(1), with)
			l.codec.asked = func() { l.codec.acknowledge(1) }
			r.run(l)
			for i := range 4 {
				l.awaitSeq(t, r.say("a", fmt.Sprint(i)))
			}
			if l.codec.full < 3 {
				t.Errorf("it was full %d times, want 3", l.codec.full)
			}
		})
	}
}

// Each round ends only when all have received the round's messages, so that no later message makes up for a Resume that
// was lost.
func TestConcurrentResumesAreNotLost(t *testing.T) {
	r := newRig(t, memory.Options{}, true)
	var streams []*listener
	for i := range 20 {
		streams = append(streams, r.listen(filters("a"), codec(1+i%3)))
	}
	for range 100 {
		var publishers sync.WaitGroup
		for range 3 {
			publishers.Go(func() {
				for range 4 {
					r.say("a", "x")
				}
			})
		}
		publishers.Wait()
		for _, l := range streams {
			l.awaitSeq(t, r.newest())
		}
	}
	for _, l := range streams {
		if n := len(l.blocks()); n != 1200 {
			t.Errorf("%d messages, want 1200", n)
		}
	}
}

func TestAFullStreamEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory.Options{}, true)
		kicked, left := r.listen(filters("a"), codec(1), later), r.listen(filters("a"), codec(1), later)
		r.say("a", "1")
		r.say("a", "2")
		synctest.Wait()
		begin := time.Now()
		kicked.stream.End("kicked")
		left.hangUp()
		if why := kicked.ended(t); why != "kicked" || byeOf(kicked) != "kicked" {
			t.Errorf("ended as %q, the last event is %+v", why, kicked.parser.last())
		}
		if why := left.ended(t); why != delivery.Closed {
			t.Errorf("ended as %q", why)
		}
		if d := time.Since(begin); d > 0 {
			t.Errorf("it took %v", d)
		}
		for _, l := range []*listener{kicked, left} {
			if l.stream.Resume(); len(l.blocks()) > 2 {
				t.Errorf("messages after the end: %v", l.blocks())
			}
		}
	})
}

// A change of filters may let the codec take the message that it was full before.
func TestAFullStreamAsksAgainWhenItsFiltersChange(t *testing.T) {
	r := newRig(t, memory.Options{}, true)
	l := r.listen(filters("a"), codec(1), later)
	r.say("a", "1")
	r.say("a", "2")
	l.fills(t)
	l.codec.mu.Lock()
	l.codec.size = 3
	l.codec.mu.Unlock()
	if err := l.stream.Join(filters("b")[0]); err != nil {
		t.Fatal(err)
	}
	l.awaitSeq(t, r.say("b", "3"))
}

func TestStreamsWithACommonFormShareTheBytes(t *testing.T) {
	for name, c := range map[string]struct {
		streams  int
		notified bool
	}{"by shards": {40, false}, "by publishers": {4, true}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memory.Options{}, c.notified)
			var rendered atomic.Int64
			var streams []*listener
			for range c.streams {
				l := r.make(filters("a"), codec(0))
				l.codec.rendered = &rendered
				r.run(l)
				streams = append(streams, l)
			}
			r.parked(streams...)
			for range 3 {
				end := r.say("a", "x")
				for _, l := range streams {
					l.awaitSeq(t, end)
				}
			}
			most := int64(3 * runtime.GOMAXPROCS(0)) // once a shard
			for _, l := range streams {
				if l.codec.own != 0 || rendered.Load() > most {
					t.Fatalf("%d messages were rendered for one stream alone, %d for all, want at most %d", l.codec.own, rendered.Load(), most)
				}
			}
		})
	}
}

func TestAStreamWithACodecGetsNoHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory.Options{}, true)
		l := r.listen(filters("a"), codec(1), beat(time.Second))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := l.bytes(); len(got) > 0 {
			t.Errorf("received %q", got)
		}
	})
}

func TestAStreamThatJoinsFromAnEarlierPositionGetsTheMessagesSinceThen(t *testing.T) {
	for _, k := range []struct {
		name string
		with setup
	}{
		{"codec", codec(1000)}, {"window of one", codec(1)}, {"half", all(codec(2), takes(func(n int) int { return n / 2 }))}, {"blocking", all(codec(2), blocking(true))},
	} {
		t.Run(k.name, func(t *testing.T) {
			r := newRig(t, memory.Options{}, true)
			r.publish(store.Message{Group: "b", Retain: true, Msg: []byte("retained")})
			l := r.listen(filters("a"), k.with, view(delivery.View{Raw: true}))
			r.say("b", "before")
			from := r.newest()
			for i := range 5 {
				r.say([]string{"b", "a"}[i%2], fmt.Sprint(i))
			}
			l.awaitSeq(t, r.newest()-1)
			if err := l.stream.JoinFrom(filters("b")[0], delivery.JoinOptions{Retained: true, After: &from}); err != nil {
				t.Fatal(err)
			}
			end := r.say("b", "end")
			l.awaitSeq(t, end)
			var got []string
			for _, b := range l.blocks() {
				got = append(got, b.event+b.data)
			}
			if got, want := strings.Join(got, " "), "1 3 retained earlier0 earlier2 earlier4 end"; got != want {
				t.Errorf("received %s, want %s", got, want)
			}
		})
	}
}

// What is evicted after the join is told: the client was promised what was held then.
func TestAStreamThatJoinsFromAnEarlierPositionIsToldOfLaterGaps(t *testing.T) {
	r := newRig(t, memory.Options{}, true)
	for i := range 6 {
		r.say("b", fmt.Sprint(i))
	}
	r.policy("b", store.Policy{MaxMessages: 4})
	l := r.listen(filters("a"), codec(1), later, view(delivery.View{Raw: true}))
	from := store.Seq(0)
	if err := l.stream.JoinFrom(filters("b")[0], delivery.JoinOptions{After: &from}); err != nil {
		t.Fatal(err)
	}
	l.fills(t)
	r.policy("b", store.Policy{MaxMessages: 1})
	l.codec.acknowledgeAll()
	l.await(t, "the last message", func() bool { return strings.HasSuffix(l.parser.last().data, "5") })
	var got []string
	for _, b := range l.blocks() {
		got = append(got, b.event+strings.SplitN(b.data, ",", 2)[0])
	}
	if got, want := strings.Join(got, " "), `earlier2 gap{"filter":"b" earlier5`; got != want {
		t.Errorf("received %s, want %s", got, want)
	}
}

// outline returns the events that the listener has received, each with the first character of its data and a gap with its
// filter, and the gaps.
func (l *listener) outline(t tester) (text string, gaps []delivery.Gap) {
	t.Helper()
	var list []string
	for _, b := range l.blocks() {
		var gap delivery.Gap
		if b.event == "gap" {
			if err := json.Unmarshal([]byte(b.data), &gap); err != nil {
				t.Fatal(err)
			}
			gaps = append(gaps, gap)
		}
		list = append(list, b.event+gap.Filter+b.data[:min(len(b.data), 1)])
	}
	return strings.Join(list, " "), gaps
}

// An eviction may take messages before the join and after it.
func TestAStreamThatJoinsFromAnEarlierPositionIsToldOfAnEvictionOnce(t *testing.T) {
	for name, c := range map[string]struct {
		listens string
		live    bool
	}{"a new filter": {"a", false}, "a filter that it has": {"b", false}, "a new filter, live": {"a", true}, "a filter that it has, live": {"b", true}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memory.Options{}, true)
			var ids []store.Seq
			for i := range 6 {
				ids = append(ids, r.say("b", fmt.Sprint(i)))
			}
			l := r.make(filters(c.listens), codec(1), later, view(delivery.View{Raw: true}), start(delivery.Start{Live: c.live, After: r.newest()}))
			if c.live {
				r.run(l)
			}
			from := store.Seq(0)
			if err := l.stream.JoinFrom(filters("b")[0], delivery.JoinOptions{After: &from}); err != nil {
				t.Fatal(err)
			}
			if !c.live {
				r.run(l)
			}
			l.fills(t)
			r.say("b", "6")
			r.say("b", "7")
			r.policy("b", store.Policy{MaxMessages: 1})
			l.codec.acknowledgeAll()
			l.await(t, "the last message", func() bool { return l.parser.last().data == "7" })
			all, gaps := l.outline(t)
			for _, gap := range gaps {
				if after, err := store.ParseID(gap.After); err != nil || after.Seq < ids[0] || after.Seq >= ids[1] {
					t.Errorf("the gap is after %s, want %d", gap.After, ids[0])
				}
			}
			all = strings.Replace(all, " 6 ", " ", 1) // the log may still have it
			if got, want := all, "earlier0 gapb{ 7"; got != want {
				t.Errorf("received %s, want %s", got, want)
			}
		})
	}
}

// TestAStreamThatJoinsAgainIsToldWhatWasEvictedMeanwhile goes on where an earlier stream has stopped.
func TestAStreamThatJoinsAgainIsToldWhatWasEvictedMeanwhile(t *testing.T) {
	for name, c := range map[string]struct {
		started bool // the earlier stream was sent the first message
		want    string
	}{"in the middle": {true, "gapb{ earlier3 4"}, "at its start": {false, "earlier3 4"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memory.Options{}, true)
			var reached store.Seq
			for i := range 4 {
				if seq := r.say("b", fmt.Sprint(i)); i == 0 && c.started {
					reached = seq
				}
			}
			joined := r.newest()
			r.policy("b", store.Policy{MaxMessages: 1})
			l := r.make(filters("b"), codec(9), later, view(delivery.View{Raw: true}), start(delivery.Start{After: joined}))
			if err := l.stream.JoinFrom(filters("b")[0], delivery.JoinOptions{After: &reached, At: joined}); err != nil {
				t.Fatal(err)
			}
			r.run(l)
			l.await(t, "the replay", func() bool { return l.parser.last().data == "3" })
			r.policy("b", store.Policy{MaxMessages: 2})
			r.say("b", "4")
			l.await(t, "the last message", func() bool { return l.parser.last().data == "4" })
			if got, _ := l.outline(t); got != c.want {
				t.Errorf("received %s, want %s", got, c.want)
			}
		})
	}
}
