package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// publish publishes a JSON value to a group, with an idempotency key unless it is "".
func (n *node) publish(name, key, value string) (Receipt, error) {
	return n.Publish(n.rig.Context(), &Publication{Grant: access.Everything, Group: name, Kind: JSON, Body: []byte(value), Key: key})
}

func TestAnyHubJoinsAndLeavesForASession(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		a := r.hubs[0].listen(ann, "x")
		uid := session.UID(ann)
		synctest.Wait()
		r.must(r.hubs[1].JoinGroup(access.Everything, uid, group.Exact("y")))
		if _, err := r.hubs[2].publish("y", "", `"to y"`); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(a.text(), `"to y"`) {
			t.Errorf("the stream got %s", a.text())
		}
		r.must(r.hubs[2].LeaveGroup(uid, group.Exact("x")))
		r.wantPresence(ann, "join x, join y, leave x")
		r.hubs[1].listen(ann, "y z")
		synctest.Wait()
		r.must(r.hubs[2].LeaveGroup(uid, group.Exact("y"))) // both hubs' streams leave it
		r.wantPresence(ann, "join x, join y, leave x, join z, leave y")
		if err := r.hubs[2].JoinGroup(access.Everything, session.UID(bob), group.Exact("y")); err != session.ErrUnknown {
			t.Errorf("joining for an unknown session: %v", err)
		}
	})
}

// TestALeaveComesBehindWhatOtherHubsHaveAnswered has the hub with the stream lag behind the one that answers a message.
func TestALeaveComesBehindWhatOtherHubsHaveAnswered(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		a := r.hubs[0].listen(ann, "x")
		synctest.Wait()
		r.hubs[0].log.Pause()
		if _, err := r.hubs[1].publish("x", "", `"before"`); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(catchUpTimeout/2, r.hubs[0].log.Resume)
		r.must(r.hubs[0].LeaveGroup(session.UID(ann), group.Exact("x")))
		if _, err := r.hubs[1].publish("x", "", `"after"`); err != nil {
			t.Fatal(err)
		}
		if got := a.text(); !strings.Contains(got, `"before"`) || strings.Contains(got, `"after"`) {
			t.Errorf("the stream got %s", got)
		}
	})
}

func TestAHubThatDoesNotAnswerIsReported(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		r.hubs[0].listen(ann, "x")
		synctest.Wait()
		r.hubs[0].log.Pause()
		began := time.Now()
		err := r.hubs[1].JoinGroup(access.Everything, session.UID(ann), group.Exact("y"))
		if !errors.Is(err, ErrHubAway) || time.Since(began) != callTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		r.hubs[0].log.Resume()
	})
}

// TestAnotherHubSaysWhyItFails has a log that stores half of the changes, and says of none what has become of it.
func TestAnotherHubSaysWhyItFails(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		r.hubs[0].listen(ann, "x")
		synctest.Wait()
		r.log.Unknown = 1000
		var err error
		for i := 0; err == nil && i < 50; i++ {
			err = r.hubs[1].JoinGroup(access.Everything, session.UID(ann), group.Exact(fmt.Sprint("more", i)))
		}
		if !errors.Is(err, store.ErrUnknownOutcome) {
			t.Errorf("joining at another hub: %v", err)
		}
		r.log.Unknown = 0
	})
}

func TestHubsOfOneMachineAreToldApart(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		r.log.Name = "vm"
		r.hubs[1].listen(ann, "x")
		synctest.Wait()
		s, err := r.hubs[0].Session(session.UID(ann))
		if err != nil || !slices.Equal(s.HubNames(r.hubs[0].Hub), []string{"vm hub2"}) {
			t.Errorf("%q, %v", s.HubNames(r.hubs[0].Hub), err)
		}
	})
}

func TestAnyHubShowsASessionsStreams(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		r.hubs[0].listen(ann, "x")
		r.hubs[0].listen(ann, "x")
		r.hubs[1].listen(ann, "x")
		if _, err := r.hubs[2].publish("x", "", "1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, n := range r.hubs {
			s, err := n.Session(session.UID(ann))
			if err != nil || s.Open != 3 || s.Sent.Messages != 3 || !slices.Equal(s.HubNames(n.Hub), []string{"name-of-hub1", "name-of-hub2"}) {
				t.Errorf("hub %d shows %+v at %q, %v", n.at, s, s.HubNames(n.Hub), err)
			}
			var listed []string
			_, err = n.Sessions(&SessionListing{Sort: SortSince}, func(s *Session) error {
				listed = append(listed, fmt.Sprint(s.UID, s.Open))
				return nil
			})
			r.must(err)
			if want := session.UID(ann) + "3"; strings.Join(listed, " ") != want {
				t.Errorf("hub %d lists %q", n.at, listed)
			}
			if got := n.countListeners([]string{"x", "y"}); !slices.Equal(got, []int{3, 0}) {
				t.Errorf("hub %d counts %v listeners", n.at, got)
			}
			present := 0
			r.must(n.Presence(group.Exact("x"), func(*session.Info) error { present++; return nil }))
			if present != 1 {
				t.Errorf("hub %d: %d sessions are present", n.at, present)
			}
		}
		r.hubs[0].log.Pause()
		if s, err := r.hubs[2].Session(session.UID(ann)); err != nil || s.Open != 2 {
			t.Errorf("while a hub does not answer, the session is %+v, %v", s, err)
		}
		r.hubs[0].log.Resume()
	})
}

