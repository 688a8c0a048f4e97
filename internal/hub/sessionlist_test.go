package hub

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/session"
)

// TestPagesOfSessionsFromDifferentHubsHaveEachSessionOnce asks another hub for each page. The last hub started later, and has seen
// fewer sessions begin.
func TestPagesOfSessionsFromDifferentHubsHaveEachSessionOnce(t *testing.T) {
	inRig(t, 2, func(r *rig) {
		for i := range 5 {
			c := r.hubs[i%2].listen(fmt.Sprint("an-earlier-secret-of-session-", i), "x")
			c.leave()
		}
		time.Sleep(time.Hour)
		var want []string
		for i := range 20 {
			secret := fmt.Sprint("the-secret-of-the-session-", i)
			r.hubs[i%2].listen(secret, "x")
			want = append(want, session.UID(secret))
			if i%3 == 0 { // the others begin at once
				time.Sleep(time.Second)
			}
		}
		r.hubs = append(r.hubs, r.begin(2))
		time.Sleep(time.Minute)
		slices.Sort(want)
		for _, sort := range SessionOrders {
			for _, limit := range []int{1, 3, 7, 20} {
				var got []string
				q := &SessionListing{Sort: sort, Limit: limit}
				for page := 0; page <= len(want); page++ {
					next, err := r.hubs[page%3].Sessions(q, func(s *Session) error {
						got = append(got, s.UID)
						return nil
					})
					r.must(err)
					if q.After = next; next == "" {
						break
					}
				}
				if slices.Sort(got); !slices.Equal(got, want) {
					t.Errorf("sort %s, limit %d: %d sessions, want %d, each once: %q", sort, limit, len(got), len(want), got)
				}
			}
		}
		var began []time.Time
		_, err := r.hubs[2].Sessions(&SessionListing{Sort: SortSince}, func(s *Session) error {
			began = append(began, s.Since)
			return nil
		})
		if r.must(err); len(began) != len(want) || !slices.IsSortedFunc(began, time.Time.Compare) {
			t.Errorf("they began at %v", began)
		}
	})
}
