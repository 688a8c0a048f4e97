package hub

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// send sends a JSON value to the session of a secret.
func (n *node) send(secret, value string) {
	n.rig.Helper()
	_, err := n.Send(n.rig.Context(), session.UID(secret), &Publication{Grant: access.Everything, Kind: JSON, Body: []byte(value)})
	n.rig.must(err)
}

// watching is the option of hubs whose callbacks about sessions also call f.
func watching(f func(session.Event)) func(*Options) {
	return func(o *Options) { o.Observer = &alsoCalling{o.Observer, f} }
}

type alsoCalling struct {
	Observer
	f func(session.Event)
}

func (a *alsoCalling) Session(e session.Event) {
	a.Observer.Session(e)
	a.f(e)
}

// nextSession begins the next session of ann at a hub. It is lost, and gets a message.
func (r *rig) nextSession(at *node) {
	r.Helper()
	at.listen(ann, "x").leave()
	synctest.Wait()
	at.send(ann, `"new"`)
}

// wantMissed returns ann to a hub, where she gets the message that she missed, and nothing that was sent before.
func (r *rig) wantMissed(at *node) {
	r.Helper()
	synctest.Wait()
	if got := at.listen(ann, "x").text(); !strings.Contains(got, `"new"`) || strings.Contains(got, `"old"`) {
		r.Errorf("the next session got %s", got)
	}
}

// TestAHubThatIsLateKeepsTheMessagesToTheNextSession: it took a message to the session before, and another hub has ended that one.
func TestAHubThatIsLateKeepsTheMessagesToTheNextSession(t *testing.T) {
	for _, why := range []session.Reason{session.Kicked, session.Ended} {
		inRig(t, 3, func(r *rig) {
			r.hubs[0].listen(ann, "x")
			synctest.Wait()
			r.hubs[1].send(ann, `"old"`)
			r.hubs[1].log.Pause()
			r.must(r.hubs[0].EndSession(session.UID(ann), why))
			r.nextSession(r.hubs[2])
			r.hubs[1].log.Resume()
			r.wantMissed(r.hubs[2])
		})
	}
}

// TestAHubThatIsLateWhenItEndsASessionKeepsTheMessagesToTheNextOne stops the hub behind the callback, as it removes the messages.
func TestAHubThatIsLateWhenItEndsASessionKeepsTheMessagesToTheNextOne(t *testing.T) {
	ended := func() {}
	inRig(t, 2, func(r *rig) {
		r.hubs[0].listen(ann, "x")
		synctest.Wait()
		r.hubs[1].send(ann, `"old"`)
		ended = r.hubs[0].log.Pause
		done := make(chan error)
		go func() { done <- r.hubs[0].EndSession(session.UID(ann), session.Kicked) }()
		synctest.Wait()
		r.nextSession(r.hubs[1])
		r.hubs[0].log.Resume()
		r.must(<-done)
		r.wantMissed(r.hubs[1])
	}, watching(func(e session.Event) {
		if e.Kind == session.Disconnect {
			ended()
		}
	}))
}

// TestTheNextSessionDoesNotGetMessagesThatAKilledHubHasLeft kills the hub that has ended a session before it removes the messages, and then the
// hub of the next session. The log may be away when that begins.
func TestTheNextSessionDoesNotGetMessagesThatAKilledHubHasLeft(t *testing.T) {
	for _, away := range []bool{false, true} {
		ended := func() {}
		inRig(t, 3, func(r *rig) {
			r.hubs[0].listen(ann, "x")
			synctest.Wait()
			r.hubs[0].send(ann, `"old"`)
			ended = r.hubs[0].log.Kill
			r.must(r.hubs[0].EndSession(session.UID(ann), session.Kicked))
			synctest.Wait()
			if away {
				r.hubs[1].log.Cut()
			}
			r.hubs[1].listen(ann, "x")
			r.hubs[1].log.Heal()
			time.Sleep(3 * time.Second) // synctest's clock
			r.hubs[1].log.Kill()
			r.hubs[2].send(ann, `"new"`)
			time.Sleep(10 * time.Second) // the others notice, and the session is not gone yet
			r.wantMissed(r.hubs[2])
		}, watching(func(e session.Event) {
			if e.Kind == session.Disconnect {
				ended()
			}
		}))
	}
}

