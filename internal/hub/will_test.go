package hub_test

import (
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// A note that stays would make the next start send the will again.
func TestAWillThatWasSentOrDroppedLeavesNoNote(t *testing.T) {
	log := openDisk(t, t.TempDir())
	h := newKeyedHub(t, log)
	for _, why := range []session.Reason{session.Kicked, session.Ended} {
		const secret = "a-secret-of-this-session"
		uid := session.UID(secret)
		l, err := h.Subscribe(t.Context(), &hub.Subscription{Grant: access.Everything, Filters: group.Set{group.Exact("foo")}, Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		will := &hub.Draft{Group: "wills", Kind: hub.JSON, Data: []byte("1")}
		if err := h.SetWill(t.Context(), access.Everything, uid, will, nil); err != nil {
			t.Fatal(err)
		}
		if n := willNotes(t, log); n != 1 {
			t.Errorf("%d notes of the will, want 1", n)
		}
		if err := h.EndSession(uid, why); err != nil {
			t.Fatal(err)
		}
		if n := willNotes(t, log); n != 0 {
			t.Errorf("%s: %d notes of the will are left", why, n)
		}
		l.Cancel()
	}
}

func willNotes(t *testing.T, log store.Store) (n int) {
	t.Helper()
	err := log.(store.Noter).Notes(func(note store.Note) error {
		if strings.HasPrefix(note.Key, "will/") {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
