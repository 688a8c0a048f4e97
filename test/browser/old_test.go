package browser_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// TestWatchboxJSWorksInTheOldestBrowsers removes the features that browsers have added since Chrome 85.
func TestWatchboxJSWorksInTheOldestBrowsers(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{
		"fetch": "{}", "eventsource": `{ transport: "eventsource" }`, "shared": "{ shared: true }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{})
			network := newProxy(t, s.addr)
			address := network.url() + testPage + "/&old"
			p := open(t, address).ready()
			p.do(`
				if (AbortSignal.any || navigator.locks || window.structuredClone || [].at) throw new Error("the page has all that is new");
				window.wb = t.watchbox(%s);
				await wb.join("a", t.receive);
				const stop = new AbortController();
				await wb.publish("a", 1, { signal: stop.signal });
				stop.abort();
				const name = await wb.publish("a", 2, { signal: stop.signal }).catch((e) => e.name);
				if (name !== "AbortError") throw new Error(name);
				await wb.join("b", t.receive);
				await wb.publishBatch([{ group: "a", msg: 3 }, { group: "b", msg: "ü" }]);
				await wb.setWill("wills", "gone");
				await wb.clearWill();`, options)
			p.receivedMessages(1, 3, "ü")
			network.cut()
			s.publish("b", 4)
			p.receivedMessages(1, 3, "ü", 4)
			p.reopen(address, func() { s.publish("a", 5) })
			p.do(`window.wb = t.watchbox(%s); await Promise.all([wb.join("a", t.receive), wb.join("b", t.receive)])`, options)
			p.receivedMessages(5)
			p.do(`await wb.close(); const error = await wb.join("a", t.receive).catch((e) => e.name); if (error !== "AbortError") throw new Error(error)`)
		})
	}
}

// A group may have the name of a property of every JavaScript object, such as constructor.
func TestGroupsNamedAsObjectProperties(t *testing.T) {
	t.Parallel()
	for _, options := range []string{"{}", "{ shared: true }"} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{})
			p := openTestPage(t, s.url(), "/")
			join := fmt.Sprintf(`const names = ["__proto__", "constructor", "toString", "hasOwnProperty/__proto__"];
				window.wb = t.watchbox(%s);
				for (const name of names) await wb.join(name, (m) => t.received.push(m.group + " " + JSON.stringify(m.msg)));`, options)
			p.do(`const kept = { retain: true };
				const wb = t.watchbox(); await wb.publish("constructor", JSON.parse('{"__proto__":1}'), kept); await wb.close();`)
			p.do("%s", join)
			s.publish("__proto__", json.RawMessage(`{"__proto__":{"polluted":true},"constructor":2}`))
			s.publish("toString", 3)
			p.receivedMessages(`constructor {"__proto__":1}`, `__proto__ {"__proto__":{"polluted":true},"constructor":2}`, "toString 3")
			p.reopen(s.url()+testPage+"/", func() { s.publish("hasOwnProperty/__proto__", 4); s.publish("constructor", 5) })
			p.do("%s", join)
			p.until("t.received.length >= 2")
			p.do(`if ({}.polluted !== undefined) throw new Error("Object.prototype was changed");
				if (t.received.slice().sort().join() !== "constructor 5,hasOwnProperty/__proto__ 4") throw new Error(t.received.join())`)
			p.receivedEvents("gap")
		})
	}
}

