//go:build !windows

package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/judge"
)

// round is a random run: clients use all hubs while something fails. Its groups begin with its name.
type round struct {
	*testing.T
	name   string
	rand   *rand.Rand
	hubs   []*hubs.Hub
	size   int // bytes of a message's body, at least
	client *http.Client

	listeners  []*listener
	witness    *listener // of presence
	late       *listener // gets everything from the past: it is away until all else has come to rest
	publishers []*publisher
	sessions   []*session

	crashed bool // see judge.History
	purges  []judge.Purge

	mu      sync.Mutex
	trouble []error
}

// play runs clients until fault has returned and each has done its least, and judges what they saw. The bodies of messages
// have size bytes at least.
func play(t *testing.T, name string, seed uint64, all []*hubs.Hub, size int, fault func(r *round)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	r := &round{T: t, name: name, rand: rand.New(rand.NewPCG(seed, 0)), hubs: all, size: size, client: &http.Client{Transport: &http.Transport{}}}
	defer r.client.CloseIdleConnections()
	r.cast()
	var following, acting sync.WaitGroup
	defer following.Wait()
	defer cancel()
	for _, l := range r.listeners {
		own := r.fork()
		following.Go(func() { l.run(ctx, own, func() int { return 1 + own.IntN(60) }) })
	}
	for _, l := range r.listeners {
		if !l.until(ctx, func(seen []judge.Event) bool { return len(seen) > 0 }) {
			t.Fatalf("%s has no stream", l.name)
		}
	}
	over := make(chan struct{})
	r.late.stream(ctx, r.hubs[0], 1)
	for _, p := range r.publishers {
		acting.Go(func() { r.publish(p, over) })
	}
	for _, s := range r.sessions {
		acting.Go(func() { r.live(ctx, s, over) })
	}
	r.listeners[0].until(ctx, func(seen []judge.Event) bool { return len(seen) > leastPosts/2 })
	fault(r)
	close(over)
	acting.Wait()
	r.listeners = append(r.listeners, r.late)
	own := r.fork()
	following.Go(func() { r.late.run(ctx, own, func() int { return 1 + own.IntN(60) }) })
	r.rest(ctx)
	cancel()
	following.Wait()
	r.verdict(seed)
}

// cast makes the clients.
func (r *round) cast() {
	var groups []string
	for _, g := range []string{"a", "b", "c/x", "c/y", "s/s0", "s/s1", "s/s2"} {
		groups = append(groups, r.name+"/"+g)
	}
	for i, f := range []string{"#", "a", "+", "c/#", "c/+", "c/x"} {
		r.listeners = append(r.listeners, newListener(fmt.Sprintf("listener-%d", i), r.name+"/"+f, r.hubs))
	}
	r.witness = newListener("witness", "$presence/"+r.name+"/s/#", r.hubs)
	r.listeners = append(r.listeners, r.witness)
	r.late = newListener("late", r.name+"/#", r.hubs)
	for i := range 3 {
		r.publishers = append(r.publishers, &publisher{name: fmt.Sprintf("%s-p%d", r.name, i), groups: groups, hubs: r.hubs, size: r.size, rand: r.fork(), client: r.client})
	}
	for i := range 3 {
		r.sessions = append(r.sessions, newSession(r, i))
	}
}

func (r *round) fork() *rand.Rand { return rand.New(rand.NewPCG(r.rand.Uint64(), 0)) }

func (r *round) failed(err error) {
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.trouble = append(r.trouble, err)
	}
}

const (
	leastPosts = 40
	mostPosts  = 400
	pause      = 10 * time.Millisecond // between posts
)

// publish posts until the round is over, at least leastPosts and at most mostPosts times.
func (r *round) publish(p *publisher, over <-chan struct{}) {
	ended := false
	for n := 0; n < leastPosts || !ended && n < mostPosts; n++ {
		r.failed(p.post(n))
		select {
		case <-over:
			ended = true
		case <-time.After(pause):
		}
	}
}

// mark posts a message and returns its id.
func (r *round) mark(name string) judge.ID {
	p := &publisher{name: r.name + "-" + name, groups: []string{r.name + "/b"}, hubs: r.hubs, rand: r.fork(), client: r.client}
	r.failed(p.store(name, []judge.Message{{Group: r.name + "/b", Body: p.name}}))
	r.publishers = append(r.publishers, p)
	return p.posts[len(p.posts)-1].Last
}

// purged notes that messages of the groups of a filter may have been removed.
func (r *round) purged(filter string) {
	r.purges = append(r.purges, judge.Purge{Filter: filter, Through: r.mark("purged")})
}

// rest waits until all hubs are ready and all listeners have everything.
func (r *round) rest(ctx context.Context) {
	for _, h := range r.hubs {
		if err := h.Ready(); err != nil {
			r.Fatal(err)
		}
	}
	for _, s := range r.sessions {
		if !r.witness.until(ctx, func(seen []judge.Event) bool { return absent(seen, s.uid) }) {
			r.failed(fmt.Errorf("%s is not gone at the end", s.name))
		}
	}
	last := r.mark("end")
	for _, l := range r.listeners {
		if !l.until(ctx, func(seen []judge.Event) bool { return seen[len(seen)-1].ID.Seq >= last.Seq }) {
			r.Errorf("%s (%s) did not reach %v: it is at %v", l.name, l.filter, last, l.position())
		}
	}
}

// verdict asks all hubs the same, and has the judge decide.
func (r *round) verdict(seed uint64) {
	h := &judge.History{Crashed: r.crashed, Purges: r.purges}
	for _, l := range r.listeners {
		h.Listeners = append(h.Listeners, l.history())
	}
	for _, p := range r.publishers {
		h.Posts = append(h.Posts, p.posts...)
	}
	for _, s := range r.sessions {
		h.Sessions = append(h.Sessions, s.history())
	}
	for _, question := range []string{"/v1/history/" + r.name + "/%23", "/v1/retained/" + r.name + "/%23"} {
		for _, hub := range r.hubs {
			text, err := call(r.client, http.MethodGet, hub, question, "", "")
			r.failed(err)
			h.Answers = append(h.Answers, judge.Answer{Question: question, Hub: hub.Name, Text: text})
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.trouble {
		r.Error(err)
	}
	wrong := judge.Judge(h)
	if n := len(wrong); n > 30 {
		wrong = append(wrong[:30], fmt.Sprintf("and %d more", n-30))
	}
	if len(wrong) > 0 {
		r.Errorf("seed %d:\n%s", seed, strings.Join(wrong, "\n"))
	}
	r.Logf("%d posts, %d events", len(h.Posts), len(h.Listeners[0].Events))
}
