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

// TestASessionThatHasBecomeTooLargeWaits lowers the limit of the store below the size of a session that is lost then. The other
// sessions go on, and so does this one when the limit is raised.
func TestASessionThatHasBecomeTooLargeWaits(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		a := r.hubs[0].listen(ann, filtersOf(50))
		synctest.Wait()
		r.log.MaxNote.Store(2000)
		a.leave()
		time.Sleep(time.Hour)
		if n := r.log.Refused.Load(); n < 30 || n > 150 {
			t.Errorf("in an hour, the loss is tried %d times", n)
		}
		if n := r.lines(tooLarge); n < 1 || n > 6 {
			t.Errorf("%d lines are logged", n)
		}
		if n := r.lines("appending a message"); n > 0 {
			t.Errorf("%d lines say that messages are lost, which come later", n)
		}
		r.hubs[0].listen(bob, "x")
		r.wantPresence(bob, "join x")
		r.log.MaxNote.Store(0)
		time.Sleep(10 * time.Minute)
		if got := r.presence(ann); strings.Count(got, "gone") != 50 {
			t.Errorf("announced is %s", got)
		}
	})
}
