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

// grantOf returns the grant of a token for some filters.
func (r *rig) grantOf(filters string, life time.Duration) *access.Grant {
	r.Helper()
	g, err := access.NewGrant("anna", "", strings.Fields(filters), nil, false, time.Now(), time.Now().Add(life))
	if err != nil {
		r.Fatal(err)
	}
	return g
}

// callsAbout are the calls about a session, each with what it changes for the session's stream, which has the filters x and y.
var callsAbout = map[string]struct {
	call func(n *node, uid string) error
	gets map[string]bool // whether the stream gets messages to a group after the call
	bye  string
}{
	"heartbeat": {call: func(n *node, uid string) error {
		return errors.Join(n.OwnRequest(n.rig.Context(), uid, n.rig.grantOf("#", time.Hour)), n.SignOfLife(uid, n.rig.grantOf("#", time.Hour)))
	}},
	"will": {call: func(n *node, uid string) error {
		d := &Draft{Group: "wills", Kind: JSON, Data: []byte(`"gone"`)}
		return errors.Join(n.OwnRequest(n.rig.Context(), uid, n.rig.grantOf("#", time.Hour)), n.SetWill(n.rig.Context(), access.Everything, uid, d, nil))
	}},
	"join": {call: func(n *node, uid string) error { return n.JoinGroup(access.Everything, uid, group.Exact("z")) },
		gets: map[string]bool{"x": true, "y": true, "z": true}},
	"leave": {call: func(n *node, uid string) error { return n.LeaveGroup(uid, group.Exact("y")) }, gets: map[string]bool{"x": true, "y": false}},
	"token": {call: func(n *node, uid string) error { return n.Renew(uid, n.rig.grantOf("x", time.Hour)) }, gets: map[string]bool{"x": true, "y": false}},
	"direct message": {call: func(n *node, uid string) error {
		_, err := n.Send(n.rig.Context(), uid, &Publication{Grant: access.Everything, Kind: JSON, Body: []byte(`"direct"`)})
		return err
	}},
	"show": {call: func(n *node, uid string) error { _, err := n.Session(uid); return err }},
	"kick": {call: func(n *node, uid string) error { return n.EndSession(uid, session.Kicked) }, bye: "kicked"},
}

// TestACallRightAfterAStreamHasOpenedElsewhereKnowsIt has the hub that is called lag behind the one with the stream. The session is new,
// or already has streams that the hub knows of.
func TestACallRightAfterAStreamHasOpenedElsewhereKnowsIt(t *testing.T) {
	for name, c := range callsAbout {
		for _, earlier := range [][]int{nil, {1}, {2}} {
			t.Run(fmt.Sprintf("%s, streams before at %v", name, earlier), func(t *testing.T) {
				inRig(t, 3, func(r *rig) {
					for _, at := range earlier {
						r.hubs[at].listen(ann, "x y", func(s *Subscription) { s.Grant = r.grantOf("#", time.Hour) })
					}
					synctest.Wait()
					r.hubs[1].log.Pause()
					a := r.hubs[0].listen(ann, "x y", func(s *Subscription) { s.Grant = r.grantOf("#", time.Hour) })
					time.AfterFunc(callTimeout/2, r.hubs[1].log.Resume)
					r.must(c.call(r.hubs[1], session.UID(ann)))
					for name, want := range c.gets {
						if _, err := r.hubs[2].publish(name, "", `"to `+name+`"`); err != nil {
							t.Fatal(err)
						}
						if got := strings.Contains(a.text(), `"to `+name+`"`); got != want {
							t.Errorf("the stream gets messages to %s: %v, want %v", name, got, want)
						}
					}
					if a.bye() != c.bye {
						t.Errorf("the stream was ended for %q, want %q", a.bye(), c.bye)
					}
				})
			})
		}
	}
}

