//go:build !windows

package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/watchbox-go/watchbox/test/cluster/judge"
)

const sessionTimeout = 2 * time.Second // of the hubs

// session is a client that comes, hops and goes, with a last will.
type session struct {
	*listener
	rand     *rand.Rand
	group    string // of its wills
	absences int
	wills    []string
}

func newSession(r *round, n int) *session {
	name := fmt.Sprintf("s%d", n)
	return &session{listener: newListener(r.name+name, r.name+"/s/"+name, r.hubs), rand: r.fork(), group: r.name + "/wills/" + name}
}

func (s *session) history() judge.Session {
	return judge.Session{UID: s.uid, Absences: s.absences, WillGroup: s.group, Wills: s.wills}
}

// live lets a session live at least once and until the round is over.
func (r *round) live(ctx context.Context, s *session, over <-chan struct{}) {
	for n := 0; ; n++ {
		r.life(ctx, s, n)
		select {
		case <-over:
			return
		case <-ctx.Done():
			return
		default:
		}
	}
}

// life opens streams at random hubs, one after the other, sets a will and ends the session: it stays away or is kicked.
func (r *round) life(ctx context.Context, s *session, n int) {
	streaming, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	s.begin()
	own := rand.New(rand.NewPCG(s.rand.Uint64(), 0))
	go func() {
		defer close(ended)
		s.run(streaming, own, func() int { return 1 + own.IntN(4) })
	}()
	if !s.until(ctx, func([]judge.Event) bool { return !s.last.IsZero() }) {
		r.failed(fmt.Errorf("%s has no stream", s.name))
	}
	r.will(ctx, s, n)
	at := s.position().Seq
	if !s.until(ctx, func(seen []judge.Event) bool { return seen[len(seen)-1].ID.Seq > at+20 }) {
		r.failed(fmt.Errorf("%s gets nothing", s.name))
	}
	gone := r.gone(s)
	if s.rand.IntN(2) == 0 {
		// It may return before the stream is stopped.
		s.absences += 1 + r.any(ctx, s, http.MethodDelete, "", "", func(int) string { return "" })
	}
	stop()
	<-ended
	s.absences += 1 + s.absent
	if !r.witness.until(ctx, func(seen []judge.Event) bool { return count(seen, s.uid, "gone") > gone }) {
		r.failed(fmt.Errorf("%s is not gone", s.name))
	}
}

// any sends a request about a session to any hub, until one succeeds. It returns how many of the others may have been carried
// out, or may still be: by a hub that was killed or is paused. The body may depend on the attempt.
func (r *round) any(ctx context.Context, s *session, method, path, secret string, body func(attempt int) string) (unknown int) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for n := 0; ; n++ {
		_, err := call(r.client, method, r.hubs[s.rand.IntN(len(r.hubs))], "/v1/sessions/"+s.uid+path, secret, body(n))
		if err == nil {
			return unknown
		}
		if !errors.Is(err, syscall.ECONNREFUSED) && !strings.Contains(err.Error(), ": 404 ") {
			unknown++
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			r.failed(err)
			return unknown
		}
	}
}

// will sets the session's will.
func (r *round) will(ctx context.Context, s *session, n int) {
	var bodies []string
	unknown := r.any(ctx, s, http.MethodPut, "/will", s.secret, func(attempt int) string {
		body := fmt.Sprintf("%s-will-%d-%d", s.name, n, attempt)
		bodies = append(bodies, body)
		return fmt.Sprintf(`{"group":%q,"msg":%q}`, s.group, body)
	})
	last := bodies[len(bodies)-1:]
	if unknown > 0 { // one of the others may have come last
		last = nil
	}
	s.wills = append(s.wills, last...)
}

// gone is how often the witness saw that a session is gone.
func (r *round) gone(s *session) int {
	r.witness.mu.Lock()
	defer r.witness.mu.Unlock()
	return count(r.witness.seen, s.uid, "gone")
}

func count(seen []judge.Event, uid, event string) (n int) {
	for _, e := range seen {
		if strings.Contains(e.Body, uid) && strings.Contains(e.Body, event) {
			n++
		}
	}
	return n
}

// absent reports whether the witness saw last that a session is gone.
func absent(seen []judge.Event, uid string) bool {
	gone := true
	for _, e := range seen {
		if strings.Contains(e.Body, uid) {
			gone = strings.Contains(e.Body, "gone")
		}
	}
	return gone
}
