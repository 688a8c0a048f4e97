package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/watchbox-go/watchbox/store"
)

// hubs are the hubs that share the stream. They find each other by signs of life, which are messages of NATS that are
// not in the stream.
type hubs struct {
	l     *Log
	signs string // subject of the signs of life; calls go to it with the hub's id behind it

	mu     sync.Mutex // guards the fields below
	self   store.Hub
	others map[string]*peer
	echoed bool // a sign of this hub came back since the last tick
	serve  func(context.Context, []byte) []byte
	calls  *nats.Subscription // for self.ID
	down   func(string)
}

// peer is another hub.
type peer struct {
	store.Hub
	client uint64        // tells its connection apart
	heard  time.Time     // its last sign of life
	silent time.Duration // since its last sign of life, without the time in which this hub heard nothing at all
	down   bool          // down was called
}

// sign is a sign of life.
type sign struct {
	store.Hub
	Limits limits // of the server's policy
	Client uint64 // the number of the log, which is in the name of its connection
	Bye    bool   `json:",omitempty"` // it is the last one
}

// limits are what a policy says about which messages are kept.
type limits struct {
	MaxMessages, MaxBytes int64
	MaxAge                time.Duration
}

func limitsOf(p store.Policy) limits { return limits{p.MaxMessages, p.MaxBytes, p.MaxAge} }

// forgetAfter is how long a hub that is gone stays known.
const forgetAfter = 10 * time.Minute

func newHubs(l *Log) *hubs {
	h := &hubs{l: l, signs: l.subjects.prefix + "hub", others: map[string]*peer{}}
	h.self = store.Hub{Name: l.opts.Name}
	h.rename()
	return h
}

func (h *hubs) rename() {
	h.self.ID, h.self.Since = fmt.Sprintf("%016x", random()), time.Now()
}

// Hubs implements store.Shared.
func (l *Log) Hubs() store.Hubs { return l.hubs }

// start begins to give and to hear signs of life.
func (h *hubs) start() error {
	if _, err := h.l.nc.Subscribe(h.signs, h.hear); err != nil {
		return err
	}
	if _, err := h.l.nc.Subscribe(h.purges(), h.l.tellPurges); err != nil {
		return err
	}
	h.give(false)
	h.l.running.Go(h.run)
	return nil
}

// give gives a sign of life.
func (h *hubs) give(bye bool) {
	h.mu.Lock()
	b, err := json.Marshal(sign{h.self, limitsOf(h.l.opts.Server), h.l.self, bye})
	h.mu.Unlock()
	if err == nil {
		_ = h.l.nc.Publish(h.signs, b) // fails without a connection, which the others will notice
	}
}

func (h *hubs) run() {
	tick := time.NewTicker(h.l.opts.Times.Sign)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-h.l.ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		// After a pause of this process, the signs that came meanwhile may still be on their way.
		h.count(min(now.Sub(last), 2*h.l.opts.Times.Sign))
		last = now
		h.give(false)
	}
}

// count adds to the silence of the others, unless this hub hears nothing at all.
func (h *hubs) count(passed time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.echoed {
		return
	}
	h.echoed = false
	for id, p := range h.others {
		p.silent += passed
		if p.silent >= h.l.opts.Times.Silent {
			h.giveUp(p)
		}
		if p.silent >= forgetAfter {
			delete(h.others, id)
		}
	}
}

// giveUp calls down for a hub.
func (h *hubs) giveUp(p *peer) {
	if p.down || h.down == nil {
		return
	}
	p.down = true
	f, id := h.down, p.ID
	h.l.running.Go(func() { f(id) })
}

// hear hears a sign of life.
func (h *hubs) hear(m *nats.Msg) {
	var s sign
	if err := json.Unmarshal(m.Data, &s); err != nil || s.ID == "" {
		return
	}
	if !h.heard(&s) {
		return
	}
	h.give(false) // so that the new hub knows this one at once
	if own := limitsOf(h.l.opts.Server); s.Limits != own {
		h.l.opts.Logger.Warn("another hub has other limits for groups, so that the hubs do not keep the same messages: start all hubs with the same --max-messages, --max-bytes and --max-age",
			"hub", s.Name, "its limits", s.Limits, "limits", own)
	}
}

