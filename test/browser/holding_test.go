package browser_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// holding is a proxy that holds responses of the hub back until they are complete: those to GET, or all.
type holding struct {
	to      http.Handler
	all     bool
	off     atomic.Bool
	streams atomic.Int32 // GETs of a stream
}

func (p *holding) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/v1/events") {
		p.streams.Add(1)
	}
	if p.off.Load() || !p.all && r.Method != http.MethodGet {
		p.to.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body) // then the request's context ends with the connection
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	held := httptest.NewRecorder()
	p.to.ServeHTTP(held, r)
	if r.Context().Err() != nil {
		return
	}
	maps.Copy(w.Header(), held.Header())
	w.WriteHeader(held.Code)
	_, _ = w.Write(held.Body.Bytes()) // an error: the page has left
}

// holdingKinds are the proxies, and the way that watchbox.js then remembers.
var holdingKinds = map[string]struct {
	all bool
	way int
}{"holds GET": {false, 1}, "holds everything": {true, 2}}

// eachHolding runs a test behind each proxy with each kind of watchbox.js.
func eachHolding(t *testing.T, f func(t *testing.T, s *server, p *page, proxy *holding, listen string, way int), opts ...watchbox.Option) {
	t.Helper()
	t.Parallel()
	for name, kind := range holdingKinds {
		for client, listen := range clientKinds {
			if !usesWatchboxJS(client) {
				continue
			}
			t.Run(name+"/"+client, func(t *testing.T) {
				t.Parallel()
				proxy := &holding{all: kind.all}
				s := serve(t, &server{opts: opts, wrap: func(hub http.Handler) http.Handler { proxy.to = hub; return proxy }})
				f(t, s, openTestPage(t, s.url(), "/&still"), proxy, listen, kind.way)
			})
		}
	}
}

const rememberedWay = `JSON.parse(localStorage.getItem("watchbox way " + new URL(".", new URL("watchbox.js", t.hub))) ?? "{}").way ?? 0`

func TestPageBehindAHoldingProxyGetsEachMessageOnce(t *testing.T) {
	eachHolding(t, func(t *testing.T, s *server, p *page, _ *holding, listen string, way int) {
		if _, _, err := s.hub.PublishBatch(context.Background(), []watchbox.Draft{{Group: "a", Msg: 0, Retain: true}}); err != nil {
			t.Fatal(err)
		}
		p.do("window.begun = performance.now(); %s; window.took = performance.now() - begun", listen)
		p.receivedMessages(0)
		want := []any{0}
		for i := 1; i <= 50; i++ {
			want = append(want, i)
			s.publish([]string{"a", "b/c"}[i%2], i)
		}
		p.receivedMessages(want...)
		p.receivedEvents("gap")
		p.receivedEvents("open", "uid")
		p.receivedEvents("disconnect")
		p.until("%s === %d", rememberedWay, way)
		p.until(`(await (await fetch("/v1/sessions")).json()).sessions[0].streams === 1`) // the silent attempts have ended
		var took float64
		p.eval(&took, "return took")
		t.Logf("the joins took %.0f ms", took)
	})
}

func TestJoinsAndDirectMessagesBehindAHoldingProxy(t *testing.T) {
	eachHolding(t, func(t *testing.T, s *server, p *page, _ *holding, listen string, _ int) {
		p.do("%s", listen)
		s.publish("late", "before the join")
		if _, _, err := s.hub.PublishBatch(context.Background(), []watchbox.Draft{{Group: "late/kept", Msg: "kept", Retain: true}}); err != nil {
			t.Fatal(err)
		}
		p.do(`window.late = await wb.join("late/#", t.receive)`)
		p.receivedMessages("kept")
		s.publish("late", "after the join")
		s.publish("a", 1)
		p.receivedMessages("kept", "after the join", 1)
		p.do(`await wb.sendTo(wb.uid, "for me")`)
		p.receivedEvents("direct", "for me")
		p.do(`late.leave()`)
		p.do(`window.refused = await wb.join("$session/x", t.receive).catch((e) => e.code)`)
		p.until(`refused === "filter-forbidden"`)
		s.publish("a", 2)
		p.receivedMessages("kept", "after the join", 1, 2)
		p.receivedEvents("gap")
	})
}

func TestRestartOfAHubBehindAHoldingProxy(t *testing.T) {
	eachHolding(t, func(t *testing.T, s *server, p *page, proxy *holding, listen string, _ int) {
		p.do("%s", listen)
		s.publish("a", 1)
		p.receivedMessages(1)
		tried := proxy.streams.Load()
		s.stop()
		p.until("t.count('disconnect') > 0")
		s.start()
		s.publish("a", 2)
		s.publish("b/c", 3)
		p.receivedMessages(1, 2, 3)
		p.receivedEvents("gap", `"epoch"`, `"epoch"`)
		p.receivedEvents("reconnect", "uid")
		p.receivedEvents("closed")
		if n := proxy.streams.Load(); n != tried {
			t.Errorf("the page tried the GET again %d times", n-tried)
		}
	})
}