// TestWhileAHubLagsItSaysOfNoSessionThatThereIsNone, since it may have begun elsewhere.
func TestWhileAHubLagsItSaysOfNoSessionThatThereIsNone(t *testing.T) {
	for name, c := range callsAbout {
		for state, lag := range map[string]func(n *node) func(){
			"behind":  func(n *node) func() { n.log.Pause(); return n.log.Resume },
			"cut off": func(n *node) func() { n.log.Cut(); return n.log.Heal },
		} {
			t.Run(name+", "+state, func(t *testing.T) {
				inRig(t, 2, func(r *rig) {
					over := lag(r.hubs[1])
					began := time.Now()
					err := c.call(r.hubs[1], session.UID(ann))
					if !errors.Is(err, store.ErrAway) || time.Since(began) > 2*callTimeout {
						t.Errorf("after %v: %v", time.Since(began), err)
					}
					over()
					time.Sleep(time.Second) // synctest's clock
					if err := c.call(r.hubs[1], session.UID(ann)); !errors.Is(err, session.ErrUnknown) {
						t.Errorf("when it has caught up: %v", err)
					}
				})
			})
		}
	}
}

// joins has a hub add a filter to a session, and returns which of its streams get messages to it.
func (n *node) joins(filter string, streams map[string]*conn) (get []string) {
	n.rig.Helper()
	n.rig.must(n.JoinGroup(access.Everything, session.UID(ann), group.Exact(filter)))
	if _, err := n.publish(filter, "", `"to `+filter+`"`); err != nil {
		n.rig.Fatal(err)
	}
	for name, c := range streams {
		if strings.Contains(c.text(), `"to `+filter+`"`) {
			get = append(get, name)
		}
	}
	return get
}

func (n *node) wantJoins(filter, want string, streams map[string]*conn) {
	n.rig.Helper()
	if got := strings.Join(n.joins(filter, streams), ", "); got != want {
		n.rig.Errorf("hub %d joins %s: %q get it, want %q", n.at, filter, got, want)
	}
}

// TestAFilterIsAddedToTheNewestStreamWhicheverHubIsAsked opens two streams at any two hubs, and asks each hub. Hub 1 lags.
func TestAFilterIsAddedToTheNewestStreamWhicheverHubIsAsked(t *testing.T) {
	for old := range 3 {
		for newest := range 3 {
			for _, lags := range []bool{false, true} {
				inRig(t, 3, func(r *rig) {
					streams := map[string]*conn{"old": r.hubs[old].listen(ann, "x")}
					synctest.Wait()
					if lags && newest != 1 {
						r.hubs[1].log.Pause()
						time.AfterFunc(callTimeout/2, r.hubs[1].log.Resume)
					}
					streams["newest"] = r.hubs[newest].listen(ann, "x")
					for _, at := range []int{1, 0, 2} {
						r.hubs[at].wantJoins(fmt.Sprint("joined at ", at), "newest", streams)
					}
				})
			}
		}
	}
}

// TestWhenTheNewestStreamHasClosedTheNextNewestGetsTheFilter has streams open and close at two hubs, in turn.
func TestWhenTheNewestStreamHasClosedTheNextNewestGetsTheFilter(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		streams, opened := map[string]*conn{}, []string{}
		for i, at := range []int{0, 1, 0, 0, 1, 2, 0} {
			name := fmt.Sprint("stream ", i)
			streams[name] = r.hubs[at].listen(ann, "x")
			opened = append(opened, name)
			synctest.Wait()
			r.hubs[i%3].wantJoins("with "+name, name, streams)
		}
		for n := len(opened) - 1; n > 0; n-- {
			streams[opened[n]].leave()
			synctest.Wait()
			r.hubs[n%3].wantJoins("without "+opened[n], opened[n-1], streams)
		}
	})
}

// TestAHubWhoseStreamHasJustClosedPassesAJoinOn: the others do not know yet that the newest stream is closed.
func TestAHubWhoseStreamHasJustClosedPassesAJoinOn(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		streams := map[string]*conn{"old": r.hubs[0].listen(ann, "x")}
		synctest.Wait()
		newest := r.hubs[1].listen(ann, "x")
		synctest.Wait()
		r.hubs[1].log.Cut() // so that the closing cannot be stored
		newest.leave()
		synctest.Wait()
		r.hubs[1].log.Heal()
		r.hubs[2].wantJoins("y", "old", streams)
	})
}

// TestPollsAtTwoHubsInTurnWriteNothing: the streams of a session are numbered, and its polls are not.
func TestPollsAtTwoHubsInTurnWriteNothing(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		polls := func() {
			for i := range 10 {
				r.hubs[i%2].wantPoll("x", nil)
				synctest.Wait()
			}
		}
		polls()
		before := r.log.Steps()
		polls()
		if n := r.log.Steps() - before; n != 0 {
			t.Errorf("the polls have changed the log %d times", n)
		}
	})
}
