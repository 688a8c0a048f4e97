package hub

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// lines returns how many lines with a text the hubs have logged.
func (r *rig) lines(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.logged {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// tooLarge is logged of a session that is too large.
const tooLarge = "a session is too large for the store"

// filtersOf returns n filters of 50 bytes.
func filtersOf(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("%050d", i))
	}
	return strings.Join(list, " ")
}

// TestAFilterWithWhichASessionIsTooLargeIsRefused opens streams and joins groups for which the store has no room in one note.
func TestAFilterWithWhichASessionIsTooLargeIsRefused(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		r.log.MaxNote.Store(2000)
		if _, err := r.hubs[0].tryListen(ann, filtersOf(50)); !errors.Is(err, session.ErrTooManyFilters) {
			t.Errorf("a stream with 50 filters: %v", err)
		}
		b := r.hubs[0].listen(bob, filtersOf(5))
		synctest.Wait()
		joined := 0
		var err error
		for ; err == nil && joined < 50; joined++ {
			err = r.hubs[1].JoinGroup(access.Everything, session.UID(bob), group.Exact(fmt.Sprint("more", joined)))
		}
		if err != session.ErrTooManyFilters || joined < 2 {
			t.Errorf("join %d: %v", joined, err)
		}
		if _, err := r.hubs[1].publish(fmt.Sprint("more", joined-1), "", `"refused"`); err != nil {
			t.Error(err)
		}
		if _, err := r.hubs[1].publish(fmt.Sprint("more", joined-2), "", `"taken"`); err != nil {
			t.Error(err)
		}
		if text := b.text(); strings.Contains(text, "refused") || !strings.Contains(text, "taken") {
			t.Errorf("the stream got %s", text)
		}
		before := r.log.Refused.Load()
		time.Sleep(time.Hour)
		if n := r.log.Refused.Load() - before; n > 0 {
			t.Errorf("what was refused is tried again %d times", n)
		}
		if n := r.lines(tooLarge); n != 1 {
			t.Errorf("%d lines are logged", n)
		}
		for _, n := range r.hubs {
			if got := n.Stats().Sessions; got != 1 {
				t.Errorf("hub %d has %d sessions", n.at, got)
			}
		}
	})
}

// setWill sets a will of ann's session, in the group w.
func (n *node) setWill(text string, delay *time.Duration) {
	n.rig.Helper()
	d := &Draft{Group: "w", Kind: JSON, Data: []byte(`"` + text + `"`)}
	n.rig.must(n.SetWill(n.rig.Context(), access.Everything, session.UID(ann), d, delay))
}

// wills returns how many wills were sent.
func (r *rig) wills() (n int) {
	synctest.Wait()
	for _, m := range r.log.Messages() {
		if m.Group == "w" {
			n++
		}
	}
	return n
}

// wantSessions compares the number of sessions at each hub.
func (r *rig) wantSessions(want int64) {
	r.Helper()
	synctest.Wait()
	for _, n := range r.hubs {
		if got := n.Stats().Sessions; got != want {
			r.Errorf("hub %d has %d sessions, want %d", n.at, got, want)
		}
	}
}

// wantQuiet fails the test if something that the store refuses is tried again.
func (r *rig) wantQuiet() {
	r.Helper()
	before := r.log.Refused.Load()
	time.Sleep(5 * time.Minute)
	if n := r.log.Refused.Load() - before; n > 0 {
		r.Errorf("what was refused is tried again %d times", n)
	}
	if n := r.lines(tooLarge); n != 1 {
		r.Errorf("%d lines are logged", n)
	}
}

// TestASessionThatIsTooLargeWhenItIsLostIsKeptWithoutItsFilters has a session for whose lost filters the store has no room.
func TestASessionThatIsTooLargeWhenItIsLostIsKeptWithoutItsFilters(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		a := r.hubs[0].listen(ann, filtersOf(50))
		r.hubs[0].setWill("is sent", new(5*time.Second))
		synctest.Wait()
		r.log.MaxNote.Store(2000)
		a.leave()
		time.Sleep(4 * time.Second)
		r.wantSessions(1)
		if got := r.presence(ann); strings.Count(got, "leave") != 50 || strings.Contains(got, "lost") {
			t.Errorf("announced is %s", got)
		}
		if n := r.wills(); n != 0 {
			t.Errorf("%d wills are sent too early", n)
		}
		time.Sleep(4 * time.Second)
		if n := r.wills(); n != 1 {
			t.Errorf("%d wills are sent", n)
		}
		r.wantSessions(1)
		time.Sleep(3 * time.Second)
		r.wantSessions(0)
		r.wantQuiet()
		if got := r.presence(ann); strings.Count(got, "leave") != 50 {
			t.Errorf("announced is %s", got)
		}
		if n := r.lines("appending a message"); n > 0 {
			t.Errorf("%d lines say that messages are lost", n)
		}
	})
}

