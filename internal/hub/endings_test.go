package hub

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// TestAHubThatWasCutOffSaysWhyASessionHasEnded has another hub end the session, or lose it, while the hub with its stream is cut off. What
// is left of the session in the log is removed before that hub can read it.
func TestAHubThatWasCutOffSaysWhyASessionHasEnded(t *testing.T) {
	for _, cut := range []time.Duration{3 * time.Second, 20 * time.Second, 5 * time.Minute} {
		for _, why := range []session.Reason{session.Ended, session.Kicked, session.Partitioned} {
			if why == session.Partitioned && cut < time.Minute {
				continue // the session goes on
			}
			inRig(t, 3, func(r *rig) {
				a := r.hubs[0].listen(ann, "x")
				synctest.Wait()
				r.hubs[0].log.Cut()
				if why != session.Partitioned {
					r.must(r.hubs[1].EndSession(session.UID(ann), why))
				}
				time.Sleep(cut)
				r.wantNoNotes()
				r.hubs[0].log.Heal()
				if got := a.bye(); got != string(why) {
					t.Errorf("after %v, the stream of a session that is %s says %q", cut, why, got)
				}
			})
		}
	}
}

// TestASessionThatAHubOfAnEarlierVersionHasEndedIsKicked has a hub remove the session's note that does not say why.
func TestASessionThatAHubOfAnEarlierVersionHasEndedIsKicked(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		a := r.hubs[0].listen(ann, "x")
		synctest.Wait()
		_, err := r.hubs[1].log.AppendNoted(t.Context(), nil, store.Note{Key: sessionNotes + session.UID(ann)})
		r.must(err)
		if got := a.bye(); got != string(session.Kicked) {
			t.Errorf("the stream says %q", got)
		}
	})
}