func TestEachHubShowsTheClientOfASessionThatMoved(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		from := func(remote string) func(*Subscription) { return func(s *Subscription) { s.Remote = remote } }
		old := r.hubs[0].listen(ann, "x", from("old"))
		synctest.Wait()
		r.hubs[1].listen(ann, "x", from("new"))
		old.leave()
		synctest.Wait()
		for _, n := range r.hubs {
			if s, err := n.Session(session.UID(ann)); err != nil || s.Client.Address != "new" {
				t.Errorf("hub %d shows %+v, %v", n.at, s, err)
			}
		}
	})
}

// TestAListWaitsOnceForAHubThatDoesNotAnswer lists sessions while a hub is paused, for less time than the others need to give it
// up.
func TestAListWaitsOnceForAHubThatDoesNotAnswer(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		r.hubs[0].listen(ann, "x")
		r.hubs[1].listen(ann, "x")
		synctest.Wait()
		took := func(streams int) time.Duration {
			t.Helper()
			began := time.Now()
			for _, sort := range SessionOrders {
				_, err := r.hubs[2].Sessions(&SessionListing{Sort: sort, Limit: 10}, func(s *Session) error {
					if s.Open != streams {
						t.Errorf("the session has %d streams, want %d", s.Open, streams)
					}
					return nil
				})
				r.must(err)
			}
			r.hubs[2].countListeners([]string{"x"})
			return time.Since(began)
		}
		r.hubs[0].log.Pause()
		if got := took(2); got != figureTimeout { // the hub that does not answer counts as one stream
			t.Errorf("lists take %v", got)
		}
		if got := took(2); got != 0 {
			t.Errorf("later lists take %v", got)
		}
		r.hubs[0].log.Resume()
		time.Sleep(store.SilentFor)
		r.hubs[0].listen(ann, "x")
		synctest.Wait()
		if got := took(3); got != 0 {
			t.Errorf("when the hub answers again, lists take %v", got)
		}
	})
}

// TestAHubThatWasCutOffAsksTheOthersAgain lists sessions while the hub itself is cut off, and soon after that.
func TestAHubThatWasCutOffAsksTheOthersAgain(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		for _, n := range r.hubs[:2] {
			for range 2 {
				n.listen(ann, "x")
			}
		}
		synctest.Wait()
		streams := func() (n int) {
			_, err := r.hubs[2].Sessions(&SessionListing{Sort: SortSince, Limit: 10}, func(s *Session) error { n = s.Open; return nil })
			r.must(err)
			return n
		}
		r.hubs[2].log.Cut()
		for range 2 {
			if n := streams(); n != 2 {
				t.Errorf("the session has %d streams, want one for each hub that does not answer", n)
			}
		}
		r.hubs[2].log.Heal()
		time.Sleep(store.SilentFor / 2)
		if n := streams(); n != 4 {
			t.Errorf("when the hub is back, the session has %d streams, want 4", n)
		}
	})
}

func TestSessionsAreSortedByTheirStreamsAtAllHubs(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		r.hubs[0].listen(bob, "x y")
		r.hubs[0].listen(ann, "x")
		r.hubs[1].listen(ann, "x")
		for range 5 {
			if _, err := r.hubs[2].publish("x", "", `"a text"`); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for _, n := range r.hubs {
			var listed []string
			_, err := n.Sessions(&SessionListing{Sort: SortSent, Limit: 10}, func(s *Session) error {
				listed = append(listed, s.UID)
				return nil
			})
			r.must(err)
			if want := []string{session.UID(ann), session.UID(bob)}; !slices.Equal(listed, want) {
				t.Errorf("hub %d lists %q, want %q", n.at, listed, want)
			}
		}
	})
}

