package delivery_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// large is a payload so large that a read returns one message at a time.
var large = strings.Repeat("x", 60_000)

// stuck stops a client, publishes a message to the group, and waits until the stream waits for the client.
func (r *rig) stuck(l *listener, group string) {
	r.t.Helper()
	l.read(false)
	r.say(group, "stuck")
	l.await(r.t, "a write that waits", func() bool { return l.stuck > 0 })
}

// verify fails the test unless the listener has received all messages after start, or honest gaps.
func (r *rig) verify(l *listener, e *expectation) {
	r.t.Helper()
	if err := e.verify(r.published, l.blocks(), r.newest()); err != nil {
		r.t.Errorf("%v\n%v", err, l.blocks())
	}
}

// A message that a policy has evicted a moment ago is held for live streams. A stream that has to read from another machine
// does not get it: then there is a gap, and the message is not delivered after it.
func TestALiveStreamThatHasToReadFarGetsAMessageOrAGapForIt(t *testing.T) {
	for name, prepare := range map[string]func(r *rig, l *listener){
		"evicted after the messages that are far": func(r *rig, l *listener) {
			r.stuck(l, "a")
			r.publish(tooLarge("b"))
			r.say("a", "evicted")
			r.say("a", "held")
		},
		"evicted before a read that was not far": func(r *rig, l *listener) {
			r.stuck(l, "b")
			l.mu.Lock()
			l.takes = func(n int) int { l.stopped = true; return n } // the client reads once more
			l.mu.Unlock()
			r.say("b", large)
			r.say("b", large)
			r.say("a", "evicted")
			r.say("a", "held")
			l.read(true)
			l.await(r.t, "the next write that waits", func() bool { return l.stopped && l.stuck > 0 })
			r.publish(tooLarge("b"))
			l.mu.Lock()
			l.takes = nil
			l.mu.Unlock()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newFarRig(t)
			l := r.listen(filters("a", "b"))
			r.parked(l)
			r.policy("a", store.Policy{MaxMessages: 1})
			prepare(r, l)
			end := r.say("b", "end")
			l.read(true)
			l.awaitSeq(t, end)
			r.verify(l, expect(filters("a", "b"), 0))
		})
	}
}

// The log grows between the moment when a stream that catches up looks at its end and the read.
func TestAGapAtTheEndOfTheLogIsNotFollowedByItsMessages(t *testing.T) {
	r := newRig(t, memory.Options{}, false)
	log := &growingLog{Store: r.log}
	r.set.Close("")
	r.set = delivery.NewSet(log, false, 1<<30)
	r.policy("a", store.Policy{MaxMessages: 1})
	log.grow = func() {
		r.say("x", large)
		r.say("x", large)
		r.say("a", "evicted")
		r.say("a", "held")
	}
	l := r.listen(filters("a", "x"), start(delivery.Start{}))
	l.awaitSeq(t, r.newest())
	r.verify(l, expect(filters("a", "x"), 0))
}

// growingLog is a log that grows before its first read.
type growingLog struct {
	store.Store
	grow func()
}

func (g *growingLog) Read(q store.Query, b *store.Batch) error {
	if grow := g.grow; grow != nil {
		g.grow = nil
		grow()
	}
	return g.Store.Read(q, b)
}

// A stream that catches up has joined filters at a position, and messages after that position are lost.
func TestALossIsReportedOnceAlthoughTheStreamJoinsOtherFilters(t *testing.T) {
	for name, c := range map[string]struct {
		with    setup
		join    []string
		reports string // the filters of the gaps
	}{
		"one filter":                 {blocking(false), []string{"b/1"}, "+ b/1"},
		"two filters":                {blocking(false), []string{"b/1", "b/#"}, "+ b/1 b/#"},
		"a filter that lost nothing": {blocking(false), []string{"c/#", "b/1"}, "+ b/1"},
		"two filters, by a codec":    {codec(4), []string{"b/1", "b/#"}, "+ b/1 b/#"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memory.Options{}, false)
			begin := r.newest()
			r.say("a", "stuck")
			l := r.make(filters("+"), start(delivery.Start{After: begin}), c.with)
			l.read(false)
			go r.run(l)
			l.await(t, "a write that waits", func() bool { return l.stuck > 0 })
			r.say("a", "held")
			e := expect(filters("+"), begin)
			for _, f := range filters(c.join...) {
				e.terms = append(e.terms, term{f, r.newest(), math.MaxUint64})
				if err := l.stream.Join(f); err != nil {
					t.Fatal(err)
				}
			}
			for _, group := range []string{"x", "b/1"} {
				r.say(group, "lost")
				if err := r.log.Purge(group); err != nil {
					t.Fatal(err)
				}
			}
			end := r.say("a", "end")
			l.read(true)
			l.awaitSeq(t, end)
			r.verify(l, e)
			var gaps []string
			for _, b := range l.blocks() {
				var g delivery.Gap
				if b.event == "gap" {
					if err := json.Unmarshal([]byte(b.data), &g); err != nil {
						t.Fatal(err)
					}
					gaps = append(gaps, g.Filter)
				}
			}
			if got := strings.Join(gaps, " "); got != c.reports {
				t.Errorf("gaps of %s, want %s", got, c.reports)
			}
		})
	}
}
