package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/client"
)

// holding is a proxy that holds responses back until they are complete.
type holding struct {
	to      http.Handler
	gets    atomic.Bool // those to GET
	all     atomic.Bool
	polls   atomic.Int32
	posts   atomic.Int32 // POSTs of a stream
	streams atomic.Int32 // GETs of a stream
}

func (p *holding) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1/history"):
		p.polls.Add(1)
	case r.URL.Path == "/v1/events" && r.Method == http.MethodPost:
		p.posts.Add(1)
	case r.URL.Path == "/v1/events":
		p.streams.Add(1)
	}
	if !p.all.Load() && !(p.gets.Load() && r.Method == http.MethodGet) {
		p.to.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body) // then the request's context ends with the connection
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	held := httptest.NewRecorder()
	p.to.ServeHTTP(held, r)
	if r.Context().Err() != nil {
		return
	}
	maps.Copy(w.Header(), held.Header())
	w.WriteHeader(held.Code)
	_, _ = w.Write(held.Body.Bytes()) // an error: the client has left
}

// holdingRig is a hub behind a holding proxy.
type holdingRig struct {
	*rig
	proxy *holding
	front *httptest.Server
}

func newHoldingRig(t *testing.T, opts ...watchbox.Option) *holdingRig {
	r := newRig(t, opts...)
	target, err := url.Parse("http://" + r.addr)
	if err != nil {
		t.Fatal(err)
	}
	through := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{}
	through.Transport, through.FlushInterval = transport, -1
	through.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	h := &holdingRig{rig: r, proxy: &holding{to: through}}
	h.front = httptest.NewServer(h.proxy)
	t.Cleanup(func() { h.front.Close(); transport.CloseIdleConnections() })
	return h
}

func (h *holdingRig) client(opts ...client.Option) *client.Client {
	h.Helper()
	c, err := client.New(h.front.URL, append([]client.Option{client.WithMaxDelay(50 * time.Millisecond)}, opts...)...)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = c.Close() })
	return c
}

// kinds are proxies, and the request that passes each.
var kinds = map[string]func(p *holding) (passes *atomic.Int32){
	"holds GET":        func(p *holding) *atomic.Int32 { p.gets.Store(true); return &p.posts },
	"holds everything": func(p *holding) *atomic.Int32 { p.all.Store(true); return &p.polls },
}

// eachKind runs a test behind each kind of proxy.
func eachKind(t *testing.T, test func(h *holdingRig, passes *atomic.Int32), opts ...watchbox.Option) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			h := newHoldingRig(t, opts...)
			test(h, kind(h.proxy))
		})
	}
}

