package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/cursor"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// ErrHubAway reports that another hub, which has streams of a session, does not answer.
var ErrHubAway = errors.New("the hub with the session's streams does not answer: retry later")

// How long to wait for another hub: for one that has to do something, and for one that only knows figures.
const (
	callTimeout   = 5 * time.Second
	figureTimeout = time.Second
)

// request is what a hub asks another one to do with its own streams.
type request struct {
	Do     string          `json:"do"`
	UIDs   []string        `json:"uids,omitempty"`
	Filter string          `json:"filter,omitempty"`
	Grant  json.RawMessage `json:"grant,omitempty"`
	Groups []string        `json:"groups,omitempty"`
	Key    string          `json:"key,omitempty"`  // of a position
	Free   bool            `json:"free,omitempty"` // only if it has no reader
	Sort   SessionOrder    `json:"sort,omitempty"`
	Why    session.Reason  `json:"why,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"` // of a protocol's own request
}

// What a request does.
const (
	doJoin   = "join"
	doLeave  = "leave"
	doBeat   = "heartbeat"
	doRenew  = "renew"
	doShow   = "show"
	doCounts = "listeners"
	doGive   = "give"
	doEnd    = "end"
	doValues = "values"
	doShare  = "share"
)

type reply struct {
	Error     string            `json:"error,omitempty"`  // a key of callErrors, or a text
	Action    access.Action     `json:"action,omitempty"` // of an access.Forbidden
	Filter    string            `json:"filter,omitempty"`
	Streams   map[string]traits `json:"streams,omitempty"` // by uid
	Listeners []int             `json:"listeners,omitempty"`
	At        store.Seq         `json:"at,omitempty"`     // of a note
	Values    map[string]uint64 `json:"values,omitempty"` // what sessions are sorted by, by uid
	Body      json.RawMessage   `json:"body,omitempty"`
}

// traits are the figures of the streams that a session has at one hub.
type traits struct {
	Open      int
	Lag, Sent Amount
	Left      session.Position // that the stream which closed last had reached
}

// callErrors are the errors that a hub may answer with, by the names they have in replies.
var callErrors = map[string]error{
	"unknown": session.ErrUnknown, "no-stream": session.ErrNoStream, "of-another": session.ErrOfAnother,
	"too-many-filters": session.ErrTooManyFilters, "too-many-changes": delivery.ErrTooManyChanges, "closed": ErrClosed,
	"elsewhere": cursor.ErrElsewhere,
	"away":      store.ErrAway, "unknown-outcome": store.ErrUnknownOutcome, "conflict": session.ErrConflict, "full": store.ErrFull,
}

// serve answers a request of another hub.
func (c *cluster) serve(ctx context.Context, b []byte) []byte {
	var in request
	var out reply
	err := json.Unmarshal(b, &in)
	if err == nil {
		out, err = c.answer(ctx, &in)
	}
	if f, ok := errors.AsType[*access.Forbidden](err); ok {
		out.Action, out.Filter = f.Action, f.Filter
	} else if err != nil {
		out.Error = err.Error()
		for name, e := range callErrors {
			if errors.Is(err, e) {
				out.Error = name
			}
		}
	}
	if b, err = json.Marshal(&out); err != nil {
		panic("hub: a reply: " + err.Error()) // impossible: strings and numbers
	}
	return b
}

func (c *cluster) answer(ctx context.Context, in *request) (out reply, err error) {
	h := c.hub
	var f group.Filter
	if in.Filter != "" {
		if f, err = group.ParseFilter(in.Filter); err != nil {
			return out, err
		}
	}
	if len(in.UIDs) != 1 && in.Do != doShow && in.Do != doCounts && in.Do != doGive && in.Do != doValues && in.Do != doShare {
		return out, fmt.Errorf("%s needs one uid", in.Do)
	}
	switch in.Do {
	case doGive:
		out.At, err = h.give(ctx, in.Key, in.Free)
	case doShare:
		f := h.shareCalls.Load()
		if f == nil {
			return out, session.ErrUnknown
		}
		out.Body = (*f)(ctx, in.Body)
	case doEnd:
		if err = c.catchUp(ctx, callTimeout); err == nil { // the session may have begun elsewhere just now
			err = h.endHere(in.UIDs[0], in.Why)
		}
	case doJoin:
		err = h.sessions.Join(in.UIDs[0], f, h.opts.MaxFilters)
	case doLeave:
		err = h.leaveHere(ctx, in.UIDs[0], f)
	case doBeat:
		h.sessions.Beat(in.UIDs[0])
	case doRenew:
		var g *access.Grant
		if g, err = access.DecodeGrant(in.Grant); err == nil {
			err = h.renewHere(in.UIDs[0], g)
		}
	case doShow:
		out.Streams = map[string]traits{}
		for _, uid := range in.UIDs {
			if i, err := h.sessions.Get(uid); err == nil {
				out.Streams[uid] = h.traits(i)
			}
		}
	case doCounts:
		out.Listeners = h.listenersHere(in.Groups)
	case doValues:
		out.Values = h.topValues(in.Sort)
	default:
		err = fmt.Errorf("%q is unknown: the hubs have different versions", in.Do)
	}
	return out, err
}

