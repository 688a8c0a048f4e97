//go:build !windows

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	sessions "github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/judge"
)

const (
	patience  = 5 * time.Minute        // beside other tests, two cores need more than one for 2,000 sessions
	heartbeat = 500 * time.Millisecond // of the hubs
	silence   = 3 * time.Second        // after which a client gives up a stream, as that of a paused hub
	retry     = 20 * time.Millisecond
)

// listener follows a filter at one hub after the other.
type listener struct {
	name, filter, secret, uid string
	hubs                      []*hubs.Hub
	silence                   time.Duration

	mu    sync.Mutex
	seen  []judge.Event
	moved chan struct{} // closed and replaced when seen grows

	last   time.Time // when the last byte arrived
	absent int       // how often no byte came for about the session time-out
}

func newListener(name, filter string, all []*hubs.Hub) *listener {
	secret := fmt.Sprintf("%s-%016x", name, rand.Uint64())
	return &listener{name: name, filter: filter, secret: secret, uid: sessions.UID(secret), hubs: all, silence: silence, moved: make(chan struct{})}
}

// run follows until ctx is done. hop returns after how many events it leaves for another hub.
func (l *listener) run(ctx context.Context, r *rand.Rand, hop func() int) {
	for at := r.IntN(len(l.hubs)); ctx.Err() == nil; at += 1 + r.IntN(len(l.hubs)) {
		l.stream(ctx, l.hubs[at%len(l.hubs)], hop())
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// stream follows at one hub, for a number of events at most.
func (l *listener) stream(ctx context.Context, h *hubs.Hub, events int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(l.silence, cancel)
	defer watchdog.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+"/v1/groups/"+url.PathEscape(l.filter), nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Watchbox-Session", l.secret)
	if id := l.position(); id != (judge.ID{}) {
		req.Header.Set("Last-Event-ID", id.String())
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return
	}
	reader := sse.NewReader(res.Body)
	sign := func() {
		watchdog.Reset(l.silence)
		l.heard()
	}
	reader.OnComment = func(string) {
		sign()
		l.record(judge.Event{Hub: h.Name, ID: judge.ParseID(reader.LastEventID)})
	}
	for n := 0; n < events; n++ {
		e, err := reader.Read()
		if err != nil {
			l.record(judge.Event{Hub: h.Name, ID: judge.ParseID(reader.LastEventID)})
			return
		}
		sign()
		l.event(h, e)
	}
}

// event records an event of a stream.
func (l *listener) event(h *hubs.Hub, e sse.Event) {
	id := judge.ParseID(e.ID)
	switch e.Type {
	case "session":
		l.record(judge.Event{Hub: h.Name, ID: id})
	case "gap":
		l.record(judge.Event{Hub: h.Name, Kind: judge.Gap, ID: id, Message: judge.Message{Body: string(e.Data)}})
	case "message":
		var m struct {
			Group    string
			Retained bool
			Msg      json.RawMessage
		}
		if err := json.Unmarshal(e.Data, &m); err != nil {
			panic(err)
		}
		if m.Retained {
			return
		}
		body, err := strconv.Unquote(string(m.Msg))
		if err != nil {
			body = string(m.Msg)
		}
		l.record(judge.Event{Hub: h.Name, Kind: judge.Delivery, ID: id, Message: judge.Message{Group: m.Group, Body: body}})
	}
}

// record adds an event, unless it is a position that is known.
func (l *listener) record(e judge.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.ID == (judge.ID{}) || e.Kind == judge.Position && len(l.seen) > 0 && l.seen[len(l.seen)-1].ID == e.ID {
		return
	}
	l.seen = append(l.seen, e)
	close(l.moved)
	l.moved = make(chan struct{})
}

// begin begins a life of the session.
func (l *listener) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.absent = time.Time{}, 0
}

// heard notes that a byte arrived.
func (l *listener) heard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.last.IsZero() && now.Sub(l.last) > sessionTimeout*9/10 {
		l.absent++
	}
	l.last = now
}

// wasAbsent returns how often the session may have been gone.
func (l *listener) wasAbsent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.absent
}

func (l *listener) position() (id judge.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.seen); n > 0 {
		id = l.seen[n-1].ID
	}
	return id
}

// until waits until done says that what the listener saw is enough, and reports whether that was in time.
func (l *listener) until(ctx context.Context, done func(seen []judge.Event) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		l.mu.Lock()
		ok, moved := done(l.seen), l.moved
		l.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// history is what the listener saw, for the judge.
func (l *listener) history() judge.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	return judge.Listener{Name: l.name, Filter: l.filter, Events: l.seen}
}