// TestASessionThatCannotBeStoredAtAllEndsWithItsLastStream lowers the limit of the store below what is left of a session without
// its filters. It has streams at two hubs. At the first one, one of two streams closes before.
func TestASessionThatCannotBeStoredAtAllEndsWithItsLastStream(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		var streams []*conn
		for _, at := range []int{0, 0, 1} {
			streams = append(streams, r.hubs[at].listen(ann, filtersOf(at+1)))
		}
		r.hubs[1].setWill("is sent", new(time.Hour))
		synctest.Wait()
		r.log.MaxNote.Store(100)
		streams[2].leave()
		synctest.Wait()
		r.wantSessions(0)
		if streams[0].bye() == "" || streams[1].bye() == "" {
			t.Errorf("the other streams go on: %s", streams[0].text())
		}
		if n := r.wills(); n != 1 {
			t.Errorf("%d wills are sent", n)
		}
		r.wantNoNotes()
		r.wantQuiet()
	})
}

// TestAConnectedSessionThatHasBecomeTooLargeGoesOn lowers the limit of the store below a session that has two streams.
func TestAConnectedSessionThatHasBecomeTooLargeGoesOn(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		a := r.hubs[0].listen(ann, filtersOf(50))
		b := r.hubs[0].listen(ann, "y")
		synctest.Wait()
		r.log.MaxNote.Store(2000)
		b.leave()
		synctest.Wait()
		r.wantQuiet()
		r.wantSessions(1)
		if why := a.bye(); why != "" {
			t.Errorf("the stream has ended: %s", why)
		}
		if _, err := r.hubs[1].tryListen(ann, "z"); !errors.Is(err, session.ErrTooManyFilters) {
			t.Errorf("one more stream: %v", err)
		}
		a.leave()
		time.Sleep(time.Minute)
		r.wantSessions(0)
		r.wantNoNotes()
	})
}

// TestALastWillIsSentThoughAnnouncementsAreTooLarge has a store that takes the will and not the presence messages beside it, or
// neither of them.
func TestALastWillIsSentThoughAnnouncementsAreTooLarge(t *testing.T) {
	for text, want := range map[string]int{"short": 1, strings.Repeat("long", 100): 0} {
		inRig(t, 2, func(r *rig) {
			a := r.hubs[0].listen(ann, strings.Repeat("x", 250))
			r.hubs[0].setWill(text, nil)
			synctest.Wait()
			r.log.MaxMessage.Store(300)
			a.leave()
			time.Sleep(time.Minute)
			r.wantSessions(0)
			if n := r.wills(); n != want {
				t.Errorf("%d wills are sent, want %d", n, want)
			}
			if n := r.lines("group=w "); n != 1-want {
				t.Errorf("%d lines say that the will is lost", n)
			}
			if n := r.lines("group=$presence/xxx"); n != 2 { // of the loss and of the end
				t.Errorf("%d lines say that the presence of the session is lost", n)
			}
		})
	}
}

// TestAPositionThatIsTooLargeEndsWhenAnotherHubNeedsIt lowers the limit of the store below a position. Its reader is at a hub that
// lives, or that has died, and comes to another one.
func TestAPositionThatIsTooLargeEndsWhenAnotherHubNeedsIt(t *testing.T) {
	for _, dies := range []bool{false, true} {
		inRig(t, 3, func(r *rig) {
			p := place("k", 1)
			p.Data = make([]byte, 5000)
			r.hubs[0].claim("k")
			r.must(r.hubs[0].Cursors().Save(p))
			r.must(r.hubs[0].Cursors().Flush(r.Context(), "k"))
			r.log.MaxNote.Store(2000)
			if dies {
				r.hubs[0].log.Kill()
				time.Sleep(store.SilentFor)
			} else {
				p.Done, p.Read = 2, 2
				r.must(r.hubs[0].Cursors().Save(p))
			}
			time.Sleep(time.Minute)
			if n := r.log.Refused.Load(); n > 1 {
				t.Errorf("it is tried %d times", n)
			}
			if got := r.hubs[1].claim("k"); got != 0 {
				t.Errorf("the other hub gets number %d", got)
			}
			r.must(r.hubs[1].Cursors().Save(place("k", 3)))
			if got := r.hubs[2].claim("k"); got != 3 {
				t.Errorf("the next one gets number %d", got)
			}
			if n := r.lines("position of a reader is too large"); n < 1 || n > 2 { // once at each hub that has had it
				t.Errorf("%d lines are logged: %q", n, r.logged)
			}
		})
	}
}