// TestFirstMessageBehindAHoldingProxyComesWithin3s measures by synctest's clock, with a server that answers as a hub
// behind the proxy.
func TestFirstMessageBehindAHoldingProxyComesWithin3s(t *testing.T) {
	const message = `{"id":"x-1","group":"a","time":"2026-11-28T12:00:00.000Z","msg":"first"}`
	for name, passes := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"holds GET": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				write(w, session+"id: x-1\ndata: "+message+"\n\n")
			}
			return false
		},
		"holds everything": func(w http.ResponseWriter, r *http.Request) bool {
			wait := r.URL.Query().Get("wait")
			if r.URL.Path != "/v1/history" || wait != "0s" {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"messages":[`+message+`],"next":"x-1","uid":"u"}`)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			timed(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodDelete {
					w.WriteHeader(http.StatusNoContent)
				} else if !passes(w, r) {
					<-r.Context().Done()
				}
			}, func(t *testing.T, c *client.Client) {
				began := time.Now()
				got := make(chan string, 1)
				if _, err := c.Join(t.Context(), "a", func(m client.Message) { got <- m.Text() }); err != nil {
					t.Fatal(err)
				}
				first := <-got
				if took := time.Since(began); first != "first" || took > 3*time.Second {
					t.Errorf("%q after %v", first, took)
				}
			})
		})
	}
}

// TestSlowNetworkIsNotTakenForAHoldingProxy: a short request takes as long as the first byte of a stream.
func TestSlowNetworkIsNotTakenForAHoldingProxy(t *testing.T) {
	var last atomic.Value
	timed(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(1500 * time.Millisecond) // synctest's clock
		switch {
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Path == "/v1/history":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"messages":[],"next":"x-1","uid":"u"}`)
		default:
			last.Store(r.Method)
			write(w, session)
			<-r.Context().Done()
		}
	}, func(t *testing.T, c *client.Client) {
		for range 2 { // the second time it knows
			began := time.Now()
			sub, err := c.Join(t.Context(), "a", ignore)
			if err != nil {
				t.Fatal(err)
			}
			if last.Load() != http.MethodGet {
				t.Errorf("the stream is that of a %v", last.Load())
			}
			t.Logf("the join took %v", time.Since(began))
			if err := sub.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestPollsThatAProxyCutsOffBecomeShorter: the stream stays open meanwhile.
func TestPollsThatAProxyCutsOffBecomeShorter(t *testing.T) {
	var waits []string
	var mu sync.Mutex // guards waits
	timed(t, func(w http.ResponseWriter, r *http.Request) {
		wait := r.URL.Query().Get("wait")
		switch {
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
			return
		case r.URL.Path != "/v1/history":
			<-r.Context().Done()
			return
		}
		d, err := time.ParseDuration(wait)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		waits = append(waits, wait)
		mu.Unlock()
		if d > 5*time.Second {
			time.Sleep(5 * time.Second) // synctest's clock
			panic(http.ErrAbortHandler)
		}
		time.Sleep(d) // synctest's clock
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"messages":[],"next":"x-1","uid":"u"}`)
	}, func(t *testing.T, c *client.Client) {
		if _, err := c.Join(t.Context(), "a", ignore); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // synctest's clock
		mu.Lock()
		defer mu.Unlock()
		if len(waits) < 10 || waits[1] != "25s" || waits[2] != "2.5s" || waits[9] != "2.5s" {
			t.Errorf("the polls wait %v", waits)
		}
	}, client.OnDisconnect(func(err error) {
		if !errors.Is(err, client.ErrClosed) {
			t.Errorf("lost: %v", err)
		}
	}))
}

func TestNothingIsLostOrRepeatedBehindAHoldingProxy(t *testing.T) {
	eachKind(t, func(h *holdingRig, passes *atomic.Int32) {
		c := h.client()
		_, got := h.join(c, "a/#")
		h.publish("a/x", "warm")
		got.want("warm")
		const n = 300
		var want []string
		for i := range n {
			h.publish(fmt.Sprint("a/", i%3), fmt.Sprint(i))
			want = append(want, fmt.Sprint(i))
		}
		got.want(append([]string{"warm"}, want...)...)
		if passes.Load() == 0 || c.State() != client.StateOpen {
			h.Errorf("state %v, %d requests in the way that passes", c.State(), passes.Load())
		}
	})
}

// TestClientRemembersWhatPassed: after a loss it does not try again what was held back.
func TestClientRemembersWhatPassed(t *testing.T) {
	eachKind(t, func(h *holdingRig, passes *atomic.Int32) {
		c := h.client()
		_, got := h.join(c, "a")
		h.publish("a", "1")
		got.want("1")
		tried := h.proxy.streams.Load()
		h.front.CloseClientConnections()
		h.publish("a", "2")
		got.want("1", "2")
		if n := h.proxy.streams.Load(); n != tried {
			h.Errorf("the GET was tried %d times more", n-tried)
		}
	})
}

// TestSilentAttemptsEndWhenAnotherWorks: the hub is left with one stream.
func TestSilentAttemptsEndWhenAnotherWorks(t *testing.T) {
	eachKind(t, func(h *holdingRig, _ *atomic.Int32) {
		h.join(h.client(), "a")
		for streams := 0; streams != 1; {
			resp, err := http.Get(h.srv.URL + "/v1/sessions")
			if err != nil {
				h.Fatal(err)
			}
			var list struct{ Sessions []struct{ Streams int } }
			err = json.NewDecoder(resp.Body).Decode(&list)
			_ = resp.Body.Close()
			if err != nil || len(list.Sessions) != 1 || h.timeout().Err() != nil {
				h.Fatalf("%v: %+v", err, list)
			}
			streams = list.Sessions[0].Streams
		}
	})
}

// TestSwitchOfTheWayLosesAndRepeatsNothing: a proxy begins and ends to hold streams back while others publish.
func TestSwitchOfTheWayLosesAndRepeatsNothing(t *testing.T) {
	h := newHoldingRig(t)
	gaps := newRecorder(t)
	c := h.client(client.OnGap(func(g client.Gap) { gaps.note("%+v", g) }), client.WithAnswerTimeout(5*time.Second))
	_, got := h.join(c, "a")
	var want []string
	step := func(ways ...func()) {
		for _, way := range ways {
			way()
			h.front.CloseClientConnections()
			for range 20 {
				want = append(want, fmt.Sprint(len(want)))
				h.publish("a", want[len(want)-1])
			}
			got.want(want...)
		}
	}
	step(
		func() {},
		func() { h.proxy.all.Store(true) },
		func() { h.proxy.all.Store(false) },
	)
	if list, _ := gaps.all(); len(list) > 0 {
		t.Errorf("gaps: %v", list)
	}
}

func TestJoinsAndDirectMessagesBehindAHoldingProxy(t *testing.T) {
	eachKind(t, func(h *holdingRig, _ *atomic.Int32) {
		direct := newRecorder(h.T)
		c := h.client(client.OnDirect(func(m client.Message) { direct.note("%s", m.Text()) }))
		_, a := h.join(c, "a")
		h.publish("b", "before the join")
		if _, err := c.Publish(h.timeout(), "b/kept", "retained", client.Retain()); err != nil {
			h.Fatal(err)
		}
		sub, b := h.join(c, "b/#")
		b.want("retained")
		_, again := h.join(c, "b/kept")
		again.want("retained")
		h.publish("b", "1")
		h.publish("a", "2")
		b.want("retained", "1")
		a.want("2")
		if _, err := h.hub.Send(h.timeout(), c.UID(), "for you"); err != nil {
			h.Fatal(err)
		}
		direct.want("for you")
		if err := sub.Leave(h.timeout()); err != nil {
			h.Fatal(err)
		}
		h.publish("b", "after the leave")
		h.publish("a", "3")
		a.want("2", "3")
		if list, _ := b.all(); !slices.Equal(list, []string{"retained", "1"}) {
			h.Errorf("b got %v", list)
		}
	})
}

func TestRefusalsBehindAHoldingProxy(t *testing.T) {
	eachKind(t, func(h *holdingRig, _ *atomic.Int32) {
		c := h.client()
		if _, err := c.Join(h.timeout(), "$session/x", ignore); err == nil || !strings.Contains(err.Error(), "filter-forbidden") {
			h.Errorf("the first join: %v", err)
		}
		c = h.client()
		_, got := h.join(c, "a")
		if _, err := c.Join(h.timeout(), "a//b", ignore); err == nil || !strings.Contains(err.Error(), "filter-invalid") {
			h.Errorf("a later join: %v", err)
		}
		h.publish("a", "1")
		got.want("1")
	})
}

func TestSessionStaysPresentBehindAHoldingProxy(t *testing.T) {
	eachKind(t, func(h *holdingRig, _ *atomic.Int32) {
		c := h.client()
		_, got := h.join(c, "a")
		for i := range 5 {
			h.publish("a", fmt.Sprint(i))
		}
		got.want("0", "1", "2", "3", "4")
		if err := c.Close(); err != nil {
			h.Errorf("Close: %v", err)
		}
		resp, err := http.Get(h.srv.URL + "/v1/history/$presence/a")
		if err != nil {
			h.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var history struct {
			Messages []struct{ Msg struct{ Event string } }
		}
		if err := json.NewDecoder(resp.Body).Decode(&history); err != nil {
			h.Fatal(err)
		}
		var events []string
		for _, m := range history.Messages {
			events = append(events, m.Msg.Event)
		}
		// Close ends the stream and the session. A poll that was on its way then may still reach the hub.
		if got, _, ended := strings.Cut(strings.Join(events, " "), " gone"); !ended || got != "join" && got != "join lost" {
			h.Errorf("presence: %v", events)
		}
	})
}

func TestKickedClientIsClosedBehindAHoldingProxy(t *testing.T) {
	eachKind(t, func(h *holdingRig, _ *atomic.Int32) {
		lost := newRecorder(h.T)
		c := h.client(client.OnDisconnect(func(err error) { lost.note("%v", err) }))
		h.join(c, "a")
		for c.State() != client.StateClosed && h.timeout().Err() == nil { // between two polls nothing of the session can be ended
			req, err := http.NewRequest(http.MethodDelete, h.srv.URL+"/v1/sessions/"+c.UID(), nil)
			if err != nil {
				h.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				h.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		lost.want("watchbox: the hub ended the session (kicked)")
	})
}
