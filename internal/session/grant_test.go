package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
)

// newGrant returns a grant that allows subscribing to filters, separated by spaces, from now on.
func newGrant(t *testing.T, subject, filters string, life time.Duration) *access.Grant {
	t.Helper()
	g, err := access.NewGrant(subject, "", strings.Fields(filters), nil, false, time.Now(), time.Now().Add(life))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// openWith adds a stream with a grant.
func (w *world) openWith(uid, filters string, g *access.Grant) *stream {
	w.t.Helper()
	s := &stream{attached: make(chan struct{})}
	var err error
	if s.Attachment, err = w.Attach(uid, &Opening{Grant: g, Filters: parse(filters), Stream: s}); err != nil {
		w.t.Fatal(err)
	}
	close(s.attached)
	return s
}

// reasons returns the reasons for which the session has ended the stream.
func (s *stream) reasons() []Reason {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func TestStreamsEndSpreadBeforeTheirTokenExpires(t *testing.T) {
	for _, life := range []time.Duration{time.Second, time.Minute, time.Hour, 1000 * time.Hour} {
		inABubble(t, func(w *world) {
			const n, parts = 2_000, 20
			streams := make([]*stream, n)
			for i := range streams {
				streams[i] = w.openWith(fmt.Sprint("u", i), "x", newGrant(t, "anna", "x", life))
			}
			ended := func() (count int) {
				synctest.Wait()
				for _, s := range streams {
					s.mu.Lock()
					count += len(s.ended)
					s.mu.Unlock()
				}
				return count
			}
			spread := min(life/20, 30*time.Second)
			time.Sleep(life - spread - 1)
			if early := ended(); early > 0 {
				t.Errorf("life %v: %d streams ended before the last %v", life, early, spread)
			}
			last := 0
			for i := range parts {
				time.Sleep(spread / parts)
				now := ended()
				if some := now - last; some < n/parts/2 || some > n/parts*2 {
					t.Errorf("life %v: %d of %d streams ended in part %d of %d", life, some, n, i, parts)
				}
				last = now
			}
			time.Sleep(2 * time.Nanosecond)
			if all := ended(); all != n {
				t.Errorf("life %v: %d of %d streams have ended when the token expires", life, all, n)
			}
			if why := streams[0].reasons(); !slices.Equal(why, []Reason{Expired}) {
				t.Errorf("the reasons are %v", why)
			}
		})
	}
}

func TestARenewedStreamLivesAsLongAsItsNewToken(t *testing.T) {
	inABubble(t, func(w *world) {
		s := w.openWith("u", "x", newGrant(t, "anna", "x", time.Minute))
		time.Sleep(50 * time.Second)
		if err := w.Renew("u", newGrant(t, "anna", "x", time.Hour)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Minute)
		if why := s.reasons(); len(why) > 0 {
			t.Fatalf("ended for %v", why)
		}
		time.Sleep(10 * time.Minute)
		if why := s.reasons(); !slices.Equal(why, []Reason{Expired}) {
			t.Errorf("the reasons are %v", why)
		}
		time.Sleep(timeout)
		w.wantEvents("u", "connect, join x, lost x token-expired, gone x token-expired, disconnect token-expired") // the client did not return
	})
}

func TestAStreamLeavesFiltersThatItsNewTokenDoesNotCover(t *testing.T) {
	inABubble(t, func(w *world) {
		a, b := w.openWith("u", "x y z", newGrant(t, "anna", "#", time.Hour)), w.openWith("u", "y", newGrant(t, "anna", "#", time.Hour))
		if err := w.Renew("u", newGrant(t, "anna", "x z", time.Hour)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.changes, []string{"leave y"}) || len(a.reasons()) > 0 {
			t.Errorf("the first stream: %v, ended for %v", a.changes, a.ended)
		}
		if why := b.reasons(); !slices.Equal(why, []Reason{Forbidden}) {
			t.Errorf("a stream without any filter ends for %v", why)
		}
		w.wantEvents("u", "connect, join x, join y, join z, leave y forbidden")
		if err := w.Join("u", group.Exact("y"), 9); !isForbidden(err) {
			t.Errorf("joining a filter that the stream's token does not cover: %v", err)
		}
	})
}

func isForbidden(err error) bool {
	_, ok := errors.AsType[*access.Forbidden](err)
	return ok
}

func TestASessionBelongsToItsSubject(t *testing.T) {
	inABubble(t, func(w *world) {
		anna, otto := newGrant(t, "anna", "x", time.Hour), newGrant(t, "otto", "x", time.Hour)
		w.openWith("u", "x", anna).close(Closed)
		for what, err := range map[string]error{
			"admit": w.Admit("u", "otto", parse("x")), "hear": w.SignOfLife("u", "otto"), "renew": w.Renew("u", otto),
			"attach": func() error { _, err := w.Attach("u", &Opening{Grant: otto, Stream: &stream{}}); return err }(),
		} {
			if err != ErrOfAnother {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := w.Renew("u", anna); err != ErrNoStream {
			t.Errorf("renewing a lost session: %v", err)
		}
		if i, err := w.Get("u"); err != nil || i.Subject != "anna" {
			t.Errorf("%+v, %v", i, err)
		}
	})
}

func TestARecalledSessionWithoutASubjectGetsThatOfItsFirstStream(t *testing.T) {
	inABubble(t, func(w *world) {
		w.Restore("u", nil, parse("x"), nil)
		if err := w.SignOfLife("u", "otto"); err != nil {
			t.Error(err)
		}
		w.openWith("u", "x", newGrant(t, "anna", "x", time.Hour))
		if err := w.SignOfLife("u", "otto"); err != ErrOfAnother {
			t.Error(err)
		}
		subject := "anna"
		w.Restore("v", &subject, parse("x"), nil)
		if err := w.SignOfLife("v", "otto"); err != ErrOfAnother {
			t.Error(err)
		}
	})
}

func TestRecheckEndsAndAdjustsStreams(t *testing.T) {
	inABubble(t, func(w *world) {
		stays, narrower := newGrant(t, "a", "x y", time.Hour), newGrant(t, "b", "x y", time.Hour)
		revoked, expired := newGrant(t, "c", "x y", time.Hour), newGrant(t, "d", "x y", time.Hour)
		streams := map[*access.Grant]*stream{}
		for _, g := range []*access.Grant{stays, narrower, revoked, expired} {
			streams[g] = w.openWith(g.Subject, "x y", g)
		}
		w.Recheck(func(g *access.Grant) (*access.Grant, error) {
			switch g {
			case narrower:
				return newGrant(t, "b", "y", time.Hour), nil
			case revoked:
				return nil, access.ErrRevoked
			case expired:
				return nil, access.ErrExpired
			}
			return g, nil
		})
		for g, want := range map[*access.Grant]string{stays: "[] []", narrower: "[leave x] []", revoked: "[] [token-revoked]", expired: "[] [token-expired]"} {
			if got := fmt.Sprint(streams[g].changes, " ", streams[g].reasons()); strings.ReplaceAll(got, "  ", " ") != want {
				t.Errorf("%s: %s, want %s", g.Subject, got, want)
			}
		}
	})
}

func TestAStreamWithoutExpiryEndsWithItsNewToken(t *testing.T) {
	inABubble(t, func(w *world) {
		forever, err := access.NewGrant("anna", "", []string{"x"}, nil, false, time.Time{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		s := w.openWith("u", "x", forever)
		if err := w.Renew("u", newGrant(t, "anna", "x", time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if why := s.reasons(); !slices.Equal(why, []Reason{Expired}) {
			t.Errorf("the reasons are %v", why)
		}
	})
}
