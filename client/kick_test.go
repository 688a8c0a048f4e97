package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/client"
)

// answerEnded answers as a hub that has kicked the session while it polled.
func answerEnded(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusGone)
	_, _ = io.WriteString(w, `{"title":"Gone","status":410,"code":"session-ended","detail":"the session was ended"}`)
}

// endings are the requests that a hub may answer with session-ended, by the ways that a proxy lets pass. kicks is asked from the
// moment when the first group is joined, unless atOnce is set.
var endings = map[string]struct {
	passes []string // GET, POST, poll
	atOnce bool
	kicks  func(r *http.Request) bool
	opts   []client.Option
}{
	"the first stream":         {[]string{"GET"}, true, isEvents, nil},
	"the first stream by POST": {[]string{"POST"}, true, isEvents, nil},
	"the first poll":           {[]string{"poll"}, true, isHistory, nil},
	"the next poll": {[]string{"poll"}, false, func(r *http.Request) bool {
		return isHistory(r) && slices.Contains(r.URL.Query()["group"], "b") && r.URL.Query().Get("wait") != "0s"
	}, nil},
	"a poll of a join":           {[]string{"poll"}, false, func(r *http.Request) bool { return isHistory(r) && r.URL.Query().Get("retained") != "" }, nil},
	"a stream after a loss":      {[]string{"GET"}, false, isEvents, nil},
	"a POST stream after a loss": {[]string{"POST"}, false, isEvents, nil},
	"a join":                     {[]string{"GET"}, false, isChange(http.MethodPut), nil},
	"a leave":                    {[]string{"GET"}, false, isChange(http.MethodDelete), nil},
	"a leave while it polls":     {[]string{"poll"}, false, isChange(http.MethodDelete), nil},
	"a heartbeat": {[]string{"GET"}, false, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/heartbeat") },
		[]client.Option{client.WithHeartbeat(20 * time.Second)}},
}

func isEvents(r *http.Request) bool  { return r.URL.Path == "/v1/events" }
func isHistory(r *http.Request) bool { return r.URL.Path == "/v1/history" }

func isChange(method string) func(r *http.Request) bool {
	return func(r *http.Request) bool { return r.Method == method && strings.Contains(r.URL.Path, "/groups/") }
}

// TestAKickIsToldOnceWhereverItIsLearnt joins two groups, leaves one, and loses the stream.
func TestAKickIsToldOnceWhereverItIsLearnt(t *testing.T) {
	for where, c := range endings {
		t.Run(where, func(t *testing.T) {
			var kicking, kicked atomic.Bool
			var after atomic.Int32 // streams and polls after that one
			kicking.Store(c.atOnce)
			calls := newRecorder(t)
			timed(t, func(w http.ResponseWriter, r *http.Request) {
				way := r.Method
				if isHistory(r) {
					way = "poll"
				}
				wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
				began := time.Now()
				switch passes := slices.Contains(c.passes, way); {
				case r.Method == http.MethodDelete && !isChange(r.Method)(r): // Close
					w.WriteHeader(http.StatusNoContent)
				case kicked.Load():
					if isEvents(r) || isHistory(r) {
						after.Add(1)
					}
					w.WriteHeader(http.StatusBadGateway)
				case kicking.Load() && c.kicks(r) && (passes || !isEvents(r)):
					kicked.Store(true)
					answerEnded(w)
				case isHistory(r):
					time.Sleep(min(wait, 5*time.Second)) // synctest's clock
					w.Header().Set("Content-Type", "application/json")
					_, _ = io.WriteString(w, `{"messages":[],"next":"x-1","uid":"u"}`)
				case isEvents(r) && passes:
					for write(w, session); r.Context().Err() == nil; write(w, ":\nid: x-1\n\n") {
						time.Sleep(10 * time.Second) // synctest's clock
						if time.Since(began) > time.Minute {
							panic(http.ErrAbortHandler)
						}
					}
				case isEvents(r):
					<-r.Context().Done()
				default: // a join, a leave or a heartbeat
					w.WriteHeader(http.StatusNoContent)
				}
			}, func(t *testing.T, cl *client.Client) {
				_, err := cl.Join(t.Context(), "a", ignore)
				time.Sleep(time.Second) // synctest's clock: the next poll is at the server
				kicking.Store(true)
				if err == nil {
					var sub *client.Subscription
					if sub, err = cl.Join(t.Context(), "b", ignore); err == nil {
						time.Sleep(12 * time.Second) // synctest's clock: in the middle of a poll
						err = sub.Leave(t.Context())
						time.Sleep(2 * time.Minute) // synctest's clock
					}
				}
				_, last := cl.Join(t.Context(), "c", ignore)
				for _, err := range []error{err, last} {
					if e, ok := errors.AsType[*client.Error](err); err != nil && (!ok || e.Code != "kicked") {
						t.Errorf("a join or leave returned %v", err)
					}
				}
				synctest.Wait()
				if last == nil || !kicked.Load() || after.Load() > 0 || cl.State() != client.StateClosed {
					t.Errorf("kicked: %v; then %v, %d streams and polls, state %v", kicked.Load(), last, after.Load(), cl.State())
				}
				list, _ := calls.all()
				if n := strings.Count(strings.Join(list, "\n"), "kicked"); n != 1 {
					t.Errorf("told %d times: %q", n, list)
				}
			}, append(c.opts, client.WithMaxDelay(time.Second), client.OnDisconnect(func(err error) { calls.note("%v", err) }))...)
		})
	}
}

