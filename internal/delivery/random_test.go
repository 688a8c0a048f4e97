package delivery_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

var (
	someGroups  = []string{"a", "b", "b/1", "b/2", "c/x/y", "$p/x", "$session/1", "$session/2"}
	someFilters = []string{"a", "b/1", "b/+", "b/#", "#", "+", "+/+", "c/#", "$p/#", "$p/x", "c/x/y", "b"}
)

// random performs random operations on a log and its streams, one after the other.
type random struct {
	*rig
	rt        *rapid.T
	listeners []*checkedListener
	last      store.Seq // the last position of a client that left
}

// checkedListener is a listener and the messages that it has to get.
type checkedListener struct {
	*listener
	*expectation
	filters group.Set
	text    string
}

// TestRandomOperationsLoseNoMessageWithoutAGap performs random operations and checks every stream.
func TestRandomOperationsLoseNoMessageWithoutAGap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := &random{rig: randomRig(rt), rt: rt}
		rt.Repeat(map[string]func(*rapid.T){
			"publish":     func(*rapid.T) { x.publishSome() },
			"publish too": func(*rapid.T) { x.publishSome() },
			"fill":        func(*rapid.T) { x.fill() },
			"open":        func(*rapid.T) { x.openOne() },
			"stop or go":  func(*rapid.T) { x.with(func(l *checkedListener) { l.read(x.flip("reads")) }) },
			"policy":      func(*rapid.T) { x.change() },
			"purge":       func(*rapid.T) { x.purge() },
			"hang up":     func(*rapid.T) { x.with(x.leave) },
			"join":        func(*rapid.T) { x.with(x.join) },
			"part":        func(*rapid.T) { x.with(x.part) },
			"kick":        func(*rapid.T) { x.with(x.kick) },
			"count":       func(*rapid.T) { x.count() },
			"acknowledge": func(*rapid.T) { x.with(x.acknowledge) },
		})
		x.end()
	})
}

func randomRig(rt *rapid.T) *rig {
	tiny := memory.Options{MaxMemory: memory.MinMaxMemory}
	switch rapid.SampledFrom([]string{"publishers deliver", "shards watch", "messages are far"}).Draw(rt, "log") {
	case "publishers deliver":
		return newRig(rt, tiny, true)
	case "shards watch":
		return newRig(rt, tiny, false)
	}
	r, _ := newFarRig(rt)
	return r
}

func (x *random) n(name string, from, to int) int { return rapid.IntRange(from, to).Draw(x.rt, name) }
func (x *random) flip(name string) bool           { return rapid.Bool().Draw(x.rt, name) }
func (x *random) of(name string, list []string) string {
	return rapid.SampledFrom(list).Draw(x.rt, name)
}

func (x *random) publishSome() {
	batch := make([]store.Message, x.n("messages", 1, 6))
	for i := range batch {
		size := x.n("size", 0, 3)
		batch[i] = store.Message{
			Group: x.of("group", someGroups), UID: uidOf(x.n("sender", 1, 2)),
			Msg: []byte(strings.Repeat("x\n", 1<<(4*size))), Retain: x.n("retained", 0, 5) == 0,
		}
		if x.n("expires", 0, 9) == 0 {
			batch[i].Expires = time.Now().Add(time.Duration(x.n("in", -1, 1)) * time.Millisecond)
		}
	}
	x.publish(batch...)
}

// fill appends large messages, so that others are evicted for their memory.
func (x *random) fill() {
	for range x.n("large messages", 1, 20) {
		x.say(x.of("group", someGroups), strings.Repeat("large ", 10_000))
	}
}

func (x *random) change() {
	p := store.Policy{
		MaxMessages: int64(x.n("max messages", 0, 4)), MaxBytes: int64(x.n("max kilobytes", 0, 3)) << 10,
		Coalesce: time.Duration(x.n("coalesce", 0, 2)) * time.Millisecond,
	}
	if x.n("skip", 0, 4) == 0 {
		p.Slow = store.SlowSkip
	}
	x.policy(x.of("filter", someFilters), p)
}

