package browser_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/watchbox-go/watchbox"
)

func TestJoinLeavePublishSend(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{mount: "/a/hub"})
	messages := make(chan watchbox.Message, 10)
	s.hub.OnMessage(func(m watchbox.Message) {
		if m.Group == "" {
			messages <- m
		}
	})
	s.publish("home/kitchen", "before")
	p := openTestPage(t, s.url(), "/a/hub/")
	p.do(`
		window.wb = t.watchbox();
		await wb.publish("home/hall", { on: true }, { retain: true });
		window.sub = await wb.join("home/+", (m) => t.received.push([m.group, m.msg, m.event ?? "", m.retained ?? false, m.uid === wb.uid]));
		await wb.publish("home/kitchen", "hü \u2028 \ud83d\ude00");
		await wb.publish("home/kitchen", [1, null], { event: "tick", ttl: 60000 });
		await wb.publish("home/kitchen", new Uint8Array([0, 255, 128]));
		await wb.publish("home/a b%%2F?", "");`)
	p.until("t.received.length === 5") // messages that arrive after a leave are not delivered
	p.do(`await wb.join("other", t.receive); sub.leave(); await wb.publish("home/kitchen", "gone"); await wb.publish("other", "end")`)
	p.until("t.received.at(-1) === 'end'")
	var got []any
	p.eval(&got, `return t.received.map((h) => Array.isArray(h) && h[1] instanceof Uint8Array ? [h[0], ["bytes", ...h[1]], ...h.slice(2)] : h)`)
	want := []any{
		[]any{"home/hall", map[string]any{"on": true}, "", true, true},
		[]any{"home/kitchen", "hü \u2028 😀", "", false, true},
		[]any{"home/kitchen", []any{1, nil}, "tick", false, true},
		[]any{"home/kitchen", []any{"bytes", 0, 255, 128}, "", false, true},
		[]any{"home/a b%2F?", "", "", false, true},
		"end",
	}
	if text(got) != text(want) {
		t.Errorf("received %s\nwant     %s", text(got), text(want))
	}

	p.do(`await wb.send("for the program"); await wb.sendTo(wb.uid, "for me")`)
	p.receivedEvents("direct", `"for me"`)
	if m := receive(t, messages); m.Text() != "for the program" {
		t.Errorf("the program received %q", m.Text())
	}
}

func TestMetadataIsSentAndReceivedAsItIs(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	p := openTestPage(t, s.url(), "/")
	p.do(`
		const wb = t.watchbox(), meta = [["B", "2"], ["ü", "\u2028 x"], ["a", ""], ["B", "1"]];
		await wb.join("a", (m) => t.received.push([m.msg instanceof Uint8Array ? [...m.msg] : m.msg, m.event ?? "", m.meta ?? "none"]));
		const { id, group, time } = await wb.publish("a", { n: 1 }, { meta, event: "e", ttl: 60000, retain: true });
		if (!id || group !== "a" || !time) throw new Error("the receipt lacks a member");
		await wb.publish("a", new Uint8Array([0, 255]), { meta: [["b", "x"]] });
		await wb.publish("a", undefined, { meta: [["b", "x"]] });
		await wb.publish("a", 2, { meta: [] });
		await wb.publishBatch([{ group: "a", msg: 3, meta }, { group: "a", msg: 4 }]);
		await wb.publish("a", 5, { meta: [["$qos", "0"]] }).catch((e) => t.received.push(e.code));`)
	p.until("t.received.length === 7")
	var got []any
	p.eval(&got, "return t.received")
	meta := []any{[]any{"B", "2"}, []any{"ü", "\u2028 x"}, []any{"a", ""}, []any{"B", "1"}}
	bx := []any{[]any{"b", "x"}}
	want := []any{
		[]any{map[string]any{"n": 1}, "e", meta}, []any{[]any{0, 255}, "", bx}, []any{"", "", bx}, []any{2, "", "none"},
		[]any{3, "", meta}, []any{4, "", "none"}, "meta-invalid",
	}
	if text(got) != text(want) {
		t.Errorf("received %s\nwant     %s", text(got), text(want))
	}
	p.console = nil // the browser writes a line for the status 400
}

func TestASecondJoinOfAGroupGetsTheRetainedMessage(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	p := openTestPage(t, s.url(), "/")
	p.do(`window.wb = t.watchbox();
		await wb.publish("a", "kept", { retain: true });
		const receiveAs = (who) => (m) => t.received.push(` + "`${who} ${m.msg}`" + `);
		await wb.join("a", receiveAs("first"));
		await wb.join("a", receiveAs("second"));
		await wb.publish("a", "end");`)
	p.until("t.received.at(-1) === 'second end'")
	var got []string
	p.eval(&got, "return t.received")
	if want := []string{"first kept", "second kept", "first end", "second end"}; !slices.Equal(got, want) {
		t.Errorf("received %q, want %q", got, want)
	}
}