// kickAt makes the proxy kick the session between two polls: just before it passes a request on. The hub then knows already that
// the client has left an earlier poll.
func (h *holdingRig) kickAt(c *client.Client, before func(r *http.Request) bool) (kicked *atomic.Bool) {
	kicked = &atomic.Bool{}
	var polls atomic.Int32 // at the hub
	ended := make(chan struct{}, 1)
	h.proxy.to = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before(r) && kicked.CompareAndSwap(false, true) {
			for polls.Load() > 0 {
				select {
				case <-ended:
				case <-h.timeout().Done():
					h.Error("a poll does not end")
					return
				}
			}
			h.kick(c)
		}
		polls.Add(1)
		h.hub.ServeHTTP(w, r)
		polls.Add(-1)
		select {
		case ended <- struct{}{}:
		default:
		}
	})
	return kicked
}

func (h *holdingRig) kick(c *client.Client) {
	req, err := http.NewRequest(http.MethodDelete, h.srv.URL+"/v1/sessions/"+c.UID(), nil)
	if err != nil {
		h.Error(err)
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.Error(err)
		return
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		h.Errorf("the kick: %s", resp.Status)
	}
}

// TestKickBetweenTwoPollsBehindAHoldingProxy kicks the session before a poll of each kind.
func TestKickBetweenTwoPollsBehindAHoldingProxy(t *testing.T) {
	query := func(r *http.Request, groups, name, value string) bool {
		q := r.URL.Query()
		return isHistory(r) && strings.Join(q["group"], " ") == groups && q.Get(name) == value
	}
	for poll, before := range map[string]func(r *http.Request) bool{
		"of a join":             func(r *http.Request) bool { return query(r, "b", "retained", "true") },
		"before that of a join": func(r *http.Request) bool { return query(r, "a", "wait", "0s") && r.URL.Query().Has("since") },
		"after a join":          func(r *http.Request) bool { return query(r, "a b", "wait", "25s") },
	} {
		t.Run(poll, func(t *testing.T) {
			h := newHoldingRig(t)
			h.proxy.all.Store(true)
			calls := newRecorder(t)
			c := h.client(client.OnDisconnect(func(err error) { calls.note("%v", err) }), client.OnReconnect(func() { calls.note("back") }))
			kicked := h.kickAt(c, before)
			h.join(c, "a")
			_, err := c.Join(h.timeout(), "b", ignore)
			if e, ok := errors.AsType[*client.Error](err); err != nil && (!ok || e.Code != "kicked") {
				t.Errorf("the join: %v", err)
			}
			calls.want("watchbox: the hub ended the session (kicked)")
			if _, err := c.Join(h.timeout(), "c", ignore); err == nil || !kicked.Load() || c.State() != client.StateClosed {
				t.Errorf("a later join: %v; state %v", err, c.State())
			}
			resp, err := http.Get(h.srv.URL + "/v1/sessions")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if list, err := io.ReadAll(resp.Body); err != nil || strings.Contains(string(list), c.UID()) {
				t.Errorf("the session has begun again: %s %v", list, err)
			}
		})
	}
}