// call asks another hub, and returns its answer or its error.
func (c *cluster) call(ctx context.Context, hub string, in *request) (out reply, err error) {
	b, err := json.Marshal(in)
	if err != nil {
		panic("hub: a request: " + err.Error()) // impossible: strings
	}
	if b, err = c.hubs.Call(ctx, hub, b); err == nil {
		err = json.Unmarshal(b, &out)
	}
	known, ok := callErrors[out.Error]
	switch {
	case err != nil:
		return out, fmt.Errorf("%w (hub %s: %w)", ErrHubAway, hub, err)
	case out.Action != "":
		return out, &access.Forbidden{Action: out.Action, Filter: out.Filter}
	case ok:
		return out, known
	case out.Error != "":
		return out, fmt.Errorf("hub %s: %s", hub, out.Error)
	}
	return out, nil
}

// ask asks each of the hubs where a session has other streams, and returns how many did it. A hub where the
// session has no stream any more does not count.
func (c *cluster) ask(uid string, in request) (done int, err error) {
	list := c.elsewhere(uid)
	if len(list) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(c.closed, callTimeout)
	defer cancel()
	in.UIDs = []string{uid}
	for _, hub := range list {
		_, one := c.call(ctx, hub, &in)
		switch {
		case one == nil:
			done++
		case errors.Is(one, session.ErrNoStream), errors.Is(one, session.ErrUnknown):
		default:
			err = errors.Join(err, one)
		}
	}
	return done, err
}

// OnShareCall sets the function that answers the calls of other hubs about shared subscriptions.
func (h *Hub) OnShareCall(f func(ctx context.Context, body []byte) []byte) { h.shareCalls.Store(&f) }

