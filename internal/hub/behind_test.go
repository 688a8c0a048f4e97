package hub

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

// behind has the second hub read nothing for a second, while the first one changes something and then the second one does.
func (r *rig) behind(first, second func(n *node) error) {
	r.Helper()
	r.hubs[1].log.Pause()
	r.must(first(r.hubs[0]))
	time.AfterFunc(time.Second, r.hubs[1].log.Resume)
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
