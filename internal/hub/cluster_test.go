package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/session"
)

func TestASessionHopsBetweenHubs(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		a := r.hubs[0].listen(ann, "x")
		b := r.hubs[1].listen(ann, "x y")
		a.leave()
		synctest.Wait()
		for _, n := range r.hubs {
			if s, err := n.Session(session.UID(ann)); err != nil || s.Open != 1 || len(s.Filters) != 2 || !s.Lost.IsZero() {
				t.Errorf("hub %d shows %+v, %v", n.at, s, err)
			}
		}
		b.leave()
		time.Sleep(time.Second)
		r.wantPresence(ann, "join x, join y, lost x closed, lost y closed")
		r.hubs[0].listen(ann, "y")
		time.Sleep(time.Minute)
		r.wantPresence(ann, "join x, join y, lost x closed, lost y closed, back y closed, leave x closed")
		r.must(r.hubs[1].EndSession(session.UID(ann), session.Kicked))
		r.wantPresence(ann, "join x, join y, lost x closed, lost y closed, back y closed, leave x closed, gone y kicked")
		if got, want := r.callbacks(ann), "connect at 0, join x at 0, join y at 1, reconnect at 0, leave x at 1, disconnect at 1"; got != want && got != strings.Replace(want, "leave x at 1", "leave x at 0", 1) {
			t.Errorf("callbacks: %s", got)
		}
		if got := r.log.Notes(); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, sessionNotes) }) {
			t.Errorf("notes are left: %q", got)
		}
	})
}

func TestAnEndedSessionsStreamsAtOtherHubsGetTheReason(t *testing.T) {
	for _, why := range []session.Reason{session.Ended, session.Kicked} {
		inRig(t, 3, func(r *rig) {
			a, b := r.hubs[0].listen(ann, "x"), r.hubs[1].listen(ann, "x")
			synctest.Wait()
			r.must(r.hubs[2].EndSession(session.UID(ann), why))
			if a.bye() != string(why) || b.bye() != string(why) {
				t.Errorf("bye with the reasons %q and %q, want %q", a.bye(), b.bye(), why)
			}
			r.wantPresence(ann, "join x, gone x "+string(why))
			time.Sleep(time.Second)
			if got := r.log.Notes(); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, sessionNotes) }) {
				t.Errorf("notes are left: %q", got)
			}
			c := r.hubs[2].listen(ann, "x") // a new session
			if c.bye() != "" {
				t.Error("the new stream was ended")
			}
			r.wantPresence(ann, "join x, gone x "+string(why)+", join x")
		})
	}
}

func TestSessionsOfAHubThatDiesAreLostAndThenGoneOrBack(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		r.hubs[0].listen(ann, "x")
		r.hubs[0].listen(bob, "x")
		r.hubs[0].log.Kill()
		time.Sleep(10 * time.Second)
		r.wantPresence(ann, "join x, lost x partitioned")
		r.hubs[2].listen(bob, "x")
		time.Sleep(time.Minute)
		r.wantPresence(ann, "join x, lost x partitioned, gone x partitioned")
		r.wantPresence(bob, "join x, lost x partitioned, back x partitioned")
		if got := r.callbacks(ann); !strings.HasPrefix(got, "connect at 0, join x at 0, disconnect at ") || strings.Count(got, "disconnect") != 1 {
			t.Errorf("callbacks: %s", got)
		}
	})
}

func TestAHubThatWasPausedEndsItsStreams(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		a := r.hubs[0].listen(ann, "x")
		r.hubs[0].log.Pause()
		time.Sleep(12 * time.Second)
		r.wantPresence(ann, "join x, lost x partitioned")
		r.hubs[0].log.Resume()
		time.Sleep(3 * time.Second)
		if a.bye() != "partitioned" {
			t.Errorf("the stream of the paused hub is %q", a.text())
		}
		r.hubs[0].listen(ann, "x")
		time.Sleep(time.Minute)
		r.wantPresence(ann, "join x, lost x partitioned, back x partitioned")
	})
}

func TestSessionsOfAClosedHubAreLostAndNotGone(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		a := r.hubs[0].listen(ann, "x")
		r.must(r.hubs[0].Close())
		if a.bye() != "shutdown" {
			t.Errorf("bye %q", a.bye())
		}
		time.Sleep(4 * time.Second)
		r.wantPresence(ann, "join x, lost x shutdown")
		r.hubs[1].listen(ann, "x")
		time.Sleep(time.Minute)
		r.wantPresence(ann, "join x, lost x shutdown, back x shutdown")
		r.hubs[0] = r.begin(0)
		r.hubs[1].Close()
		r.hubs[0].listen(ann, "x")
		r.hubs[1] = r.begin(1)
		time.Sleep(time.Minute)
		if s, err := r.hubs[1].Session(session.UID(ann)); err != nil || s.Open != 1 {
			t.Errorf("a hub that started later shows %+v, %v", s, err)
		}
	})
}

