package sharedtest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

// hubs is a Log as store.Hubs.
type hubs struct{ *Log }

// Hubs implements store.Shared.
func (l *Log) Hubs() store.Hubs { return &hubs{l} }

// beatEvery is the time between two signs of life.
const beatEvery = store.SilentFor / 3

// beat gives signs of life and watches those of the others.
func (l *Log) beat() {
	told := map[string]bool{}
	connected := time.Now()
	for {
		select {
		case <-time.After(beatEvery):
		case <-l.closed:
			return
		}
		l.mu.Lock()
		away, killed, down, self := l.paused || l.cut, l.killed, l.down, l.id
		if !away && !killed {
			l.beaten = time.Now()
		}
		l.mu.Unlock()
		switch {
		case killed:
			return
		case away:
			connected = time.Now().Add(beatEvery)
			continue
		case time.Since(connected) < store.SilentFor || down == nil:
			continue
		}
		for id, m := range l.cluster.members() {
			if id != self && !told[id] && !m.alive(id) {
				told[id] = true
				l.running.Go(func() { down(id) })
			}
		}
	}
}

// alive reports whether the hub has the id and has given a sign of life.
func (l *Log) alive(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id == id && time.Since(l.beaten) < store.SilentFor
}

// Self implements store.Hubs.
func (h *hubs) Self() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.id
}

// Alive implements store.Hubs.
func (h *hubs) Alive(id string) bool {
	m := h.cluster.members()[id]
	return m != nil && m.alive(id)
}

// Heard implements store.Hubs. A hub that is paused or cut off hears nothing, and gives no sign either.
func (h *hubs) Heard(id string) time.Time {
	m := h.cluster.members()[id]
	if m == nil {
		return time.Time{}
	}
	theirs, own := m.lastSign(), h.lastSign()
	if own.Before(theirs) {
		return own
	}
	return theirs
}

func (l *Log) lastSign() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.beaten
}

// List implements store.Hubs.
func (h *hubs) List() (list []store.Hub) {
	for id, m := range h.cluster.members() {
		if m.alive(id) {
			list = append(list, store.Hub{ID: id, Name: cmp.Or(h.cluster.Name, "name-of-"+id), Since: m.since})
		}
	}
	return slices.SortedFunc(slices.Values(list), func(a, b store.Hub) int { return strings.Compare(a.ID, b.ID) })
}

// Call implements store.Hubs.
func (h *hubs) Call(ctx context.Context, hub string, request []byte) ([]byte, error) {
	h.cluster.pause()
	m := h.cluster.members()[hub]
	if m == nil {
		return nil, store.ErrNoHub
	}
	h.mu.Lock()
	cut := h.paused || h.cut
	h.mu.Unlock()
	m.mu.Lock()
	serve, away, gone := m.serve, m.paused || m.cut, m.killed || m.id != hub || m.serve == nil
	m.mu.Unlock()
	switch {
	case gone && !cut:
		return nil, store.ErrNoHub
	case away || cut:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return serve(ctx, request), nil
}

// Serve implements store.Hubs.
func (h *hubs) Serve(f func(context.Context, []byte) []byte) { h.set(func() { h.serve = f }) }

// Down implements store.Hubs.
func (h *hubs) Down(f func(id string)) { h.set(func() { h.down = f }) }

// Renew implements store.Hubs.
func (h *hubs) Renew() {
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	h.cluster.register(h.Log)
}

// IDs returns the ids of all hubs that ever were.
func (c *Cluster) IDs() []string { return slices.Sorted(maps.Keys(c.members())) }
