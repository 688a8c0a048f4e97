package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// behind has the second hub read nothing for half a second, while the first one changes something and then the second one does.
func (r *rig) behind(first, second func(n *node) error) {
	r.Helper()
	r.hubs[1].log.Pause()
	r.must(first(r.hubs[0]))
	time.AfterFunc(catchUpTimeout/2, r.hubs[1].log.Resume)
	r.must(second(r.hubs[1]))
	synctest.Wait()
}

// TestAPurgeOfManyGroupsHasThoseOfOtherHubs purges groups at a hub that does not know one of them yet.
func TestAPurgeOfManyGroupsHasThoseOfOtherHubs(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		f, err := group.ParseFilter("x/#")
		r.must(err)
		r.behind(func(a *node) error {
			_, err := a.publish("x/1", "", `"secret"`)
			return err
		}, func(b *node) error { return b.Purge(r.Context(), f) })
		for _, n := range r.hubs {
			for g := range store.EachGroup(n.log, "x/") {
				t.Errorf("after the purge, hub %d has %+v", n.at, g)
			}
		}
	})
}

// TestANoteOfAClientIsRemovedThoughTheHubDoesNotKnowItYet: the note would make the client's next message a repetition.
func TestANoteOfAClientIsRemovedThoughTheHubDoesNotKnowItYet(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		r.behind(
			func(a *node) error { return a.SetClientNote(r.Context(), "u", []byte("received")) },
			func(b *node) error { return b.SetClientNote(r.Context(), "u", nil) },
		)
		for _, n := range r.hubs {
			if note := n.ClientNote("u"); note != nil {
				t.Errorf("hub %d has the note %q", n.at, note)
			}
		}
	})
}

// TestHubsAgreeOnANoteThatTwoOfThemStoreAtOnce: the last one in the log holds, also at the hub that has stored the one before.
func TestHubsAgreeOnANoteThatTwoOfThemStoreAtOnce(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		for range 1000 {
			var stored sync.WaitGroup
			for _, n := range r.hubs {
				stored.Go(func() { r.must(n.SetClientNote(r.Context(), "u", []byte{byte(n.at)})) })
			}
			stored.Wait()
			synctest.Wait()
			if a, b := r.hubs[0].ClientNote("u"), r.hubs[1].ClientNote("u"); !bytes.Equal(a, b) {
				t.Errorf("the hubs have the notes %v and %v", a, b)
				return
			}
		}
	})
}

// TestListsHaveTheSessionsThatOtherHubsHaveAnswered asks a hub right after another one has opened a stream, or ended a session.
func TestListsHaveTheSessionsThatOtherHubsHaveAnswered(t *testing.T) {
	away := session.UID("of a device that is away")
	for name, show := range map[string]func(n *node) (uids []string, err error){
		"sessions": func(n *node) (uids []string, err error) {
			_, err = n.Sessions(&SessionListing{Sort: SortSince}, func(s *Session) error { uids = append(uids, s.UID); return nil })
			return uids, err
		},
		"presence": func(n *node) (uids []string, err error) {
			err = n.Presence(group.Exact("x"), func(s *session.Info) error { uids = append(uids, s.UID); return nil })
			return uids, err
		},
		"one by one": func(n *node) (uids []string, err error) {
			for _, uid := range []string{session.UID(bob), session.UID(ann)} {
				if s, err := n.Session(uid); err == nil {
					uids = append(uids, s.UID)
				}
			}
			return uids, nil
		},
		"away": func(n *node) (uids []string, err error) {
			_, err = n.AwaySessions("", 0, func(a *Away) error { uids = append(uids, a.UID); return nil })
			return uids, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, 2, func(r *rig) {
				r.hubs[1].listen(bob, "x")
				r.hubs[0].keepAway(away)
				synctest.Wait()
				r.behind(func(a *node) error {
					a.listen(ann, "x")
					return errors.Join(a.EndSession(session.UID(bob), session.Kicked), a.EndSession(away, session.Kicked))
				}, func(b *node) error {
					want := []string{session.UID(ann)}
					if name == "away" {
						want = nil
					}
					uids, err := show(b)
					if !slices.Equal(uids, want) {
						t.Errorf("%q, want %q", uids, want)
					}
					return err
				})
			})
		})
	}
}

// TestASessionThatIsAwayIsRemovedThoughTheHubDoesNotKnowItsPositionYet, and nothing of it is left.
func TestASessionThatIsAwayIsRemovedThoughTheHubDoesNotKnowItsPositionYet(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		away := session.UID("of a device that is away")
		r.behind(func(a *node) error {
			a.keepAway(away)
			return a.SetClientNote(r.Context(), away, []byte("received"))
		}, func(b *node) error { return b.EndSession(away, session.Kicked) })
		for _, n := range r.hubs {
			if _, err := n.AwaySession(away); !errors.Is(err, session.ErrUnknown) || n.ClientNote(away) != nil {
				t.Errorf("hub %d: %v, note %q", n.at, err, n.ClientNote(away))
			}
		}
	})
}

// keepAway keeps the position of a session whose client is away.
func (n *node) keepAway(uid string) {
	n.rig.Helper()
	key := SessionPositions + uid
	_, _, err := n.cursors.Claim(n.rig.Context(), key)
	n.rig.must(err)
	n.rig.must(n.cursors.Save(&cursor.Position{Key: key, Epoch: n.Epoch(), Away: time.Now(), Expiry: cursor.ForEver}))
	n.rig.must(n.cursors.Flush(n.rig.Context(), key))
}

// TestTheLaterRevocationOfASubjectStays revokes a subject's tokens twice. The hub that takes the earlier time does not know the later one yet.
func TestTheLaterRevocationOfASubjectStays(t *testing.T) {
	var auths []*access.Authenticator
	inRig(t, 2, func(r *rig) {
		for _, auth := range auths {
			defer func() { r.must(auth.Close()) }()
		}
		early, late := time.Now(), time.Now().Add(time.Hour)
		r.behind(
			func(a *node) error { return a.Revoke(r.Context(), access.Revocation{Subject: "eve", Before: late}) },
			func(b *node) error { return b.Revoke(r.Context(), access.Revocation{Subject: "eve", Before: early}) },
		)
		r.must(r.hubs[1].log.Notes(func(n store.Note) error { // a hub that starts has only these
			var v access.Revocation
			if n.Key == subjectRevocations+"eve" && (json.Unmarshal(n.Value, &v) != nil || !v.Before.Equal(late)) {
				t.Errorf("the revocation in the log is %s, want %v", n.Value, late)
			}
			return nil
		}))
	}, func(o *Options) {
		auth, err := access.New(context.Background(), access.Options{}) // not of the test, which ends outside the bubble
		if err != nil {
			t.Fatal(err)
		}
		auths = append(auths, auth)
		o.Access = auth
	})
}