// TestAMessageThatAHubTakesForASessionThatHasEndedIsRemoved: the hub does not know yet that the session has ended.
func TestAMessageThatAHubTakesForASessionThatHasEndedIsRemoved(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		r.hubs[0].listen(ann, "x")
		synctest.Wait()
		r.hubs[1].log.Pause()
		r.must(r.hubs[0].EndSession(session.UID(ann), session.Kicked))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			r.hubs[1].send(ann, `"old"`)
		}()
		synctest.Wait()
		r.hubs[1].log.Resume()
		<-sent
		synctest.Wait()
		for g := range store.EachGroup(r.hubs[0].log, delivery.SessionPrefix) {
			t.Errorf("left is %+v", g)
		}
	})
}

// TestTheProgramIsToldOfAnEndBeforeMessagesAreRemoved: a hub that is killed as it waits for the removal has told its program.
func TestTheProgramIsToldOfAnEndBeforeMessagesAreRemoved(t *testing.T) {
	var r *rig
	left := 0
	inRig(t, 2, func(in *rig) {
		r = in
		r.hubs[0].listen(ann, "x")
		synctest.Wait()
		r.hubs[0].send(ann, `"old"`)
		r.hubs[0].kick()
		if left != 1 {
			t.Errorf("when the program is told, %d messages are left", left)
		}
	}, watching(func(e session.Event) {
		if e.Kind == session.Disconnect {
			for g := range store.EachGroup(r.hubs[0].log, delivery.SessionPrefix) {
				left += int(g.Messages)
			}
		}
	}))
}

// TestNoMessageIsMissedBeforeADeathIsNoticed has a client whose hub has died, or is paused, return to another one before the others know. It has
// no id.
func TestNoMessageIsMissedBeforeADeathIsNoticed(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, time.Second, 5 * time.Second, 5900 * time.Millisecond} {
		for _, pauses := range []bool{false, true} {
			inRig(t, 3, func(r *rig) {
				r.hubs[0].listen(ann, "x")
				time.Sleep(time.Minute) // synctest's clock
				if pauses {
					r.hubs[0].log.Pause()
				} else {
					r.hubs[0].log.Kill()
				}
				r.hubs[2].send(ann, `"new"`)
				time.Sleep(after)
				synctest.Wait()
				c := r.hubs[1].listen(ann, "x")
				r.hubs[2].send(ann, `"newer"`)
				if got := c.text(); strings.Count(got, `"new"`) != 1 || strings.Count(got, `"newer"`) != 1 {
					t.Errorf("after %v, the client got %s", after, got)
				}
				time.Sleep(time.Minute)
				if got := c.text(); strings.Count(got, `"new"`) != 1 {
					t.Errorf("a minute later, the client had got %s", got)
				}
				r.hubs[0].log.Resume()
			})
		}
	}
}

// TestAStreamBesideOneAtAnotherHubGetsNothingAgain: the session has not missed anything.
func TestAStreamBesideOneAtAnotherHubGetsNothingAgain(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		first := r.hubs[0].listen(ann, "x")
		synctest.Wait()
		r.hubs[1].send(ann, `"one"`)
		second := r.hubs[1].listen(ann, "x")
		r.hubs[1].send(ann, `"two"`)
		if got := first.text(); strings.Count(got, `"one"`) != 1 || strings.Count(got, `"two"`) != 1 {
			t.Errorf("the first stream got %s", got)
		}
		if got := second.text(); strings.Contains(got, `"one"`) || strings.Count(got, `"two"`) != 1 {
			t.Errorf("the second stream got %s", got)
		}
	})
}

