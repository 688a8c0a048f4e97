package session

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
)

// A call for a session that is due may begin though the session has ended.
func TestASessionEndsOnceThoughItsTimerHasFired(t *testing.T) {
	inABubble(t, func(w *world) {
		w.open("u", "x", 0).close(Closed)
		s := w.find("u")
		time.Sleep(timeout - 1)
		if err := w.End("u", Kicked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Nanosecond)
		s.onTime()
		w.wantEvents("u", "connect, join x, lost x closed, gone x kicked, disconnect kicked")
	})
}

func TestSessionsThatAreGoneDoNotCountAsLost(t *testing.T) {
	inABubble(t, func(w *world) {
		w.MaxLost = 1
		for _, end := range []func(){
			func() { time.Sleep(timeout) },
			func() { _ = w.End("u", Kicked) },
			func() { w.open("u", "x", 0); _ = w.End("u", Ended) },
		} {
			w.open("u", "x", 0).close(Closed)
			if err := w.Admit("v", "", nil); err != ErrTooManySessions {
				t.Errorf("a session that is lost: %v", err)
			}
			end()
			synctest.Wait()
			if err := w.Admit("v", "", nil); err != nil {
				t.Errorf("a session that is gone: %v", err)
			}
		}
	})
}

// TestASessionIsKeptAsItsLastStreamSays has sessions whose wills would hold them for a minute.
func TestASessionIsKeptAsItsLastStreamSays(t *testing.T) {
	for keep, want := range map[time.Duration]time.Duration{
		0: time.Minute, time.Hour: time.Minute, 20 * time.Second: 20 * time.Second, 2 * time.Second: 2 * time.Second, time.Millisecond: time.Second,
	} {
		inABubble(t, func(w *world) {
			first := w.open("u", "x", 0)
			first.Keep(time.Second)
			first.close(Closed)
			s := w.open("u", "x", 0)
			s.Keep(keep)
			delay := time.Minute
			w.must(w.SetWill("u", &Will{Delay: &delay, Holds: true}))
			time.Sleep(time.Hour)
			s.close(Closed)
			w.wantEvents("u", "connect, join x, lost x closed, reconnect closed, back x closed, lost x closed")
			time.Sleep(want - 1)
			w.wantEvents("u", "")
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if w.Len() > 0 {
				t.Errorf("after %v, a session that is kept for %v is not gone", want, keep)
			}
		})
	}
}

// refusing is a stream that refuses to leave a filter.
type refusing struct{ *stream }

var errRefused = errors.New("too many changes")

func (refusing) Leave(group.Filter) error { return errRefused }

func TestALeaveThatFailsHalfwayKeepsTheOtherStreamsMembership(t *testing.T) {
	inABubble(t, func(w *world) {
		w.open("u", "x", 0)
		s := refusing{&stream{attached: make(chan struct{})}}
		s.Attachment = w.attach("u", parse("x"), 0, s)
		close(s.attached)
		if err := w.Leave("u", group.Exact("x")); err != errRefused {
			t.Fatal(err)
		}
		w.wantEvents("u", "connect, join x")
		s.close(Closed)
		w.wantEvents("u", "lost x closed")
		time.Sleep(timeout)
		w.wantEvents("u", "leave x closed") // the session is connected
	})
}