func TestReloadBehindAHoldingProxyBeginsWithWhatWorked(t *testing.T) {
	eachHolding(t, func(t *testing.T, s *server, p *page, proxy *holding, listen string, _ int) {
		p.do("%s", listen)
		s.publish("a", 1)
		p.receivedMessages(1)
		tried := proxy.streams.Load()
		p.reopen(s.url()+testPage+"/&still", func() {})
		s.publish("a", 2)
		p.do("%s", listen)
		s.publish("a", 3)
		p.receivedMessages(2, 3)
		if n := proxy.streams.Load(); n != tried {
			t.Errorf("the page tried the GET again %d times", n-tried)
		}
	})
}

// TestProxyThatBeginsToHoldStreamsBack: the stream of the page is open when the proxy is put in its way.
func TestProxyThatBeginsToHoldStreamsBack(t *testing.T) {
	t.Parallel()
	proxy := &holding{all: true}
	proxy.off.Store(true)
	s := serve(t, &server{wrap: func(hub http.Handler) http.Handler { proxy.to = hub; return proxy }})
	network := newProxy(t, s.addr)
	p := openTestPage(t, network.url(), "/")
	p.do("window.turn = t.clock(5000); %s", clientKinds["watchbox.js"])
	s.publish("a", 1)
	p.receivedMessages(1)
	proxy.off.Store(false)
	network.cut()
	s.publish("a", 2)
	p.until("t.count('disconnect') === 1 && wb.state === 'connecting' && (turn(30_000), true)") // one and a half heartbeats pass without a byte
	p.receivedMessages(1, 2)
	s.publish("b/c", 3)
	p.receivedMessages(1, 2, 3)
	p.receivedEvents("gap")
}

// TestKickWhoseAnswerIsLostClosesThePage: the connections break on which the first answers come that tell the page.
func TestKickWhoseAnswerIsLostClosesThePage(t *testing.T) {
	t.Parallel()
	var told atomic.Int32
	proxy := &holding{all: true}
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithSessionTimeout(10 * time.Minute)}, wrap: func(hub http.Handler) http.Handler {
		proxy.to = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hub.ServeHTTP(w, r)
			if w.(*httptest.ResponseRecorder).Code == http.StatusGone && told.Add(1) <= 2 {
				panic(http.ErrAbortHandler)
			}
		})
		return proxy
	}})
	p := openTestPage(t, s.url(), "/&still")
	p.do(`%s; await fetch(new URL("v1/sessions/" + wb.uid, t.hub), { method: "DELETE" })`, clientKinds["watchbox.js"])
	p.receivedEvents("closed", "kicked")
	p.receivedEvents("reconnect")
	if got := s.sessions(); len(got) != 0 || told.Load() != 3 {
		t.Errorf("told %d times; there are sessions: %v", told.Load(), got)
	}
	var kicked, next string
	p.eval(&kicked, "return wb.uid")
	p.reopen(s.url()+testPage+"/&still", func() {})
	p.do("%s", clientKinds["watchbox.js"])
	if p.eval(&next, "return wb.uid"); next == kicked {
		t.Error("the next page has the session that was kicked")
	}
}

// TestAPollThatIsInterruptedTellsThatTheSessionHasEnded: the answer to a poll arrives when the page takes it back because it joins a
// group. The hub may say only once that the session has ended.
func TestAPollThatIsInterruptedTellsThatTheSessionHasEnded(t *testing.T) {
	t.Parallel()
	proxy := &holding{all: true}
	s := serve(t, &server{wrap: func(hub http.Handler) http.Handler { proxy.to = hub; return proxy }})
	p := openTestPage(t, s.url(), "/&still")
	p.do(`const real = fetch;
		window.fetch = (url, init) => {
			if (!/wait=[1-9]/.test(url)) return real(url, init);
			window.waiting = true;
			return new Promise((resolve) => init.signal.addEventListener("abort", () => resolve(new Response('{"code":"session-ended"}',
				{ status: 410, headers: { "Content-Type": "application/problem+json" } }))));
		};
		%s`, clientKinds["watchbox.js"])
	p.until("window.waiting")
	p.do(`const code = await wb.join("a", t.receive).catch((e) => e.code); if (code !== "kicked") throw new Error(code)`)
	p.receivedEvents("closed", "kicked")
}
