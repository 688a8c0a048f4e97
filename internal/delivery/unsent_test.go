package delivery_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// takesHalf makes a connection accept half of the first write and then nothing, until its client reads.
func takesHalf(_ *delivery.Config, c *fakeConn) {
	c.takes = func(n int) int {
		c.stopped = true
		return n / 2
	}
}

// reads makes the client read everything from now on.
func (l *listener) reads() {
	l.mu.Lock()
	l.takes = nil
	l.mu.Unlock()
	l.read(true)
}

func stops(_ *delivery.Config, c *fakeConn) { c.stopped = true }

// settles waits until the set keeps no unsent bytes.
func (r *rig) settles() {
	r.t.Helper()
	for late := time.Now().Add(patience); r.set.Stats().Unsent != 0; runtime.Gosched() {
		if time.Now().After(late) {
			r.t.Fatalf("%d unsent bytes are kept, though the streams have received everything", r.set.Stats().Unsent)
		}
	}
}

func TestStreamsInTheSameMessageShareOneCopy(t *testing.T) {
	const large = 256 << 10
	for name, c := range map[string]struct {
		setup  []setup
		resume bool
		retain bool
	}{
		"parked":                   {setup: []setup{takesHalf}},
		"parked, raw":              {setup: []setup{takesHalf, view(delivery.View{Raw: true})}},
		"parked, without echo":     {setup: []setup{takesHalf, view(delivery.View{NotFrom: uidOf(1)})}},
		"written by a goroutine":   {setup: []setup{blocking(true), stops}},
		"resuming":                 {setup: []setup{takesHalf, after(0)}, resume: true},
		"resuming, by a goroutine": {setup: []setup{blocking(true), stops, after(0)}, resume: true},
		"retained":                 {setup: []setup{takesHalf}, resume: true, retain: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memory.Options{}, false)
			message := store.Message{Group: "a", UID: uidOf(2), Msg: []byte(strings.Repeat("x", large)), Retain: c.retain}
			if c.resume {
				r.publish(message)
			}
			if c.retain {
				c.setup = append(c.setup, start(delivery.Start{After: r.newest(), Live: true, Retained: true}))
			}
			all := make([]*listener, 30)
			for i := range all {
				all[i] = r.make(filters("a"), c.setup...)
				go r.run(all[i])
			}
			if !c.resume {
				r.parked(all...)
				r.publish(message)
			}
			for _, l := range all {
				l.await(t, "a write that waits", func() bool { return l.stuck > 0 })
			}
			if kept := r.set.Stats().Unsent; kept < large/2 || kept > large+large/10 {
				t.Errorf("%d streams in one message of %d bytes keep %d bytes, want one copy", len(all), large, kept)
			}
			for _, l := range all {
				l.reads()
			}
			end := r.say("a", "end")
			for _, l := range all {
				l.awaitSeq(t, end)
				if n := len(l.blocks()); n != 2 || len(l.blocks()[0].data) < large {
					t.Errorf("received %d blocks, the first of %d bytes, want 2 and at least %d bytes", n, len(l.blocks()[0].data), large)
				}
			}
			r.settles()
		})
	}
}

func TestUnsentMessagesAreBounded(t *testing.T) {
	const large, room = 256 << 10, 3 * 256 << 10
	for name, kind := range map[string][]setup{"sockets": {takesHalf}, "goroutines": {blocking(true), stops}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memory.Options{}, false)
			r.set.Close("")
			r.set = delivery.NewSet(r.log, false, room+room/10)
			var all []*listener
			for i := range 8 {
				r.say("a", strings.Repeat(fmt.Sprint(i), large))
			}
			ended := 0
			for i := range 8 { // each in another message
				l := r.make(filters("a"), append(kind, after(r.at(i)))...)
				go r.run(l)
				l.await(t, "a write that waits, or the end", func() bool { return l.stuck > 0 || l.closed })
				if l.stuckNow() {
					all = append(all, l)
					continue
				}
				ended++
				if why := l.ended(t); why != delivery.Slow {
					t.Errorf("a stream for which there is no room ends with the reason %q, want slow", why)
				}
			}
			if kept := r.set.Stats().Unsent; kept > room+room/10 || len(all) != 3 || ended != 5 {
				t.Errorf("%d streams keep %d bytes and %d have ended, want 3, at most %d bytes and 5", len(all), kept, ended, room+room/10)
			}
			small := r.make(filters("b"), append(kind, after(0))...)
			r.say("b", "small messages always have room")
			go r.run(small)
			small.await(t, "a write that waits", func() bool { return small.stuck > 0 })
			for _, l := range append(all, small) {
				l.reads()
			}
			r.settles()
			back := r.listen(filters("a"), after(r.at(7))) // a client resumes by id
			back.awaitSeq(t, r.at(8))
			for i, l := range all {
				l.awaitSeq(t, r.at(8))
				if n := len(l.blocks()); n != 8-i {
					t.Errorf("received %d messages after %d, want %d", n, i, 8-i)
				}
			}
		})
	}
}

func (c *fakeConn) stuckNow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuck > 0
}