func (x *random) purge() {
	if err := x.log.Purge(x.of("group", someGroups)); err != nil {
		x.t.Fatal(err)
	}
}

func (x *random) openOne() {
	if len(x.listeners) >= 8 {
		return
	}
	set := filters(rapid.SliceOfNDistinct(rapid.SampledFrom(someFilters), 1, 4, rapid.ID).Draw(x.rt, "filters")...)
	begin := x.start(set)
	l := &checkedListener{expectation: expect(set, begin.After), filters: set, text: fmt.Sprintf("%s from %+v", set.Strings(), begin)}
	v, uid := delivery.View{Raw: x.n("raw", 0, 3) == 0}, ""
	if x.n("no echo", 0, 3) == 0 {
		v.NotFrom = uidOf(1)
	}
	if x.flip("session") {
		uid = fmt.Sprint(x.n("uid", 1, 2))
		l.terms = append(l.terms, term{filters("$session/" + uid)[0], begin.After, math.MaxUint64})
	}
	l.raw, l.notFrom = v.Raw, v.NotFrom
	if begin.Held {
		l.hold(x.rig)
	}
	if begin.Unknown != "" {
		l.unknown = len(set)
	}
	beats := []time.Duration{time.Hour, time.Millisecond}[x.n("beats", 0, 1)]
	l.listener = x.make(set, start(begin), view(v), session(uid), beat(beats), x.conn())
	ran := false
	go func() {
		l.stream.Run(l.fakeConn)
		l.mu.Lock()
		defer l.mu.Unlock()
		ran = true
		l.fakeConn.change()
	}()
	l.await(x.t, "the first read", func() bool { return ran || l.stuck > 0 })
	x.listeners = append(x.listeners, l)
}

func (x *random) start(set group.Set) delivery.Start {
	end := x.newest()
	switch x.n("start", 0, 6) {
	case 0:
		return delivery.Start{Held: true}
	case 1:
		return delivery.Start{Held: true, Unknown: "none"}
	case 2:
		after, err := x.log.Find(set, store.Start{Last: x.n("last", 1, 5)})
		if err != nil {
			x.t.Fatal(err)
		}
		return delivery.Start{Held: true, After: after}
	case 3:
		return delivery.Start{After: x.last}
	case 4:
		return delivery.Start{After: x.position()}
	case 5:
		return delivery.Start{After: end, Live: true, Retained: true}
	}
	return delivery.Start{After: end, Live: true}
}

// position returns the position of a message, or the one before the message after it.
func (x *random) position() store.Seq {
	n := x.n("after", 0, len(x.published))
	if n < len(x.published) && x.n("before the next", 0, 1) == 1 {
		return x.published[n].seq - 1
	}
	return x.at(n)
}

func (x *random) conn() setup {
	kind, stops, coded := x.n("connection", 0, 4), x.n("stopped", 0, 3) == 0, x.flip("codec")
	size, manual := x.n("window", 0, 4), x.flip("acknowledges later")
	return func(_ *delivery.Config, c *fakeConn) {
		c.stopped = stops
		if coded {
			c.codec = &windowed{size: size, manual: manual}
		}
		turn := 0
		switch kind {
		case 0, 1:
			c.blocking = true
		case 2:
			c.takes = func(n int) int { turn++; return []int{n, n / 2, 0, 1, n - 1}[turn%5] }
		case 3:
			c.takes = func(n int) int { return min(n, 700) }
		}
	}
}

// with calls f with one of the listeners.
func (x *random) with(f func(*checkedListener)) {
	if len(x.listeners) > 0 {
		f(x.listeners[x.n("listener", 0, len(x.listeners)-1)])
	}
}

func (x *random) acknowledge(l *checkedListener) {
	if l.codec != nil {
		l.codec.acknowledge(x.n("messages", 1, 5))
	}
}

func (x *random) join(l *checkedListener) { x.joinTo(l, filters(x.of("filter", someFilters))[0]) }

