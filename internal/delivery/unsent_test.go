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

// takesHalf has a connection take half of what it is offered and then nothing, until its other side reads.
func takesHalf(_ *delivery.Config, c *fakeConn) {
	c.takes = func(n int) int {
		c.stopped = true
		return n / 2
	}
}

// reads has the other side read everything from now on.
func (l *listener) reads() {
	l.mu.Lock()
	l.takes = nil
	l.mu.Unlock()
	l.read(true)
}

func stops(_ *delivery.Config, c *fakeConn) { c.stopped = true }

// settles waits until the hub keeps no bytes for streams.
func (r *rig) settles() {
	r.t.Helper()
	for late := time.Now().Add(patience); r.set.Stats().Unsent != 0; runtime.Gosched() {
		if time.Now().After(late) {
			r.t.Fatalf("%d bytes are kept for streams that have everything", r.set.Stats().Unsent)
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
		"retained":                 {setup: []setup{takesHalf, start(delivery.Start{After: 1, Live: true, Retained: true})}, resume: true, retain: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memory.Options{}, false)
			message := store.Message{Group: "a", UID: uidOf(2), Msg: []byte(strings.Repeat("x", large)), Retain: c.retain}
			if c.resume {
				r.publish(message)
			}
			all := make([]*listener, 30)
			for i := range all {
				all[i] = r.make(filters("a"), c.setup...)
				go r.run(all[i])
			}
			if !c.resume {
				for r.set.Listeners([]string{"a"})[0] < len(all) {
					runtime.Gosched()
				}
				r.publish(message)
			}
			for _, l := range all {
				l.await(t, "the write that waits", func() bool { return l.stuck > 0 })
			}
			if kept := r.set.Stats().Unsent; kept < large/2 || kept > large+large/10 {
				t.Errorf("%d bytes are kept for %d streams in one message of %d", kept, len(all), large)
			}
			for _, l := range all {
				l.reads()
			}
			end := r.say("a", "end")
			for _, l := range all {
				l.awaitSeq(t, end)
				if n := len(l.blocks()); n != 2 || len(l.blocks()[0].data) < large {
					t.Errorf("%d blocks come, the first of %d bytes", n, len(l.blocks()[0].data))
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
				l := r.make(filters("a"), append(kind, after(store.Seq(i)))...)
				go r.run(l)
				l.await(t, "its write waits, or it is ended", func() bool { return l.stuck > 0 || l.closed })
				if l.stuckNow() {
					all = append(all, l)
					continue
				}
				ended++
				if why := l.ended(t); why != delivery.Slow {
					t.Errorf("a stream for which there is no room ends as %q", why)
				}
			}
			if kept := r.set.Stats().Unsent; kept > room+room/10 || len(all) != 3 || ended != 5 {
				t.Errorf("%d streams keep %d bytes, %d are ended", len(all), kept, ended)
			}
			small := r.make(filters("b"), append(kind, after(0))...)
			r.say("b", "small messages always have room")
			go r.run(small)
			small.await(t, "its write waits", func() bool { return small.stuck > 0 })
			for _, l := range append(all, small) {
				l.reads()
			}
			r.settles()
			back := r.listen(filters("a"), after(7)) // a client resumes by id
			back.awaitSeq(t, 8)
			for i, l := range all {
				l.awaitSeq(t, 8)
				if n := len(l.blocks()); n != 8-i {
					t.Errorf("%d messages come behind %d", n, i)
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