// TestTheWillOfAClosedHubsSessionIsSent has a session that does not return after its hub has closed, with each delay that a
// will may have.
func TestTheWillOfAClosedHubsSessionIsSent(t *testing.T) {
	none, short, long := time.Duration(0), time.Second, time.Hour
	for _, delay := range []*time.Duration{nil, &none, &short, &long} {
		inRig(t, 2, func(r *rig) {
			r.hubs[0].listen(ann, "x")
			r.must(r.hubs[0].SetWill(t.Context(), access.Everything, session.UID(ann), &Draft{Group: "wills", Kind: JSON, Data: []byte("1")}, delay))
			r.must(r.hubs[0].Close())
			time.Sleep(time.Minute)
			r.wantPresence(ann, "join x, lost x shutdown, gone x shutdown")
			if n := r.count("wills"); n != 1 {
				t.Errorf("%d wills were sent", n)
			}
			if n := r.hubs[1].wills.Load(); n != 0 {
				t.Errorf("wills take %d bytes", n)
			}
		})
	}
}

func TestAllHubsMayStartAnew(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		will := time.Duration(0)
		r.hubs[0].listen(ann, "x")
		r.hubs[1].listen(bob, "x")
		r.must(r.hubs[1].SetWill(t.Context(), access.Everything, session.UID(ann), &Draft{Group: "wills", Kind: JSON, Data: []byte("1")}, &will))
		for i := range r.hubs {
			r.hubs[i].log.Kill()
			go r.hubs[i].Close()
		}
		time.Sleep(time.Hour)
		for i := range r.hubs {
			r.hubs[i] = r.begin(i)
		}
		time.Sleep(14 * time.Second)
		r.hubs[1].listen(bob, "x")
		time.Sleep(time.Minute)
		r.wantPresence(ann, "join x, lost x partitioned, gone x partitioned")
		r.wantPresence(bob, "join x, lost x partitioned, back x partitioned")
		if n := r.count("wills"); n != 1 {
			t.Errorf("%d wills were sent", n)
		}
		for _, n := range r.hubs {
			if n.wills.Load() != 0 {
				t.Errorf("wills take %d bytes", n.wills.Load())
			}
		}
	})
}

// count returns how many messages a group got.
func (r *rig) count(name string) (n int) {
	synctest.Wait()
	for _, m := range r.log.Messages() {
		if m.Group == name {
			n++
		}
	}
	return n
}

func TestASessionFlapsBetweenTwoHubs(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		r.log.Delay = time.Millisecond
		const times = 1000
		last := r.hubs[0].listen(ann, "x")
		for i := range times {
			last.leave()
			if i%3 == 0 {
				time.Sleep(rand.N(3 * time.Millisecond))
			}
			last = r.hubs[(i+1)%2].listen(ann, "x")
		}
		time.Sleep(time.Minute)
		check := newChecker()
		check.all(r.log.Messages())
		for _, wrong := range check.wrong {
			t.Error(wrong)
		}
		if got := r.callbacks(ann); strings.Contains(got, "disconnect") || strings.Count(got, "join") != 1 {
			t.Errorf("callbacks: %.300s", got)
		}
		if check.is(session.UID(ann), "x") != "here" {
			t.Errorf("at the end it is %q", check.is(session.UID(ann), "x"))
		}
	})
}

func TestTwoThousandSessionsOfAKilledHubAreGoneOnceOrBack(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		const n = 2000
		secret := func(i int) string { return fmt.Sprintf("the-secret-of-number-%d", i) }
		for i := range n {
			r.hubs[0].listen(secret(i), "x")
		}
		r.hubs[0].log.Kill()
		go r.hubs[0].Close()
		var all sync.WaitGroup
		for i := range n / 2 {
			all.Go(func() {
				time.Sleep(rand.N(8 * time.Second))
				r.hubs[1+i%2].listen(secret(i), "x")
			})
		}
		all.Wait()
		time.Sleep(time.Minute)
		check := newChecker()
		check.all(r.log.Messages())
		for _, wrong := range check.wrong {
			t.Error(wrong)
		}
		for i := range n {
			want := "here"
			if i >= n/2 {
				want = "none"
			}
			if got := check.is(session.UID(secret(i)), "x"); got != want {
				t.Errorf("session %d is %q", i, got)
			}
			if got := r.callbacks(secret(i)); strings.Count(got, "disconnect") != i/(n/2) {
				t.Errorf("session %d: %s", i, got)
			}
		}
	})
}