func (x *random) joinTo(l *checkedListener, f group.Filter) {
	if slices.Contains(l.filters, f) {
		return
	}
	l.filters = append(slices.Clone(l.filters), f)
	l.terms = append(l.terms, term{f, x.newest(), math.MaxUint64})
	if err := l.stream.Join(f); err != nil {
		panic(err)
	}
}

func (x *random) part(l *checkedListener) {
	if len(l.filters) == 0 {
		return
	}
	f := l.filters[x.n("filter", 0, len(l.filters)-1)]
	l.filters = slices.DeleteFunc(slices.Clone(l.filters), func(g group.Filter) bool { return f == g })
	for i := range l.terms {
		if l.terms[i].filter == f && l.terms[i].to == math.MaxUint64 {
			l.terms[i].to = x.newest()
		}
	}
	if err := l.stream.Leave(f); err != nil {
		panic(err)
	}
}

func (x *random) remove(l *checkedListener) {
	l.ended(x.t)
	x.listeners = slices.DeleteFunc(x.listeners, func(o *checkedListener) bool { return o == l })
}

// leave closes a connection, and checks the messages received until then.
func (x *random) leave(l *checkedListener) {
	l.hangUp()
	x.remove(l)
	end, _ := lastID(l.blocks())
	l.cut = true
	x.check(l, max(end, l.start))
	x.last = max(end, l.start)
}

func (x *random) kick(l *checkedListener) {
	l.read(true)
	l.stream.End("kicked")
	x.remove(l)
	if byeOf(l.listener) != "kicked" {
		x.t.Errorf("the last event is %+v, want a bye with the reason kicked", l.parser.last())
	}
	end, _ := lastID(l.blocks())
	l.cut = true
	x.check(l, max(end, l.start))
}

func (x *random) check(l *checkedListener, end store.Seq) {
	blocks := l.blocks()
	if n := len(blocks); n > 0 && blocks[n-1].event == "bye" {
		blocks = blocks[:n-1]
	}
	unknown := l.unknown
	if l.cut && len(blocks) == 0 {
		l.unknown = 0
	}
	if err := l.verify(x.published, blocks, end); err != nil {
		x.t.Errorf("%s: %v", l.text, err)
	}
	l.unknown = unknown
}

// count checks how many streams listen to each group, whatever they do at the moment.
func (x *random) count() {
	want := make([]int, len(someGroups))
	for i, g := range someGroups {
		for _, l := range x.listeners {
			if l.filters.Match(g) {
				want[i]++
			}
		}
	}
	if got := x.set.Listeners(someGroups, nil); !slices.Equal(got, want) {
		x.t.Errorf("%v have %v listeners, want %v", someGroups, got, want)
	}
}

// end makes all listeners read, publishes to each group, and checks each stream.
func (x *random) end() {
	for _, f := range someFilters {
		x.policy(f, store.Policy{})
	}
	for _, l := range x.listeners {
		if l.codec != nil {
			l.codec.acknowledgeAll()
		}
		if l.read(true); len(l.filters) == 0 { // without a filter it may get no message that shows that it has caught up
			x.joinTo(l, filters("a")[0])
		}
	}
	x.sayEnd()
	for _, l := range slices.Clone(x.listeners) {
		end := x.awaitEnd(l)
		l.hangUp()
		x.remove(l)
		x.check(l, max(end, l.start))
	}
	x.close()
}

func (x *random) sayEnd() {
	for _, g := range someGroups {
		x.say(g, "end")
	}
}

// awaitEnd waits until the stream has got the newest message that it has to get, and returns its position. A stream that has skipped
// it gets another one: the gaps of a codec do not tell how far the stream has skipped.
func (x *random) awaitEnd(l *checkedListener) (end store.Seq) {
	for seen := 0; ; x.sayEnd() {
		for i := range x.published {
			if m := &x.published[i]; l.expects(m) && !m.optional {
				end = m.seq
			}
		}
		l.await(x.t, "the newest message", func() bool {
			n, last := len(l.parser.blocks), l.parser.last()
			return last.seq >= end || n > seen && last.event == "gap"
		})
		if l.last() >= end {
			return end
		}
		seen = len(l.blocks())
	}
}
