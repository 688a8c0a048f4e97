package delivery_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// payloads returns the data of the messages received so far.
func (l *listener) payloads() string {
	var list []string
	for _, b := range l.blocks() {
		if b.event == "" && b.data != "" {
			list = append(list, b.data)
		}
	}
	return strings.Join(list, " ")
}

func TestAStreamWithMessagesGetsNoHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory.Options{}, false)
		l := r.listen(filters("a"), beat(10*time.Second), view(delivery.View{Raw: true}))
		for i := range 5 {
			time.Sleep(6 * time.Second)
			r.say("a", fmt.Sprint(i))
			synctest.Wait()
		}
		if n := len(l.blocks()); n != 5 {
			t.Errorf("%d blocks, want the 5 messages: %+v", n, l.blocks())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(l.blocks()); n != 6 {
			t.Errorf("%d blocks after the silence, want a heartbeat, too: %+v", n, l.blocks())
		}
	})
}

func TestAnEndedStreamKnowsThePositionThatItReachedWhileParked(t *testing.T) {
	r := newRig(t, memory.Options{}, true)
	l := r.listen(filters("a"))
	r.parked(l)
	end := r.say("a", "x")
	l.awaitSeq(t, end)
	l.hangUp()
	l.ended(t)
	if pos := l.stream.Position(); pos != end {
		t.Errorf("the position is %d, want %d", pos, end)
	}
}

// A stream that skips to the newest message must not skip those of a filter that it has joined meanwhile.
func TestASlowStreamThatSkipsGetsTheMessagesOfFiltersItJoinedMeanwhile(t *testing.T) {
	r := newRig(t, memory.Options{}, true)
	r.policy("#", store.Policy{Slow: store.SlowSkip})
	l := r.listen(filters("a"), view(delivery.View{Raw: true}))
	r.parked(l)
	l.read(false)
	r.say("a", "unsent")
	l.await(t, "a write that waits", func() bool { return l.stuck > 0 })
	r.say("a", "skipped")
	if err := l.stream.Join(filters("b")[0]); err != nil {
		t.Fatal(err)
	}
	r.say("b", "1")
	end := r.say("b", "2")
	l.read(true)
	l.awaitSeq(t, end)
	if got := l.payloads(); got != "unsent 1 2" {
		t.Errorf("received %s, want unsent 1 2", got)
	}
}

// hookedLog is a log whose reads for the filter x pass through hooks.
type hookedLog struct {
	store.Store
	following  func()             // called once, after the first read of the stream that follows
	catchingUp func(*store.Batch) // changes the result of the first read of a shard for the stream

	followed, caughtUp atomic.Bool
}

func (h *hookedLog) Read(q store.Query, b *store.Batch) error {
	err := h.Store.Read(q, b)
	set, ok := q.Select.(group.Set)
	if !ok || !set.Match("x") {
		return err
	}
	if q.Through == 0 && h.followed.CompareAndSwap(false, true) {
		h.following()
	}
	if q.Through > 0 && h.caughtUp.CompareAndSwap(false, true) {
		h.catchingUp(b)
	}
	return err
}

// The shard has moved on when a stream parks, and one read does not give the stream all that it missed.
func TestAStreamThatParksBehindItsShardLosesNothing(t *testing.T) {
	for name, incomplete := range map[string]func(*store.Batch){
		"a gap":        func(b *store.Batch) { b.Frames, b.Gaps = nil, []store.Gap{{Filter: "a", Evicted: b.Next}} },
		"a short read": func(b *store.Batch) { b.Frames, b.Next = b.Frames[:1], b.Frames[0].Seq },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memory.Options{}, false)
			log := &hookedLog{Store: r.log, catchingUp: incomplete}
			r.set.Close("")
			r.set = delivery.NewSet(log, false, 1<<30)
			var others []*listener // at least one on each shard
			for range 4 * runtime.GOMAXPROCS(0) {
				others = append(others, r.listen(filters("a")))
			}
			log.following = func() {
				end := store.Seq(0)
				for i := range 3 {
					end = r.say("a", fmt.Sprint(i))
				}
				for _, l := range others {
					l.awaitSeq(t, end)
				}
			}
			l := r.listen(filters("a", "x"), view(delivery.View{Raw: true}))
			l.awaitSeq(t, r.newest())
			if got := l.payloads(); got != "0 1 2" || !log.caughtUp.Load() {
				t.Errorf("received %s, want 0 1 2; the shard caught up: %t", got, log.caughtUp.Load())
			}
		})
	}
}