func TestADirectMessageReachesASessionAtAnotherHub(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		send := func(n *node, text string) error {
			_, err := n.Send(r.Context(), session.UID(ann), &Publication{Grant: access.Everything, Kind: JSON, Body: []byte(`"` + text + `"`)})
			return err
		}
		a := r.hubs[0].listen(ann, "x")
		synctest.Wait()
		r.must(send(r.hubs[1], "one"))
		if !strings.Contains(a.text(), `"one"`) {
			t.Errorf("the stream got %s", a.text())
		}
		a.leave()
		synctest.Wait()
		r.must(send(r.hubs[1], "two"))
		b := r.hubs[1].listen(ann, "x") // gets what the session missed, and not what it had
		if got := b.text(); !strings.Contains(got, `"two"`) || strings.Contains(got, `"one"`) {
			t.Errorf("the returning stream got %s", got)
		}
		b.leave()
		time.Sleep(time.Minute)
		if err := send(r.hubs[0], "three"); err != session.ErrUnknown {
			t.Errorf("a message to a session that is gone: %v", err)
		}
	})
}

func TestASignOfLifeReachesTheHubWithTheStream(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		a := r.hubs[0].listen(ann, "x", func(s *Subscription) { s.Heartbeat = 4 * time.Second })
		for range 10 {
			time.Sleep(4 * time.Second)
			r.must(r.hubs[1].SignOfLife(session.UID(ann), access.Everything))
		}
		if a.bye() != "" {
			t.Errorf("the stream was ended for %s", a.bye())
		}
		time.Sleep(7 * time.Second)
		if a.bye() != "heartbeat" {
			t.Errorf("a silent stream is ended for %q", a.bye())
		}
	})
}

func TestATokenIsRenewedAtAnyHub(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		grant := func(filters string, life time.Duration) *access.Grant {
			g, err := access.NewGrant("anna", "", strings.Fields(filters), nil, false, time.Now(), time.Now().Add(life))
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		a := r.hubs[0].listen(ann, "x y", func(s *Subscription) { s.Grant = grant("x y", time.Minute) })
		b := r.hubs[1].listen(ann, "x", func(s *Subscription) { s.Grant = grant("x y", time.Minute) })
		time.Sleep(30 * time.Second)
		r.must(r.hubs[2].Renew(session.UID(ann), grant("x", time.Hour)))
		time.Sleep(30 * time.Minute)
		if a.bye() != "" || b.bye() != "" {
			t.Errorf("streams with a new token were ended for %q and %q", a.bye(), b.bye())
		}
		r.wantPresence(ann, "join x, join y, leave y forbidden")
		time.Sleep(30 * time.Minute)
		if a.bye() != "token-expired" || b.bye() != "token-expired" {
			t.Errorf("when the token has expired, streams were ended for %q and %q", a.bye(), b.bye())
		}
		if err := r.hubs[2].Renew(session.UID(ann), grant("x", time.Hour)); err != session.ErrUnknown && err != session.ErrNoStream {
			t.Errorf("renewing a session without a stream: %v", err)
		}
	})
}

func TestASessionBelongsToItsSubjectAtEachHub(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		as := func(subject string) func(*Subscription) {
			return func(s *Subscription) {
				g, err := access.NewGrant(subject, "", []string{"x"}, nil, false, time.Now(), time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				s.Grant = g
			}
		}
		r.log.Delay = time.Second // both hubs see no session yet
		var all sync.WaitGroup
		errs := make([]error, 2)
		for i, n := range r.hubs {
			all.Go(func() { _, errs[i] = n.tryListen(ann, "x", as(fmt.Sprint("subject", i))) })
		}
		all.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), session.ErrOfAnother) {
			t.Errorf("two subjects open the session: %v", errs)
		}
	})
}

func TestARepeatAtAnotherHubGetsTheFirstAnswer(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		first, err := r.hubs[0].publish("g", "key", "1")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		again, err := r.hubs[1].publish("g", "key", "1")
		if err != nil || !again.Replayed || again.ID != first.ID || again.First != first.First {
			t.Errorf("%+v, %v; want %+v", again, err, first)
		}
		if _, err := r.hubs[1].publish("g", "key", "2"); err != ErrMismatch {
			t.Errorf("another body: %v", err)
		}
		if n := r.count("g"); n != 1 {
			t.Errorf("%d messages", n)
		}
	})
}