// foreignAnswers has answers from servers other than a hub.
var foreignAnswers = map[string]http.HandlerFunc{
	"404 page": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such site", http.StatusNotFound) },
	"200 page": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>log in")
	},
	"JSON without an id": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"ok":true}`)
	},
	"redirect": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://login.invalid/", http.StatusTemporaryRedirect)
	},
}

func TestForeignAnswersAreTemporaryAfterTheHubHasAnswered(t *testing.T) {
	for name, answer := range foreignAnswers {
		for _, kind := range []string{"watchbox.js", "watchbox.js by EventSource", "watchbox.js shared"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				var replaced atomic.Bool
				var streams, posts atomic.Int32
				s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
					if !replaced.Load() || r.URL.Path == "/watchbox.js" {
						return false
					}
					if isStream(r) {
						streams.Add(1)
					} else {
						posts.Add(1)
					}
					answer(w, r)
					return true
				})})
				network := newProxy(t, s.addr)
				p := openTestPage(t, network.url(), "/")
				p.do("%s", clientKinds[kind])
				replaced.Store(true)
				p.do(`window.published = wb.publish("a", 1)`)
				network.cut()
				p.until("t.events.filter(([type, d]) => type === 'state' && d.state === 'waiting').length >= 3")
				for posts.Load() < 2 || streams.Load() < 2 {
					p.do("await new Promise((r) => setTimeout(r, 10))")
				}
				replaced.Store(false)
				p.do("await published")
				p.receivedMessages(1)
				p.receivedEvents("closed")
				p.receivedEvents("disconnect", "")
			})
		}
	}
}

// Each call is retried until the hub answers it.
func TestNoCallAcceptsJSONThatIsNotAHubs(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // guards requests
	requests := map[string]int{}
	s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/") || isStream(r) {
			return false
		}
		parts := strings.Split(r.URL.Path, "/")
		call := r.Method + " " + parts[2] + " " + parts[len(parts)-1]
		mu.Lock()
		defer mu.Unlock()
		requests[call]++
		if requests[call] > 1 {
			return false
		}
		foreignAnswers["JSON without an id"](w, r)
		return true
	})})
	p := openTestPage(t, s.url(), "/")
	var got []any
	p.eval(&got, `const wb = t.watchbox();
		await wb.join("a", t.receive);
		const id = (receipt) => typeof receipt.id;
		const results = [
			id(await wb.publish("a", 1)), typeof (await wb.publishBatch([{ group: "a", msg: 2 }])).first,
			id(await wb.sendTo(wb.uid, 3)), (await wb.retained("none")).length];
		await wb.setWill("w", 4);
		await wb.clearWill();
		await wb.join("b", t.receive);
		return results`)
	if text(got) != `["string","string","string",0]` {
		t.Errorf("got %s", text(got))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(requests) != 7 {
		t.Errorf("the calls were %v, want 7 different ones", requests)
	}
	for call, n := range requests {
		if n != 2 {
			t.Errorf("%s was called %d times, want twice", call, n)
		}
	}
}

func TestAWrongAddressIsAnErrorAtOnce(t *testing.T) {
	for name, answer := range foreignAnswers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
				if r.URL.Path == "/watchbox.js" {
					return false
				}
				answer(w, r)
				return true
			})})
			p := openTestPage(t, s.url(), "/")
			var got []string
			p.eval(&got, `const error = (e) => e.name + e.code;
				return [await t.watchbox().publish("a", 1).then(String, error), await t.watchbox().join("a", t.receive).then(String, error)]`)
			if text(got) != text([]string{"WatchboxError", "WatchboxError"}) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestSecretsDoNotFollowARedirect(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Headers", "*, Authorization, Watchbox-Session, Idempotency-Key, Content-Type")
		h.Set("Access-Control-Allow-Methods", "*")
		reached.Add(1)
	}))
	t.Cleanup(other.Close)
	for _, code := range []int{302, 307, 308} {
		s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if r.URL.Path == "/watchbox.js" {
				return false
			}
			http.Redirect(w, r, other.URL+r.URL.Path, code)
			return true
		})})
		p := open(t, s.url()+"/watchbox.js") // a page without a policy that would forbid the other host
		var got []int
		p.eval(&got, `const { Watchbox } = await import("/watchbox.js");
			const status = (e) => e.status;
			const options = { token: "token" };
			return [await new Watchbox(undefined, options).publish("a", 1).catch(status), await new Watchbox(undefined, options).join("a", () => {}).catch(status)]`)
		if text(got) != "[307,307]" {
			t.Errorf("%d: got %v", code, got)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
}

// A stream without a session event is requested again after half a minute, even if other data arrives. The test turns
// the page's clock forward instead of waiting.
func TestAStreamThatDoesNotOpenIsRequestedAgain(t *testing.T) {
	for stage, begin := range map[string]string{
		"no header": "", "no event": ":\n", "half an event": "event: session\nid: x-1\ndata: {",
	} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			stalled := make(chan bool, 10)
			s := serve(t, &server{wrap: intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
				if !isStream(r) || requests.Add(1) > 1 {
					return false
				}
				if begin != "" {
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, begin)
					_ = http.NewResponseController(w).Flush()
				}
				stalled <- true
				for tick := time.NewTicker(20 * time.Millisecond); ; {
					select {
					case <-r.Context().Done():
						return true
					case <-tick.C:
						if begin != "" {
							_, _ = io.WriteString(w, ":\n")
							_ = http.NewResponseController(w).Flush()
						}
					}
				}
			})})
			p := openTestPage(t, s.url(), "/")
			p.do(`window.skip = t.clock(29_000);
				window.wb = t.watchbox(); window.joined = wb.join("a", t.receive)`)
			receive(t, stalled)
			p.do("skip(31_000); await joined")
			s.publish("a", 1)
			p.receivedMessages(1)
		})
	}
}

// Such a batch has too many messages at every attempt.
func TestBatchOverThePublishRateIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithPublishRate(2)}})
	p := openTestPage(t, s.url(), "/")
	var got string
	p.eval(&got, `const m = { group: "a", msg: 1 };
		return await t.watchbox().publishBatch([m, m, m]).then(() => "published", (e) => e.status + " " + e.code)`)
	if got != "429 batch-over-rate" {
		t.Errorf("the batch is answered with %s", got)
	}
}

func TestBatchesRetainedMessagesAndRetainedWills(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithSessionTimeout(200 * time.Millisecond)}})
	gone := make(chan bool, 2)
	s.hub.OnDisconnect(func(watchbox.Session, watchbox.Reason) { gone <- true })
	p := openTestPage(t, s.url(), "/")
	p.do(`window.wb = t.watchbox();
		const both = (m) => t.received.push([m.group, m.msg instanceof Uint8Array ? [...m.msg] : m.msg, m.event ?? ""]);
		await wb.join("a", both); await wb.join("b/#", both);`)
	var got []any
	p.eval(&got, `const r = await wb.publishBatch([
			{ group: "a", msg: { n: 1 }, event: "e", ttl: "1h" }, { group: "b/c", msg: new Uint8Array([0, 255]), retain: true },
			{ group: "b/d", msg: null, retain: true }, { group: "b/e" }]);
		const n = (id) => Number(id.split("-")[1]);
		const refused = await wb.publishBatch([{ group: "a", msg: "no" }, { group: "$sys/x", msg: 1 }]).catch((e) => e.status);
		const list = await wb.retained("b/+");
		await wb.publishBatch([{ group: "b/d", msg: "", retain: true }]);
		return [r.count, n(r.id) - n(r.first), refused, list.map((m) => [m.group, m.retained, m.msg && [...m.msg]]), (await wb.retained("#")).length, (await wb.retained("none")).length]`)
	want := `[4,3,400,[["b/c",true,[0,255]],["b/d",true,null]],1,0]`
	if text(got) != want {
		t.Errorf("got %s, want %s", text(got), want)
	}
	p.until("t.received.length >= 5")
	p.do(`if (JSON.stringify(t.received.slice(0, 4)) !== '[["a",{"n":1},"e"],["b/c",[0,255],""],["b/d",null,""],["b/e","",""]]') throw new Error(JSON.stringify(t.received))`)

	leaver := openTestPage(t, s.url(), "/")
	leaver.do(`window.wb = t.watchbox(); await wb.join("x", t.receive);
		await wb.setWill("status", "offline", { retain: true, event: "status", ttl: "1h" })`)
	leaver.do("location.href = 'about:blank'")
	bytes := openTestPage(t, s.url(), "/")
	bytes.do(`window.wb = t.watchbox(); await wb.join("x", t.receive); await wb.setWill("bytes", new Uint8Array([0, 255]), { retain: true })`)
	bytes.do("location.href = 'about:blank'")
	receive(t, gone)
	receive(t, gone)
	p.do(`for (;;) {
		const [m] = await wb.retained("bytes");
		if (!m) continue;
		if (String(m.msg) !== "0,255") throw new Error(JSON.stringify(m));
		break;
	}
	for (;;) {
		const [m] = await wb.retained("status");
		if (!m) continue;
		if (m.msg !== "offline" || m.event !== "status" || !m.expires) throw new Error(JSON.stringify(m));
		return;
	}`)
}
