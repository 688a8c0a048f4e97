package hub

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

var x = group.Set{group.Exact("x")}

// resumes asks for what is behind an id in each way in which a client can. Each function returns what the client gets, as its JSON
// payloads and the reasons of gaps, separated by blanks.
var resumes = map[string]func(n *node, id string) (string, error){
	"stream": func(n *node, id string) (string, error) {
		c, err := n.tryListen("", "x", func(s *Subscription) { s.From.Resume = id })
		if err != nil {
			return "", err
		}
		defer c.leave()
		var list []string
		for block := range strings.SplitSeq(c.text(), "\n\n") {
			if _, reason, ok := strings.Cut(block, `"reason":"`); ok {
				list = append(list, strings.TrimRight(reason, `"}`))
			} else if _, msg, ok := strings.Cut(block, `"msg":`); ok {
				list = append(list, strings.TrimRight(msg, "}"))
			}
		}
		return strings.Join(list, " "), nil
	},
	"join": func(n *node, id string) (string, error) {
		l, err := n.Subscribe(n.rig.Context(), &Subscription{Grant: access.Everything, UID: session.ClientUID("mqtt", "", "device"), Codec: payloads{}})
		if err != nil {
			return "", err
		}
		c := &conn{Listener: l}
		l.Run(c)
		defer c.leave()
		if err := l.Join(x[0], false, From{Resume: id}); err != nil {
			return "", err
		}
		return strings.TrimSpace(strings.NewReplacer("earlier:", "", "gap:", "").Replace(c.text())), nil
	},
	"history": func(n *node, id string) (string, error) {
		var list []string
		_, err := n.Replay(n.rig.Context(), &History{Filters: x, From: From{Resume: id}}, answersTo(&list))
		return strings.Join(list, " "), err
	},
	"poll": func(n *node, id string) (string, error) {
		p, err := n.Poll(n.rig.Context(), &Subscription{Grant: access.Everything, Filters: x, From: From{Resume: id}}, time.Second)
		if err != nil {
			return "", err
		}
		defer p.Close()
		var list []string
		_, err = p.Read(n.rig.Context(), 0, answersTo(&list))
		return strings.Join(list, " "), err
	},
	"retained": func(n *node, id string) (string, error) {
		var list []string
		_, err := n.Retained(n.rig.Context(), &Retained{Filters: x, After: id}, answersTo(&list).Message)
		return strings.Join(list, " "), err
	},
}

func answersTo(list *[]string) Answer {
	return Answer{
		Message: func(f *store.Frame) error { *list = append(*list, string(f.Payload(nil))); return nil },
		Gap:     func(g delivery.Gap) error { *list = append(*list, g.Reason); return nil },
	}
}

// eachResume runs a test with two hubs for each of resumes. gap says that it tells gaps.
func eachResume(t *testing.T, test func(r *rig, resume func(n *node, id string) (string, error), gap bool)) {
	for name, resume := range resumes {
		t.Run(name, func(t *testing.T) {
			inRig(t, 2, func(r *rig) { test(r, resume, name != "retained" && name != "join") })
		})
	}
}

func (n *node) retain(value string) string {
	n.rig.Helper()
	got, err := n.Publish(n.rig.Context(), &Publication{Grant: access.Everything, Group: "x", Kind: JSON, Body: []byte(value), Retain: true})
	if err != nil {
		n.rig.Fatal(err)
	}
	return got.ID.String()
}

// TestAPositionThatCannotBeFoundInTimeIsNoGap has a client that comes from another hub while this one is cut off from the log.
func TestAPositionThatCannotBeFoundInTimeIsNoGap(t *testing.T) {
	eachResume(t, func(r *rig, resume func(*node, string) (string, error), _ bool) {
		a, b := r.hubs[0], r.hubs[1]
		a.retain("1")
		synctest.Wait()
		b.log.Cut()
		id := a.retain("2")
		for range 2 {
			if got, err := resume(b, id); !errors.Is(err, store.ErrAway) {
				t.Errorf("while the log is away: %q, %v", got, err)
			}
		}
		time.Sleep(20 * time.Second) // what the session of a stream has to write has failed
		if n, h := b.streams.Load(), b.handlers.wait(0); n != 0 || h != 0 {
			t.Errorf("%d streams and %d handlers are left", n, h)
		}
		if got, err := resume(b, "another-1"); !errors.Is(err, store.ErrAway) {
			t.Errorf("an epoch that the log may have: %q, %v", got, err)
		}
		a.retain("3")
		b.log.Heal()
		time.Sleep(10 * time.Second) // the others had given the hub up
		if got, err := resume(b, id); got != "3" || err != nil {
			t.Errorf("when the log is back: %q, %v, want what is behind the position", got, err)
		}
	})
}

// TestAHubThatIsBehindWaitsForAPosition has a hub that reads on while the client waits.
func TestAHubThatIsBehindWaitsForAPosition(t *testing.T) {
	eachResume(t, func(r *rig, resume func(*node, string) (string, error), _ bool) {
		a, b := r.hubs[0], r.hubs[1]
		b.log.Pause()
		a.retain("1")
		id := a.retain("2")
		a.retain("3")
		time.AfterFunc(reachTimeout-time.Second, b.log.Resume)
		if got, err := resume(b, id); got != "3" || err != nil {
			t.Errorf("%q, %v, want what is behind the position", got, err)
		}
	})
}