func TestConcurrentRepeatsAtSeveralHubsAppendOnce(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		r.log.Delay = time.Second
		for i := range 50 {
			key, name := fmt.Sprint("key", i), fmt.Sprint("g", i)
			var all sync.WaitGroup
			receipts := make([]Receipt, 6)
			for k := range receipts {
				all.Go(func() {
					var err error
					if receipts[k], err = r.hubs[k%3].publish(name, key, "1"); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			fresh := 0
			for _, got := range receipts {
				if !got.Replayed {
					fresh++
				}
				if got.ID != receipts[0].ID {
					t.Errorf("ids %s and %s", got.ID, receipts[0].ID)
				}
			}
			if n := r.count(name); n != 1 || fresh != 1 {
				t.Errorf("%d messages, %d answers that are no replays", n, fresh)
			}
		}
	})
}

func TestARepeatAfterAnUnknownOutcomeAppendsOnce(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		r.log.Unknown = 300
		for i := range 200 {
			key, name := fmt.Sprint("key", i), fmt.Sprint("g", i)
			for try := 0; ; try++ {
				if _, err := r.hubs[try%2].publish(name, key, "1"); err == nil {
					break
				} else if !errors.Is(err, store.ErrUnknownOutcome) {
					t.Fatal(err)
				}
			}
			if n := r.count(name); n != 1 {
				t.Errorf("%d messages", n)
			}
		}
	})
}

// hook is a program whose hook is slow.
type hook struct {
	Observer
	before func()
}

func (h hook) Before(context.Context, *Draft) error {
	h.before()
	return nil
}

// TestAnAnswerThatIsReadWhileAHookRunsCounts has a hub that gets a request while another one answers it. The log does not notice the repeat.
func TestAnAnswerThatIsReadWhileAHookRunsCounts(t *testing.T) {
	runs := make(chan func(), 1)
	inRig(t, 2, func(r *rig) {
		r.log.Forgets.Store(true)
		runs <- func() {
			if _, err := r.hubs[0].publish("g", "key", "1"); err != nil {
				t.Error(err)
			}
			r.must(r.hubs[1].log.CatchUp(r.Context()))
		}
		if got, err := r.hubs[1].publish("g", "key", "1"); err != nil || !got.Replayed {
			t.Errorf("%+v, %v", got, err)
		}
		if n := r.count("g"); n != 1 {
			t.Errorf("%d messages are stored", n)
		}
	}, func(o *Options) {
		o.Observer = hook{o.Observer, func() {
			select {
			case run := <-runs:
				run()
			default:
			}
		}}
	})
}

// TestAMessageThatTurnsOutToBeStoredIsCounted has a log that does not know of most messages whether it has stored them.
func TestAMessageThatTurnsOutToBeStoredIsCounted(t *testing.T) {
	inRig(t, 1, func(r *rig) {
		n := r.hubs[0]
		if _, err := n.publish("g", "", "1"); err != nil {
			t.Fatal(err)
		}
		each := n.Stats().PublishedBytes
		r.log.Unknown = 900
		for range 100 {
			if _, err := n.publish("g", "", "1"); err != nil && !errors.Is(err, store.ErrUnknownOutcome) {
				t.Fatal(err)
			}
		}
		stored := uint64(r.count("g"))
		if s := n.Stats(); s.Published != stored || s.PublishedBytes != stored*each {
			t.Errorf("%d messages and %d bytes are counted, want %d and %d", s.Published, s.PublishedBytes, stored, stored*each)
		}
	})
}

func TestEachHubHasItsOwnStats(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		time.Sleep(10 * statsInterval)
		for _, n := range r.hubs {
			if got := r.count(n.statsGroup()); got < 9 {
				t.Errorf("%s got %d messages", n.statsGroup(), got)
			}
		}
		if got := r.count(statsGroup); got > 0 {
			t.Errorf("%d messages belong to no hub", got)
		}
	})
}

func TestTheHubsCountSessionsAndWillsTogether(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		big := func(n *node, secret string) error {
			d := &Draft{Group: "wills", Kind: JSON, Data: []byte(`"` + strings.Repeat("a", MaxWill-2) + `"`)}
			return n.SetWill(t.Context(), access.Everything, session.UID(secret), d, nil)
		}
		var err error
		i := 0
		for ; err == nil && i < 2*maxWills/MaxWill; i++ {
			secret := fmt.Sprintf("the-secret-of-number-%d", i)
			r.hubs[i%2].listen(secret, "x")
			synctest.Wait()
			err = big(r.hubs[i%2], secret)
			synctest.Wait()
		}
		if err != ErrTooManyWills || i < maxWills/MaxWill-10 || i > maxWills/MaxWill+1 {
			t.Errorf("will %d: %v", i, err)
		}
		for _, n := range r.hubs {
			if got := n.Stats().Sessions; got != int64(i) {
				t.Errorf("hub %d has %d sessions, want %d", n.at, got, i)
			}
		}
	})
}
