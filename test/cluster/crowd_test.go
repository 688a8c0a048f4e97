//go:build !windows

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/judge"
)

// watch follows the presence of sessions with a filter at a hub until the test ends. The hubs keep its messages, since a witness
// may lag by more than the 100 that they keep otherwise.
func watch(t *testing.T, filter string, at *hubs.Hub) *listener {
	t.Helper()
	if _, err := call(http.DefaultClient, http.MethodPut, at, "/v1/policies/"+url.PathEscape("$presence/"+filter), "", `{"max_messages":100000}`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		following.Wait()
	})
	w := newListener("witness", "$presence/"+filter, []*hubs.Hub{at})
	following.Go(func() {
		w.run(ctx, rand.New(rand.NewPCG(1, 1)), func() int { return 1 << 30 })
	})
	if !w.until(ctx, func(seen []judge.Event) bool { return len(seen) > 0 }) {
		t.Fatal("the witness has no stream")
	}
	return w
}

// saw is how many events of some kind the witness has seen.
func saw(seen []judge.Event, event string) (n int) {
	for _, e := range seen {
		if strings.Contains(e.Body, `"event":"`+event+`"`) {
			n++
		}
	}
	return n
}

// lacking returns a function that returns of how many sessions the witness has not seen one of the events last. Each call looks
// only at what was seen since the one before.
func lacking(sessions []*listener, events ...string) func(seen []judge.Event) int {
	missing := map[string]bool{}
	for _, l := range sessions {
		missing[l.uid] = true
	}
	known, n := 0, len(sessions)
	return func(seen []judge.Event) int {
		for _, e := range seen[known:] {
			var p struct{ Event, UID string }
			_ = json.Unmarshal([]byte(e.Body), &p) // a position has no body
			was, ok := missing[p.UID]
			is := !slices.Contains(events, p.Event)
			switch {
			case !ok:
				continue
			case was && !is:
				n--
			case !was && is:
				n++
			}
			missing[p.UID] = is
		}
		known = len(seen)
		return n
	}
}

func accuse(t *testing.T, h *judge.History) {
	t.Helper()
	wrong := judge.Judge(h)
	if n := len(wrong); n > 20 {
		wrong = append(wrong[:20], fmt.Sprintf("and %d more", n-20))
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

// testFlapping has a session open a stream at two hubs in turn, a thousand times, and close it at once. It is there
// all the time.
func testFlapping(t *testing.T, s *system) {
	witness := watch(t, "flap", s.hubs[2])
	l := newListener("flapping", "flap", s.hubs[:2])
	for n := range 1000 {
		l.stream(t.Context(), l.hubs[n%2], 1)
	}
	// If no hub could store anything for a while, it is gone before the end, too.
	there := lacking([]*listener{l}, "gone")
	if !witness.until(t.Context(), func(seen []judge.Event) bool { return there(seen) == 0 }) {
		t.Error("the session is not gone")
	}
	t.Logf("the session was lost %d times", saw(witness.history().Events, "lost"))
	accuse(t, &judge.History{
		Listeners: []judge.Listener{l.history(), witness.history()},
		Sessions:  []judge.Session{{UID: l.uid, Absences: 1 + l.wasAbsent()}},
	})
}

// testCrowd kills the hub of 2,000 sessions. Half of them return at other hubs.
func testCrowd(t *testing.T, s *system) {
	const crowd = 2000
	witness := watch(t, "crowd", s.hubs[1])
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all := make([]*listener, crowd)
	var staying, leaving []*listener
	var streaming sync.WaitGroup
	defer streaming.Wait()
	defer cancel()
	for i := range all {
		all[i] = newListener(fmt.Sprint("crowd-", i), "crowd", s.hubs)
		all[i].silence = patience // no hub is paused
		if i%2 == 0 {
			staying = append(staying, all[i])
		} else {
			leaving = append(leaving, all[i])
		}
		streaming.Go(func() {
			for n := i; ctx.Err() == nil && (i%2 == 0 || all[i].position() == (judge.ID{})); n++ {
				at := 0
				if all[i].position() != (judge.ID{}) {
					at = 1 + n%2
				}
				all[i].stream(ctx, s.hubs[at], 1<<30)
				select {
				case <-ctx.Done():
				case <-time.After(retry):
				}
			}
		})
	}
	none := func(lacking func([]judge.Event) int, what string) {
		if !witness.until(ctx, func(seen []judge.Event) bool { return lacking(seen) == 0 }) {
			t.Fatalf("the witness does not see that %d sessions of %d are %s", lacking(witness.history().Events), crowd, what)
		}
	}
	none(lacking(all, "join", "back", "lost", "gone"), "there")
	for _, l := range all {
		if !l.until(ctx, func(seen []judge.Event) bool { return len(seen) > 0 }) {
			t.Fatalf("%s has no stream", l.name)
		}
	}
	s.hubs[0].Kill()
	killed := time.Now()
	none(lacking(leaving, "gone"), "gone")
	t.Logf("they are gone after %v", time.Since(killed))
	none(lacking(staying, "join", "back"), "back")
	if err := s.hubs[0].Restart(); err != nil {
		t.Fatal(err)
	}
	h := &judge.History{Listeners: []judge.Listener{witness.history()}}
	for i, l := range all {
		back := i%2 == 0
		absences := l.wasAbsent()
		if !back {
			absences = 1
		}
		h.Sessions = append(h.Sessions, judge.Session{UID: l.uid, Absences: absences, Here: back})
	}
	accuse(t, h)
}