// TestAPositionThatTheLogDoesNotHaveIsAGap: of another epoch, behind the end, or no id at all.
func TestAPositionThatTheLogDoesNotHaveIsAGap(t *testing.T) {
	eachResume(t, func(r *rig, resume func(*node, string) (string, error), gap bool) {
		want := "1"
		if gap {
			want = "epoch 1"
		}
		r.hubs[0].retain("1")
		synctest.Wait()
		for _, id := range []string{"another-1", r.hubs[0].Epoch() + "-1000", "what?"} {
			if got, err := resume(r.hubs[1], id); got != want || err != nil {
				t.Errorf("%s: %q, %v, want %q", id, got, err, want)
			}
		}
	})
}

// TestAHubThatClosesDoesNotWaitForAPosition closes a hub while a client waits.
func TestAHubThatClosesDoesNotWaitForAPosition(t *testing.T) {
	eachResume(t, func(r *rig, resume func(*node, string) (string, error), _ bool) {
		a, b := r.hubs[0], r.hubs[1]
		b.log.Cut()
		id := a.retain("1")
		refused := make(chan error, 1)
		go func() {
			_, err := resume(b, id)
			refused <- err
		}()
		time.Sleep(2 * time.Second) // its session, if it has one, is known
		begun := time.Now()
		b.EndStreams("shutdown")
		if err := <-refused; err != ErrClosed || time.Since(begun) >= reachTimeout-2*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		b.log.Heal()
	})
}

// TestAClientThatHasLeftDoesNotWaitForAPosition has clients that leave while this hub is cut off from the log.
func TestAClientThatHasLeftDoesNotWaitForAPosition(t *testing.T) {
	for name, ask := range map[string]func(ctx context.Context, n *node, from From) error{
		"stream": func(ctx context.Context, n *node, from From) error {
			_, err := n.Subscribe(ctx, &Subscription{Grant: access.Everything, Filters: x, From: from})
			return err
		},
		"poll": func(ctx context.Context, n *node, from From) error {
			_, err := n.Poll(ctx, &Subscription{Grant: access.Everything, Filters: x, From: from}, time.Minute)
			return err
		},
		"history": func(ctx context.Context, n *node, from From) error {
			_, err := n.Replay(ctx, &History{Filters: x, From: from}, Answer{})
			return err
		},
		"retained": func(ctx context.Context, n *node, from From) error {
			_, err := n.Retained(ctx, &Retained{Filters: x, After: from.Resume}, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, 2, func(r *rig) {
				a, b := r.hubs[0], r.hubs[1]
				b.log.Cut()
				from := From{Resume: a.retain("1")}
				ctx, leave := context.WithCancel(r.Context())
				time.AfterFunc(time.Second, leave)
				began := time.Now()
				if err := ask(ctx, b, from); !errors.Is(err, store.ErrAway) || time.Since(began) != time.Second {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				if n := b.streams.Load(); n != 0 {
					t.Errorf("%d streams are left", n)
				}
				b.log.Heal()
			})
		})
	}
}

// TestASessionStaysWhileItsPollCannotBeAnswered: its earlier poll keeps its place.
func TestASessionStaysWhileItsPollCannotBeAnswered(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		a, b := r.hubs[0], r.hubs[1]
		if err := b.poll(ann, "x", time.Second); err != nil {
			t.Fatal(err)
		}
		b.log.Pause()
		id := a.retain("1")
		s := &Subscription{Grant: access.Everything, Secret: ann, Filters: x, From: From{Resume: id}}
		if _, err := b.Poll(context.Background(), s, time.Second); !errors.Is(err, store.ErrAway) {
			t.Error(err)
		}
		if got, err := b.Session(session.UID(ann)); err != nil || !got.Lost.IsZero() {
			t.Errorf("the session is %+v, %v", got, err)
		}
		b.log.Resume()
		if err := b.poll(ann, "x", time.Second); err != nil {
			t.Error(err)
		}
	})
}

// TestAPollThatWaitsForItsPositionHasASlot, its own or that of the session's earlier poll, and gives it back.
func TestAPollThatWaitsForItsPositionHasASlot(t *testing.T) {
	for name, secret := range map[string]string{"own": "", "of an earlier poll": ann} {
		t.Run(name, func(t *testing.T) {
			inRig(t, 2, func(r *rig) {
				a, b := r.hubs[0], r.hubs[1]
				if err := b.poll(secret, "x", 0); err != nil {
					t.Fatal(err)
				}
				before := b.streams.Load()
				b.log.Pause()
				from := From{Resume: a.retain("1")}
				poll := func() error {
					_, err := b.Poll(r.Context(), &Subscription{Grant: access.Everything, Secret: secret, Filters: x, From: from}, time.Minute)
					return err
				}
				first := make(chan error, 1)
				go func() { first <- poll() }()
				synctest.Wait()
				if err := poll(); err != ErrTooManyStreams {
					t.Errorf("another poll: %v", err)
				}
				if err := <-first; !errors.Is(err, store.ErrAway) {
					t.Error(err)
				}
				if n := b.streams.Load(); n != before {
					t.Errorf("%d streams are left, before there were %d", n, before)
				}
				b.log.Resume()
				if err := b.poll(secret, "x", 0); err != nil {
					t.Error(err)
				}
			}, func(o *Options) { o.MaxStreams = 1 })
		})
	}
}