// CallShare calls another hub about a shared subscription. It returns store.ErrNoHub if there is no such hub any more, and
// session.ErrUnknown if it serves no MQTT.
func (h *Hub) CallShare(ctx context.Context, hub string, body []byte) ([]byte, error) {
	if h.cluster == nil {
		return nil, store.ErrNoHub
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := h.cluster.call(ctx, hub, &request{Do: doShare, Body: body})
	return r.Body, err
}

// Alive reports whether another hub with this id shares the log.
func (h *Hub) Alive(hub string) bool { return h.cluster != nil && h.cluster.hubs.Alive(hub) }

// end has the hub where a session's client is end the session.
func (c *cluster) end(hub, uid string, why session.Reason) error {
	ctx, cancel := context.WithTimeout(c.closed, callTimeout)
	defer cancel()
	_, err := c.call(ctx, hub, &request{Do: doEnd, UIDs: []string{uid}, Why: why})
	return err
}

// beat passes a sign of life on to the other hubs where the session has promised heartbeats. It does not wait
// for them: the client sends the next one soon.
func (c *cluster) beat(uid string) {
	if c == nil {
		return
	}
	for _, hub := range c.hub.sessions.Relay(uid) {
		c.spawn(func() {
			ctx, cancel := context.WithTimeout(c.closed, callTimeout)
			defer cancel()
			_, _ = c.call(ctx, hub, &request{Do: doBeat, UIDs: []string{uid}}) // an error: see above
		})
	}
}

// joinNewest adds a filter to the newest stream of a session. A hub where that has closed meanwhile passes the turn to the one with the
// next newest.
func (c *cluster) joinNewest(uid string, f group.Filter) error {
	ctx, cancel := context.WithTimeout(c.closed, callTimeout)
	defer cancel()
	here := func() error { return c.hub.sessions.Join(uid, f, c.hub.opts.MaxFilters) }
	list := c.hub.sessions.ByNewest(uid)
	if len(list) == 0 {
		return here() // which says why not
	}
	self := c.hubs.Self()
	var err error
	for _, hub := range list {
		if hub == self {
			err = here()
		} else {
			_, err = c.call(ctx, hub, &request{Do: doJoin, UIDs: []string{uid}, Filter: f.String()})
		}
		if err == nil || !errors.Is(err, session.ErrNoStream) && !errors.Is(err, session.ErrUnknown) {
			return err
		}
	}
	return session.ErrNoStream
}

// gather asks several hubs at once, and passes the replies of those that answer to take, one at a time. One that does not answer
// is not asked again before its next sign of life, or until the others would have given it up.
func (c *cluster) gather(requests map[string]*request, take func(hub string, r *reply)) {
	ctx, cancel := context.WithTimeout(c.closed, figureTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for hub, in := range requests {
		if c.isSilent(hub) {
			continue // its figures are missing
		}
		wg.Go(func() {
			r, err := c.call(ctx, hub, in)
			if errors.Is(err, ErrHubAway) {
				c.noteSilent(hub)
			}
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			take(hub, &r)
		})
	}
	wg.Wait()
}

// isSilent reports whether a hub has not answered lately, and given no sign of life since then. When this hub was cut off itself,
// all the others give one soon.
func (c *cluster) isSilent(hub string) bool {
	heard := c.hubs.Heard(hub)
	c.mu.Lock()
	defer c.mu.Unlock()
	asked, ok := c.silent[hub]
	return ok && time.Since(asked) < store.SilentFor && !heard.After(asked)
}

// noteSilent records that a hub does not answer.
func (c *cluster) noteSilent(hub string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(c.silent, func(_ string, asked time.Time) bool { return now.Sub(asked) >= store.SilentFor })
	c.silent[hub] = now
}

// addListeners adds the streams at other hubs to the numbers of streams that listen to groups.
func (c *cluster) addListeners(groups []string, n []int) []int {
	if c == nil || len(groups) == 0 {
		return n
	}
	requests := map[string]*request{}
	self := c.hubs.Self()
	for _, hub := range c.hubs.List() {
		if hub.ID != self {
			requests[hub.ID] = &request{Do: doCounts, Groups: groups}
		}
	}
	c.gather(requests, func(_ string, r *reply) {
		for i := range min(len(n), len(r.Listeners)) {
			n[i] += r.Listeners[i]
		}
	})
	return n
}

// addTraits adds the streams at other hubs to the figures of sessions. A hub that does not answer
// counts as one stream.
func (c *cluster) addTraits(list []*Session) {
	if c == nil {
		return
	}
	self := c.hubs.Self()
	requests := map[string]*request{}
	missing := map[[2]string]*Session{} // by hub and uid
	for _, s := range list {
		for _, hub := range s.Hubs {
			if hub == self {
				continue
			}
			if requests[hub] == nil {
				requests[hub] = &request{Do: doShow}
			}
			requests[hub].UIDs = append(requests[hub].UIDs, s.UID)
			missing[[2]string{hub, s.UID}] = s
		}
	}
	c.gather(requests, func(hub string, r *reply) {
		for uid, t := range r.Streams {
			key := [2]string{hub, uid}
			if s := missing[key]; s != nil {
				s.add(t)
				delete(missing, key)
			}
		}
	})
	for _, s := range missing {
		s.Open++
	}
}

// open reports whether one of the other hubs says that it has a stream of a session. If not, left is the position that a stream which closed
// there just now had reached, in an epoch.
func (c *cluster) open(uid string, hubs []string, epoch string) (open bool, left store.Seq) {
	requests := map[string]*request{}
	for _, hub := range hubs {
		requests[hub] = &request{Do: doShow, UIDs: []string{uid}}
	}
	c.gather(requests, func(_ string, r *reply) {
		t := r.Streams[uid]
		open, left = open || t.Open > 0, max(left, reachedIn(epoch, t.Left))
	})
	return open, left
}

func (s *Session) add(t traits) {
	s.Open += t.Open
	s.Sent.Messages += t.Sent.Messages
	s.Sent.Bytes += t.Sent.Bytes
	if t.Lag.Messages > s.Lag.Messages {
		s.Lag = t.Lag
	}
}

// names returns the names of hubs, or their ids if they are not known. Hubs with the same name, as on one machine, have their ids added.
func (c *cluster) names(ids []string) []string {
	list := c.hubs.List()
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id
		if k := slices.IndexFunc(list, func(h store.Hub) bool { return h.ID == id }); k >= 0 && list[k].Name != "" {
			out[i] = list[k].Name
			if slices.ContainsFunc(list, func(h store.Hub) bool { return h.ID != id && h.Name == list[k].Name }) {
				out[i] += " " + id
			}
		}
	}
	return out
}