// TestKickWhoseAnswerIsLostBehindAHoldingProxy: the connections break on which the first answers come that tell the client.
func TestKickWhoseAnswerIsLostBehindAHoldingProxy(t *testing.T) {
	h := newHoldingRig(t, watchbox.WithSessionTimeout(testTimeout))
	h.proxy.all.Store(true)
	calls := newRecorder(t)
	c := h.client(client.OnDisconnect(func(err error) { calls.note("%v", err) }), client.OnReconnect(func() { calls.note("back") }))
	kicked := h.kickAt(c, func(r *http.Request) bool { return isHistory(r) && r.URL.Query().Get("wait") != "0s" })
	hub := h.proxy.to
	var told atomic.Int32
	h.proxy.to = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hub.ServeHTTP(w, r)
		if w.(*httptest.ResponseRecorder).Code == http.StatusGone && told.Add(1) <= 2 {
			panic(http.ErrAbortHandler)
		}
	})
	h.join(c, "a")
	const ended = "watchbox: the hub ended the session (kicked)"
	list := calls.until("the kick, once", func(list []string) bool { return slices.Contains(list, ended) })
	if last := list[len(list)-1]; last != ended || slices.Contains(list, "back") || slices.Index(list, ended) != len(list)-1 {
		t.Errorf("the callbacks are %q", list)
	}
	if !kicked.Load() || c.State() != client.StateClosed || told.Load() != 3 {
		t.Errorf("kicked: %v; state %v; told %d times", kicked.Load(), c.State(), told.Load())
	}
}

// interrupted answers as a hub behind a proxy that lets only polls pass. A poll that waits is answered as soon as the client takes it
// back: the session has ended.
type interrupted struct {
	polls atomic.Int32 // after that answer
	ended atomic.Bool
}

func (i *interrupted) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	switch {
	case isEvents(r):
		<-r.Context().Done()
		return nil, r.Context().Err()
	case !isHistory(r):
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Query().Get("wait") != "0s":
		<-r.Context().Done()
		i.ended.Store(true)
		answerEnded(w)
	default:
		if i.ended.Load() {
			i.polls.Add(1)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"messages":[],"next":"x-1","uid":"u"}`)
	}
	return w.Result(), nil
}

// TestAPollThatIsInterruptedTellsThatTheSessionHasEnded: the hub may say so only once.
func TestAPollThatIsInterruptedTellsThatTheSessionHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, hub := newRecorder(t), &interrupted{}
		cl, err := client.New("http://hub", client.WithHTTPClient(&http.Client{Transport: hub}), client.OnDisconnect(func(err error) { calls.note("%v", err) }))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cl.Join(t.Context(), "a", ignore); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, err = cl.Join(t.Context(), "b", ignore)
		synctest.Wait()
		list, _ := calls.all()
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "kicked" || len(list) != 1 || hub.polls.Load() > 0 || cl.State() != client.StateClosed {
			t.Errorf("a join returned %v; then %q, %d polls, state %v", err, list, hub.polls.Load(), cl.State())
		}
		_ = cl.Close()
	})
}