// TestAClientThatMovesGetsWhatItMissedAndNothingAgain has a stream open at another hub, half of the time before the old hub has stored that its
// stream has closed.
func TestAClientThatMovesGetsWhatItMissedAndNothingAgain(t *testing.T) {
	inRig(t, 3, func(r *rig) {
		r.log.Delay = time.Second
		c := r.hubs[0].listen(ann, "x")
		r.hubs[0].send(ann, `"0"`)
		for i := range 30 {
			c.leave()
			synctest.Wait()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				r.hubs[i%2].send(ann, fmt.Sprintf(`"%d"`, i+1))
			}()
			c = r.hubs[(i+1)%3].listen(ann, "x")
			<-sent
			again, missed := fmt.Sprintf(`"msg":"%d"`, i), fmt.Sprintf(`"msg":"%d"`, i+1)
			if got := c.text(); strings.Contains(got, again) || strings.Count(got, missed) != 1 {
				t.Errorf("move %d: the client got %s", i, got)
			}
			time.Sleep(10 * time.Second) // synctest's clock: until all hubs agree where the stream is
		}
	})
}

// program is a program that takes all messages of its hub.
type program struct {
	Observer
	take func([]Message)
}

func (p program) Listens() bool { return true }

func (p program) Messages(list []Message) bool {
	p.take(list)
	return true
}

// TestARepeatOfAMessageToTheProgramIsAnsweredAtAnyHub: one program gets it.
func TestARepeatOfAMessageToTheProgramIsAnsweredAtAnyHub(t *testing.T) {
	var taken atomic.Int64
	inRig(t, 3, func(r *rig) {
		for round := range 3 {
			for i, n := range append(r.hubs[round:], r.hubs[:round]...) {
				p := &Publication{Grant: access.Everything, Kind: JSON, Body: []byte("1"), Key: fmt.Sprint("key", round)}
				got, err := n.SendToServer(r.Context(), p)
				if err != nil || got.Replayed != (i > 0) {
					t.Errorf("request %d: %+v, %v", i, got, err)
				}
				synctest.Wait()
				if p.Body = []byte("2"); i > 0 {
					if _, err = n.SendToServer(r.Context(), p); !errors.Is(err, ErrMismatch) {
						t.Errorf("another request with the key: %v", err)
					}
				}
			}
		}
		if n := taken.Load(); n != 3 {
			t.Errorf("the programs got %d messages of 3", n)
		}
		late := r.begin(3)
		got, err := late.SendToServer(r.Context(), &Publication{Grant: access.Everything, Kind: JSON, Body: []byte("1"), Key: "key0"})
		if err != nil || !got.Replayed {
			t.Errorf("at a hub that begins later: %+v, %v", got, err)
		}
		r.must(late.Close())
	}, func(o *Options) {
		o.Observer = program{o.Observer, func(list []Message) { taken.Add(int64(len(list))) }}
	})
}

// TestARepeatOfAMessageToTheProgramAtAHubThatIsBehindIsAnswered has a hub that has not read yet what another one has answered.
func TestARepeatOfAMessageToTheProgramAtAHubThatIsBehindIsAnswered(t *testing.T) {
	var taken atomic.Int64
	inRig(t, 2, func(r *rig) {
		p := &Publication{Grant: access.Everything, Kind: JSON, Body: []byte("1"), Key: "key"}
		behind := r.hubs[1]
		behind.log.Pause()
		if _, err := r.hubs[0].SendToServer(r.Context(), p); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(catchUpTimeout/2, behind.log.Resume) // synctest's clock
		if got, err := behind.SendToServer(r.Context(), p); err != nil || !got.Replayed {
			t.Errorf("%+v, %v", got, err)
		}
		if n := taken.Load(); n != 1 {
			t.Errorf("the programs got it %d times", n)
		}
	}, func(o *Options) {
		o.Observer = program{o.Observer, func(list []Message) { taken.Add(int64(len(list))) }}
	})
}
