package hub

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
)

// poll makes one poll of the session of a secret.
func (n *node) poll(secret, filter string, wait time.Duration) error {
	p, err := n.Poll(n.rig.Context(), &Subscription{Grant: access.Everything, Secret: secret, Filters: group.Set{group.Exact(filter)}}, wait)
	if err == nil {
		p.Close()
	}
	return err
}

// wantPoll makes a poll and compares its outcome: ErrSessionEnded or nil.
func (n *node) wantPoll(filter string, want error) {
	n.rig.Helper()
	if err := n.poll(ann, filter, 0); !errors.Is(err, want) {
		n.rig.Errorf("a poll at hub %d: %v, want %v", n.at, err, want)
	}
}

// kick ends the session by this hub, and waits until all hubs know.
func (n *node) kick() {
	n.rig.Helper()
	n.rig.must(n.EndSession(session.UID(ann), session.Kicked))
	synctest.Wait()
}

// wantNoNotes reports documents of sessions that are left.
func (r *rig) wantNoNotes() {
	r.Helper()
	synctest.Wait()
	if got := r.log.Notes(); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, sessionNotes) }) {
		r.Errorf("notes are left: %q", got)
	}
}

// wantPolls compares the outcomes of two polls at each hub.
func (r *rig) wantPolls(filter string, want error) {
	r.Helper()
	for range 2 {
		for _, n := range r.hubs {
			n.wantPoll(filter, want)
		}
		synctest.Wait()
	}
}

// forgotten waits until a kick is forgotten.
func (r *rig) forgotten() {
	r.Helper()
	time.Sleep(r.hubs[0].opts.SessionTimeout) // synctest's clock
	r.wantNoNotes()
}

// TestAKickBetweenTwoPollsIsToldAtAnyHubUntilItIsForgotten has each hub kick a session that polled at another one, or at two of them.
func TestAKickBetweenTwoPollsIsToldAtAnyHubUntilItIsForgotten(t *testing.T) {
	const hubs = 3
	for kicker := range hubs {
		for next := range hubs {
			inRig(t, hubs, func(r *rig) {
				for _, filter := range []string{"x", "joined"} {
					for _, before := range [][]int{{0}, {0, 1}} {
						for _, at := range before {
							r.hubs[at].wantPoll("x", nil)
						}
						synctest.Wait()
						r.hubs[kicker].kick()
						r.hubs[next].wantPoll(filter, ErrSessionEnded)
						synctest.Wait()
						r.wantPolls(filter, ErrSessionEnded) // the client may not have got the answer
						r.forgotten()
						r.wantPolls("x", nil)
						r.must(r.hubs[kicker].EndSession(session.UID(ann), session.Ended))
						synctest.Wait()
						r.hubs[next].wantPoll("x", nil) // its own wish
						synctest.Wait()
						r.must(r.hubs[next].EndSession(session.UID(ann), session.Ended))
						synctest.Wait()
					}
				}
				r.wantNoNotes()
			})
		}
	}
}

func TestAKickBetweenTwoPollsIsToldToAStreamAtAnyHub(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		r.hubs[0].wantPoll("x", nil)
		synctest.Wait()
		r.hubs[0].kick()
		for range 2 {
			for _, n := range r.hubs {
				if c := n.listen(ann, "x"); c.bye() != "kicked" {
					t.Errorf("a stream at hub %d is %q", n.at, c.text())
				}
			}
		}
		r.forgotten()
		if c := r.hubs[0].listen(ann, "x"); c.bye() != "" {
			t.Errorf("a later one is %q", c.text())
		}
		for _, n := range r.hubs[1:] {
			if open := n.streams.Load(); open != 0 {
				t.Errorf("hub %d counts %d streams", n.at, open)
			}
		}
	})
}

func TestAKickIsForgottenAfterTheSessionTimeoutOrAMinute(t *testing.T) {
	for timeout, told := range map[time.Duration]time.Duration{10 * time.Second: 10 * time.Second, 24 * time.Hour: time.Minute} {
		for _, dies := range []bool{false, true} {
			inRig(t, 3, func(r *rig) {
				late := time.Duration(0)
				r.hubs[0].wantPoll("x", nil)
				synctest.Wait()
				r.hubs[2].kick()
				if dies {
					r.hubs[2].log.Kill()
					late = 15 * time.Second // the others give it up first
				}
				time.Sleep(told - time.Second)
				r.hubs[1].wantPoll("x", ErrSessionEnded)
				time.Sleep(late + 2*time.Second)
				r.wantNoNotes()
				r.hubs[1].wantPoll("x", nil)
			}, func(o *Options) { o.SessionTimeout = timeout })
		}
	}
}

// TestAPollThatWaitsIsToldOfAKickAndSoAreLaterOnes: the session has polled at another hub before.
func TestAPollThatWaitsIsToldOfAKickAndSoAreLaterOnes(t *testing.T) {
	for kicker := range 3 {
		inRig(t, 3, func(r *rig) {
			r.hubs[0].wantPoll("x", nil)
			answer := make(chan error, 1)
			go func() { answer <- r.hubs[1].poll(ann, "x", time.Minute) }()
			synctest.Wait()
			r.hubs[kicker].kick()
			if err := <-answer; !errors.Is(err, ErrSessionEnded) {
				t.Errorf("the poll that waits: %v", err)
			}
			synctest.Wait()
			r.wantPolls("x", ErrSessionEnded)
			r.forgotten()
			r.wantPolls("x", nil)
		})
	}
}

// leaver is the context of a request whose client may have left. It does not tell that by its channel.
type leaver struct {
	context.Context
	left atomic.Bool
}

func (l *leaver) Err() error {
	if l.left.Load() {
		return context.Canceled
	}
	return nil
}

// TestAPollOfAClientThatHasLeftDoesNotTellOfAKick: the next ones do.
func TestAPollOfAClientThatHasLeftDoesNotTellOfAKick(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		ctx := &leaver{Context: r.Context()}
		answer := make(chan error, 1)
		go func() {
			_, err := r.hubs[0].Poll(ctx, &Subscription{Grant: access.Everything, Secret: ann, Filters: group.Set{group.Exact("x")}}, time.Minute)
			answer <- err
		}()
		synctest.Wait()
		ctx.left.Store(true)
		r.hubs[0].kick()
		if err := <-answer; !errors.Is(err, context.Canceled) {
			t.Errorf("the poll that waits: %v", err)
		}
		synctest.Wait()
		r.wantPolls("x", ErrSessionEnded)
		r.forgotten()
	})
}

// TestPollsAndKicksAtOnce: each poll is answered as if it had come before or after the kick.
func TestPollsAndKicksAtOnce(t *testing.T) {
	for kicker := range 2 {
		inRig(t, 2, func(r *rig) {
			for range 50 {
				r.hubs[0].wantPoll("x", nil)
				synctest.Wait()
				answer := make(chan error, 1)
				go func() { answer <- r.hubs[1].poll(ann, "y", 0) }()
				r.hubs[kicker].kick()
				switch err := <-answer; {
				case errors.Is(err, ErrSessionEnded):
				case err == nil:
					r.hubs[1].wantPoll("x", ErrSessionEnded)
				default:
					t.Error(err)
				}
				synctest.Wait()
				r.forgotten()
				r.hubs[0].wantPoll("x", nil)
				synctest.Wait()
				r.must(r.hubs[0].EndSession(session.UID(ann), session.Ended))
				synctest.Wait()
			}
			r.wantNoNotes()
		})
	}
}