func TestLeavingAllGroupsGoesIdleAndTheNextJoinStartsAnew(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	p := openTestPage(t, s.url(), "/")
	p.do(`window.wb = t.watchbox(); await wb.join("a", t.receive); wb.leave("a")`)
	p.until("wb.state === 'idle'")
	s.publish("a", 1)
	p.do(`await wb.join("a", t.receive)`)
	s.publish("a", 2)
	p.receivedMessages(2)
	p.receivedEvents("disconnect")
	p.receivedEvents("gap")
}

func TestACallbackThatThrowsDoesNotStopOthers(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	p := openTestPage(t, s.url(), "/")
	p.do(`window.wb = t.watchbox();
		await Promise.all([wb.join("a", () => { throw new Error("of the page") }), wb.join("#", t.receive)])`)
	s.publish("a", 1, 2)
	p.receivedMessages(1, 2)
	if console := strings.Join(p.consoleLines(), "\n"); strings.Count(console, "of the page") != 2 {
		t.Errorf("the console has %q", console)
	}
}

func TestAWillIsSentUnlessTheClientCloses(t *testing.T) {
	for name, c := range map[string]struct {
		end     string
		timeout time.Duration // of the session
		want    []any
	}{
		"lost":   {"location.href = 'about:blank'", 200 * time.Millisecond, []any{"gone", "why", "will", "end"}},
		"closed": {"wb.close()", time.Hour, []any{"end"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{opts: []watchbox.Option{watchbox.WithSessionTimeout(c.timeout)}})
			gone := make(chan bool, 2)
			s.hub.OnDisconnect(func(watchbox.Session, watchbox.Reason) { gone <- true })
			other := openTestPage(t, s.url(), "/")
			other.do(`window.wb = t.watchbox(); await wb.join("wills", (m) => { t.receive(m); if (m.meta) t.received.push(...m.meta[0]); })`)
			p := openTestPage(t, s.url(), "/")
			p.do(`window.wb = t.watchbox(); await wb.join("a", t.receive); await wb.setWill("wills", "gone", { meta: [["why", "will"]] })`)
			p.do("%s", c.end)
			receive(t, gone)
			s.publish("wills", "end")
			other.receivedMessages(c.want...)
		})
	}
}