// heard reports whether the hub was not known.
func (h *hubs) heard(s *sign) (isNew bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.ID == h.self.ID {
		h.echoed = true
		return false
	}
	p := h.others[s.ID]
	if isNew = p == nil; isNew {
		p = &peer{}
		h.others[s.ID] = p
	}
	p.Hub, p.silent, p.heard, p.client = s.Hub, 0, time.Now(), s.Client
	if s.Bye {
		p.silent = h.l.opts.Times.Silent
		h.giveUp(p)
	}
	return isNew && !s.Bye
}

// Self implements store.Hubs.
func (h *hubs) Self() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.self.ID
}

// Alive implements store.Hubs.
func (h *hubs) Alive(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.others[id]
	return id == h.self.ID || p != nil && h.alive(p)
}

func (h *hubs) alive(p *peer) bool { return p.silent < h.l.opts.Times.Silent }

// Heard implements store.Hubs.
func (h *hubs) Heard(id string) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.others[id]; p != nil {
		return p.heard
	}
	return time.Time{}
}

// List implements store.Hubs.
func (h *hubs) List() []store.Hub {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []store.Hub{h.self}
	for _, p := range h.others {
		if h.alive(p) {
			list = append(list, p.Hub)
		}
	}
	slices.SortFunc(list, func(a, b store.Hub) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Call implements store.Hubs. The servers do not know a hub for a moment when it has just begun to serve, or connects to
// another server. So a hub that is alive is called again, for as long as it takes to give the next sign of life.
func (h *hubs) Call(ctx context.Context, hub string, request []byte) ([]byte, error) {
	for late := time.Now().Add(h.l.opts.Times.Sign); ; pause(ctx, repeatRefused) {
		reply, alive, err := h.call(ctx, hub, request)
		if !errors.Is(err, store.ErrNoHub) || !alive || time.Now().After(late) {
			return reply, err
		}
	}
}

// call calls a hub once. It also reports whether the hub is alive.
func (h *hubs) call(ctx context.Context, hub string, request []byte) (reply []byte, alive bool, err error) {
	h.mu.Lock()
	serve, p := h.serve, h.others[hub]
	self := hub == h.self.ID
	alive = p != nil && h.alive(p)
	h.mu.Unlock()
	switch {
	case self && serve != nil:
		return serve(ctx, request), true, nil
	case p != nil && !alive:
		return nil, false, store.ErrNoHub
	}
	m, err := h.l.nc.RequestWithContext(ctx, h.signs+"."+hub, request)
	switch {
	case err == nil:
		return m.Data, alive, nil
	case errors.Is(err, nats.ErrNoResponders):
		return nil, alive, store.ErrNoHub
	case errors.Is(err, nats.ErrConnectionClosed):
		return nil, alive, store.ErrClosed
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return nil, alive, store.ErrAway
	}
	return nil, alive, err
}

// Serve implements store.Hubs.
func (h *hubs) Serve(f func(context.Context, []byte) []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serve = f
	h.listen()
}

// listen listens for calls of the current id.
func (h *hubs) listen() {
	if h.calls != nil {
		_ = h.calls.Unsubscribe() // it fails if the connection is closed
	}
	if h.serve == nil {
		return
	}
	f := h.serve
	calls, err := h.l.nc.Subscribe(h.signs+"."+h.self.ID, func(m *nats.Msg) {
		h.l.running.Go(func() {
			if err := m.Respond(f(h.l.ctx, m.Data)); err != nil {
				h.l.opts.Logger.Warn("a call of another hub is not answered", "error", err)
			}
		})
	})
	if err != nil && !h.l.closed.Load() {
		h.l.opts.Logger.Error("calls of other hubs are not answered", "error", err)
	}
	h.calls = calls
}

// Down implements store.Hubs.
func (h *hubs) Down(f func(id string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = f
	for _, p := range h.others {
		if !h.alive(p) {
			h.giveUp(p)
		}
	}
}

// Renew implements store.Hubs.
func (h *hubs) Renew() {
	h.mu.Lock()
	h.rename()
	h.listen()
	h.mu.Unlock()
	h.give(false)
}
