package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/watchbox-go/watchbox/store"
)

// hubTests test store.Hubs.
var hubTests = []sharedTest{
	{"hubs know each other, each by an id of its own", knownHubs},
	{"a call is answered by the hub that is called, 3 hubs and 60 calls at once", calls},
	{"a call of a hub that does not exist, or does not serve, returns ErrNoHub", noHub},
	{"a hub that closed the log is down: all others are told once", downOnce},
	{"Renew gives a hub a new id, by which others reach it", renewed},
}

// ids returns the ids that List has, which must be sorted.
func (p *peer) ids() (ids []string) {
	p.t.Helper()
	for _, h := range p.Hubs().List() {
		ids = append(ids, h.ID)
		if h.Since.IsZero() {
			p.t.Errorf("%+v has no start", h)
		}
	}
	if !slices.IsSorted(ids) {
		p.t.Errorf("the hubs are not sorted: %v", ids)
	}
	return ids
}

// call calls a hub once.
func (p *peer) call(id string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(p.env.Context(), patience)
	defer cancel()
	return p.Hubs().Call(ctx, id, request)
}

// answered calls a hub that serves until it can be reached, and returns its answer.
func (p *peer) answered(id string, request []byte) (reply []byte) {
	p.t.Helper()
	p.env.eventually("a call is answered", func() bool {
		var err error
		if reply, err = p.call(id, request); err != nil && !errors.Is(err, store.ErrNoHub) {
			p.t.Errorf("a call: %v", err)
		}
		return err == nil
	})
	return reply
}

// unreachable waits until calls of an id find no hub.
func (p *peer) unreachable(id string) {
	p.t.Helper()
	p.env.eventually("a call finds no hub", func() bool {
		_, err := p.call(id, nil)
		return errors.Is(err, store.ErrNoHub)
	})
}

// acquainted waits until each hub lists exactly these.
func (c *cluster) acquainted(peers ...*peer) {
	c.Helper()
	var want []string
	for _, p := range peers {
		want = append(want, p.Hubs().Self())
	}
	slices.Sort(want)
	for _, p := range peers {
		c.eventually("the hubs know each other", func() bool { return slices.Equal(p.ids(), want) })
	}
}

func knownHubs(c *cluster) {
	a, b := c.two()
	c.acquainted(a, b)
	later := c.hub()
	c.acquainted(a, b, later)
	for _, p := range []*peer{a, b, later} {
		for _, other := range []*peer{a, b, later} {
			id := other.Hubs().Self()
			if !p.Hubs().Alive(id) {
				c.Errorf("%s is not alive", id)
			}
			if other == p {
				continue
			}
			first := p.Hubs().Heard(id)
			if first.IsZero() {
				c.Errorf("%s was not heard", id)
			}
			c.eventually("a hub is heard again", func() bool { return p.Hubs().Heard(id).After(first) })
		}
		if p.Hubs().Alive("nobody") || p.Hubs().Alive("") || !p.Hubs().Heard("nobody").IsZero() {
			c.Error("a hub that does not exist is alive")
		}
	}
	if id := a.Hubs().Self(); strings.ContainsAny(id, " .*>") || id == "" {
		c.Errorf("the id %q", id)
	}
}

func calls(c *cluster) {
	peers := []*peer{c.hub(), c.hub(), c.hub()}
	for i, p := range peers {
		p.Hubs().Serve(func(_ context.Context, request []byte) []byte { return fmt.Append(nil, i, " ", string(request)) })
	}
	c.acquainted(peers...)
	for _, from := range peers {
		for _, to := range peers {
			from.answered(to.Hubs().Self(), nil)
		}
	}
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			from, to := i%3, i/3%3
			request := fmt.Append(nil, i, strings.Repeat("x", 100*i))
			reply, err := peers[from].call(peers[to].Hubs().Self(), request)
			if want := fmt.Append(nil, to, " ", string(request)); err != nil || !bytes.Equal(reply, want) {
				c.Errorf("call %d of %d to %d: %.100q, %v; want %.100q", i, from, to, reply, err, want)
			}
		})
	}
	all.Wait()
}

func noHub(c *cluster) {
	a, b := c.two()
	c.acquainted(a, b)
	for _, id := range []string{"nobody", b.Hubs().Self()} {
		if _, err := a.call(id, []byte("x")); !errors.Is(err, store.ErrNoHub) {
			c.Errorf("a call of %s: %v", id, err)
		}
	}
	b.Hubs().Serve(func(context.Context, []byte) []byte { return []byte("here") })
	if reply := a.answered(b.Hubs().Self(), nil); string(reply) != "here" {
		c.Errorf("a call is answered by %q", reply)
	}
}

func downOnce(c *cluster) {
	a, b := c.two()
	gone := c.hub()
	c.acquainted(a, b, gone)
	id := gone.Hubs().Self()
	told := map[*peer]chan string{a: make(chan string, 9), b: make(chan string, 9)}
	for p, ch := range told {
		p.Hubs().Down(func(id string) { ch <- id })
	}
	if err := gone.Close(); err != nil {
		c.Fatal(err)
	}
	for p, ch := range told {
		if got := <-ch; got != id {
			c.Errorf("%s is down, want %s", got, id)
		}
		if p.Hubs().Alive(id) || slices.Contains(p.ids(), id) {
			c.Error("a hub that is down is alive")
		}
		if _, err := p.call(id, nil); !errors.Is(err, store.ErrNoHub) {
			c.Errorf("a call of a hub that is gone: %v", err)
		}
	}
	a.meets(b)
	b.meets(a)
	c.acquainted(a, b)
	for _, ch := range told {
		if len(ch) > 0 {
			c.Errorf("%s is down, too", <-ch)
		}
	}
}

func renewed(c *cluster) {
	a, b := c.two()
	b.Hubs().Serve(func(context.Context, []byte) []byte { return []byte("here") })
	c.acquainted(a, b)
	old := b.Hubs().Self()
	b.Hubs().Renew()
	id := b.Hubs().Self()
	if id == old {
		c.Error("the id is the same")
	}
	c.eventually("the hub is known by its new id", func() bool { return a.Hubs().Alive(id) && slices.Contains(a.ids(), id) })
	if reply := a.answered(id, nil); string(reply) != "here" {
		c.Errorf("a call by the new id is answered by %q", reply)
	}
	a.unreachable(old)
	b.add(text("a", "x"))
	b.meets(a)
	a.want("a", "x")
}