// TestAWillIsSentAgainWhileAHubDoesNotKnowTheSession: one of several hubs may not know it yet. A repeat sends the newest will.
func TestAWillIsSentAgainWhileAHubDoesNotKnowTheSession(t *testing.T) {
	t.Parallel()
	var lags atomic.Bool
	refused, calls := make(chan string, 100), make(chan string, 100)
	s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !strings.HasSuffix(r.URL.Path, "/will") {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		call := r.Method + " " + string(body)
		if !lags.Load() {
			calls <- call
			return false
		}
		refused <- call
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"status":404,"code":"session-unknown","detail":"there is no such session"}`)
		return true
	})})
	network := newProxy(t, s.addr)
	p := openTestPage(t, network.url(), "/")
	expect := func(from chan string, want string) {
		t.Helper()
		if got := receive(t, from); got != want {
			t.Errorf("the hub got %s, want %s", got, want)
		}
	}
	const old, current, cleared = `PUT {"group":"wills","msg":"old"}`, `PUT {"group":"wills","msg":"new"}`, "DELETE "
	p.do(`window.wb = t.watchbox(); await wb.join("a", t.receive)`)

	lags.Store(true)
	p.do(`window.first = wb.setWill("wills", "old")`)
	expect(refused, old)
	p.do(`window.second = wb.setWill("wills", "new")`)
	lags.Store(false)
	p.do(`await Promise.all([first, second])`)
	expect(calls, current)
	expect(calls, current)

	lags.Store(true)
	drain(refused)
	network.cut()
	expect(refused, current)
	lags.Store(false)
	expect(calls, current)

	lags.Store(true)
	drain(refused)
	p.do(`window.cleared = wb.clearWill()`)
	expect(refused, cleared)
	lags.Store(false)
	p.do(`await cleared`)
	expect(calls, cleared)

	lags.Store(true)
	p.do(`const e = await wb.setWill("wills", "old").catch((e) => e); if (e.code !== "session-unknown") throw e`)
	p.console = nil // the browser writes a line for each status 404
}

func drain(c chan string) {
	for len(c) > 0 {
		<-c
	}
}

// intercept returns a wrapper in which f may answer a request instead of the hub.
func intercept(f func(w http.ResponseWriter, r *http.Request, hub http.Handler) bool) func(http.Handler) http.Handler {
	return func(hub http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !f(w, r, hub) {
				hub.ServeHTTP(w, r)
			}
		})
	}
}

func isStream(r *http.Request) bool { return r.URL.Path == "/v1/events" }

func TestAPublishIsRetriedAfterALostAnswerAndAppendedOnce(t *testing.T) {
	t.Parallel()
	var posts atomic.Int32
	s := serve(t, &server{wrap: intercept(func(_ http.ResponseWriter, r *http.Request, hub http.Handler) bool {
		if r.Method != http.MethodPost || posts.Add(1) > 2 {
			return false
		}
		hub.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})})
	p := openTestPage(t, s.url(), "/")
	p.do(`window.wb = t.watchbox(); await wb.join("a", t.receive); await wb.publish("a", 1); await wb.publish("a", 2)`)
	p.receivedMessages(1, 2)
	if n := posts.Load(); n < 4 {
		t.Errorf("%d POSTs: none was repeated", n)
	}
}

func TestATokenIsSentInAHeaderAndRenewed(t *testing.T) {
	t.Parallel()
	var good atomic.Value
	good.Store("Bearer 1")
	s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.URL.Path == "/watchbox.js" || r.Header.Get("Authorization") == good.Load() {
			return false
		}
		http.Error(w, "no", http.StatusUnauthorized)
		return true
	})})
	network := newProxy(t, s.addr)
	p := openTestPage(t, network.url(), "/")
	p.do(`
		window.n = 1;
		window.wb = t.watchbox({ transport: "eventsource", token: async () => String(n) });
		await wb.join("a", t.receive);
		await wb.publish("a", 1)`)
	good.Store("Bearer 2")
	network.cut()
	p.receivedEvents("closed", "401")
	p.do(`
		window.tokens = 0;
		window.wb = t.watchbox({ token: () => String(++tokens) });
		await wb.join("a", t.receive);
		await wb.publish("a", 2).catch(() => {});`)
	s.publish("a", 3)
	p.receivedMessages(1, 3) // 2 came with a token that was too new
}

func TestFinalAnswersCloseTheClient(t *testing.T) {
	for _, status := range []int{http.StatusNoContent, http.StatusUnauthorized, http.StatusForbidden} {
		for _, transport := range []string{"fetch", "eventsource"} {
			t.Run(http.StatusText(status)+" by "+transport, func(t *testing.T) {
				t.Parallel()
				var requests atomic.Int32
				s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
					if isStream(r) {
						requests.Add(1)
						w.WriteHeader(status)
					}
					return isStream(r)
				})})
				p := openTestPage(t, s.url(), "/")
				var got []any
				p.eval(&got, `
					window.wb = t.watchbox({ transport: %q });
					const error = await wb.join("a", t.receive).catch((e) => e);
					const later = await wb.publish("a", 1).catch((e) => e);
					return [error.status, wb.state, later === error]`, transport)
				if text(got) != text([]any{status, "closed", true}) {
					t.Errorf("got %s", text(got))
				}
				p.receivedEvents("closed", text(status))
				if n := requests.Load(); n > 2 { // an EventSource does not see the status
					t.Errorf("the client made %d requests, want at most 2", n)
				}
			})
		}
	}
}

func TestARefusedFilterDoesNotAffectTheOthers(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	p := openTestPage(t, s.url(), "/")
	var got []any
	p.eval(&got, `
		window.wb = t.watchbox();
		const join = (f) => wb.join(f, t.receive).then(() => "joined", (e) => e.code ?? e.name);
		return Promise.all(["$session/x", "a", "b/#/c", "b", "c//d", "c/../d"].map(join))`)
	if want := []any{"filter-forbidden", "joined", "filter-invalid", "joined", "TypeError", "TypeError"}; text(got) != text(want) {
		t.Errorf("got %s, want %s", text(got), text(want))
	}
	s.publish("a", 1)
	s.publish("b", 2)
	p.receivedMessages(1, 2)
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	times := make(chan time.Time, 10)
	s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !isStream(r) {
			return false
		}
		times <- time.Now()
		if len(times) > 1 {
			return false
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})})
	p := openTestPage(t, s.url(), "/")
	p.do(`window.wb = t.watchbox({ maxDelay: 10 }); await wb.join("a", t.receive)`)
	if first, second := receive(t, times), receive(t, times); second.Sub(first) < time.Second {
		t.Errorf("the client reconnected after %v", second.Sub(first))
	}
}

func TestAKickedSessionDoesNotReconnect(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	p := openTestPage(t, s.url(), "/")
	p.do(`window.wb = t.watchbox(); await wb.join("a", t.receive);
		await fetch(new URL("v1/sessions/" + wb.uid, t.hub), { method: "DELETE" })`)
	p.receivedEvents("closed", "kicked")
	p.receivedEvents("disconnect", "kicked")
	if got := s.sessions(); len(got) != 0 {
		t.Errorf("there are sessions: %v", got)
	}
}

// The bytes of a stream may be cut anywhere, and its lines may end in CR, LF or both.
func TestAStreamIsParsedInPiecesOfAnySize(t *testing.T) {
	t.Parallel()
	stream := "\ufeffretry: 5\r\nevent:session\rid: x-1\ndata: {\"uid\":\"u\",\r\ndata:\"heartbeat\":\"1m0s\"}\r\n\r\n" +
		": comment\n\nid: x-2\n\n" +
		"id\r\rid: x-3\r\ndata: {\"id\":\"x-3\",\"group\":\"a\",\"msg\":\"é 😀\"}\r\r" +
		"unknown: 1\ndata: {\"id\":\"x-4\",\ndata: \"group\":\"a\",\"msg\":4}\n\r\nevent: tick\rdata:{\"id\":\"x-5\",\"group\":\"a\",\"msg\":5}\r\n\r\n" +
		"data: {\"id\":\"x-5\",\"group\":\"a\",\"msg\":\"again\"}\n\n" +
		"data: {\"id\":\"x-6\",\"group\":\"a\",\"msg\":\"not whole\"}\n"
	for _, size := range []int{1, 3, 1000} {
		var requests atomic.Int32
		last := make(chan string, 1)
		s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if !isStream(r) {
				return false
			}
			if requests.Add(1) > 1 {
				last <- r.Header.Get("Last-Event-ID")
				w.WriteHeader(http.StatusNoContent)
				return true
			}
			w.Header().Set("Content-Type", "Text/Event-Stream; charset=x")
			for rest := stream; rest != ""; {
				n := min(size, len(rest))
				_, _ = w.Write([]byte(rest[:n]))
				_ = http.NewResponseController(w).Flush()
				rest = rest[n:]
			}
			return true
		})})
		p := openTestPage(t, s.url(), "/")
		p.do(`t.patient(); window.wb = t.watchbox(); await wb.join("a", t.receive)`)
		p.receivedEvents("closed", "204")
		p.receivedMessages("é 😀", 4, 5)
		if id := receive(t, last); id != "x-3" && id != "x-5" {
			t.Errorf("the client reconnects with the id %q", id)
		}
	}
}

func TestAClientWaitsForAHubThatIsDown(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	p := openTestPage(t, s.url(), "/")
	s.stop()
	p.do(`window.wb = t.watchbox(); window.joined = wb.join("a", t.receive); window.published = wb.publish("a", 1)`)
	p.until("wb.state === 'waiting'")
	s.start()
	p.do("await joined; await published")
	if _, err := s.hub.Publish(context.Background(), "a", 2); err != nil {
		t.Fatal(err)
	}
	p.until("t.received.includes(2)")
	p.receivedEvents("open", "uid")
	p.receivedEvents("disconnect")
}

func TestTheEventOnlineEndsAWait(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	network := newProxy(t, s.addr)
	p := openTestPage(t, network.url(), "/")
	p.do(`window.wb = t.watchbox({ maxDelay: 1e6 }); await wb.join("a", t.receive); Math.random = () => 100`)
	network.refuse(true)
	network.cut()
	p.receivedEvents("disconnect", "")
	network.refuse(false)
	s.publish("a", 1)
	p.do(`dispatchEvent(new Event("online"))`)
	p.receivedMessages(1)
}

func TestThePageAfterARefusalResumes(t *testing.T) {
	t.Parallel()
	var shut atomic.Bool
	s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !isStream(r) || !shut.Load() {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})})
	network := newProxy(t, s.addr)
	p := openTestPage(t, network.url(), "/")
	p.do(`window.wb = t.watchbox(); await wb.join("a", t.receive)`)
	s.publish("a", 1)
	p.receivedMessages(1)
	shut.Store(true)
	network.cut()
	p.receivedEvents("closed", "401")
	s.publish("a", 2)
	shut.Store(false)
	p.run(chromedp.Reload())
	p.ready().do(`window.wb = t.watchbox(); await wb.join("a", t.receive)`)
	p.receivedMessages(2)
}
