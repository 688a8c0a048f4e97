package browser_test

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// logins is an authorization whose tokens are "subject.number.end". The end is in Unix milliseconds.
type logins struct {
	streams atomic.Int64 // requests for a stream
	renewed chan string  // the tokens that streams were renewed with
	down    atomic.Bool  // renewals get no answer
}

func (l *logins) authorize(r *http.Request) (*watchbox.Grant, error) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if c, err := r.Cookie("login"); err == nil {
		token = c.Value
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, watchbox.ErrUnauthorized
	}
	end, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || time.UnixMilli(end).Before(time.Now()) {
		return nil, watchbox.ErrUnauthorized
	}
	switch {
	case r.URL.Path == "/v1/events":
		l.streams.Add(1)
	case r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/token"):
		l.renewed <- token
	}
	return &watchbox.Grant{Subject: parts[0], Subscribe: []string{"#"}, Publish: []string{"#"}, Expires: time.UnixMilli(end)}, nil
}

// serveLogins starts a hub that needs the tokens of logins.
func serveLogins(t *testing.T, opts ...watchbox.Option) (*server, *logins) {
	t.Helper()
	l := &logins{renewed: make(chan string, 1000)}
	return serve(t, &server{opts: append(opts, watchbox.WithAuthorize(l.authorize)), wrap: func(hub http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if l.down.Load() && strings.HasSuffix(r.URL.Path, "/token") {
				panic(http.ErrAbortHandler)
			}
			hub.ServeHTTP(w, r)
		})
	}}), l
}

// logIn prepares a page: t.token(ms, subject) makes a new token that expires in ms. It does not follow the clock
// of the page. t.timers holds the timers of the page that wait for at least ten minutes.
const logIn = `
	let number = 0;
	const { now } = Date;
	const { setTimeout, clearTimeout } = window;
	t.token = (ms, subject = "anna") => subject + "." + ++number + "." + (now() + ms);
	t.timers = new Set();
	window.setTimeout = (f, ms, ...args) => {
		const timer = setTimeout(f, ms, ...args);
		if (ms >= 600_000) t.timers.add(timer);
		return timer;
	};
	window.clearTimeout = (timer) => {
		t.timers.delete(timer);
		clearTimeout(timer);
	};
	const { fetch } = window;
	t.renewals = 0; // answered ones
	window.fetch = async (url, init) => {
		const response = await fetch(url, init);
		if (String(url).endsWith("/token")) setTimeout(() => { t.renewals++; }, 0);
		return response;
	};
	window.hour = 3_600_000;`

func TestAnOpenStreamIsRenewedOftenAndLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	for kind, options := range map[string]string{
		"function":                `{ token: () => t.token(hour) }`,
		"async function":          `{ token: async () => t.token(hour) }`,
		"shared":                  `{ token: async () => t.token(hour), shared: true }`,
		"cookie":                  `{}`,
		"cookie by EventSource":   `{ transport: "eventsource" }`,
		"function of EventSource": `{ token: () => t.token(hour), transport: "eventsource" }`,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const renewals, block = 20, 50
			s, l := serveLogins(t, watchbox.WithHeartbeat(time.Hour)) // the page misses no heartbeat when its clock is turned forward
			p := openTestPage(t, s.url(), "/")
			p.do("%s", logIn+`
				window.ahead = t.clock(60_000);
				window.login = () => { document.cookie = "login=" + t.token(hour) + ";path=/"; };
				if (`+strconv.FormatBool(strings.HasPrefix(kind, "cookie"))+`) login();
				else window.login = () => {};
				window.wb = t.watchbox(`+options+`);
				await wb.join("a", t.receive);`)
			tokens := map[string]bool{}
			for n := range renewals {
				var publishing sync.WaitGroup
				publishing.Go(func() {
					for i := n * block; i < (n+1)*block-1; i++ {
						if _, err := s.hub.Publish(context.Background(), "a", i); err != nil {
							t.Error(err)
						}
					}
				})
				p.do("login(); ahead(55 * 60_000)")
				p.until("t.renewals > %d", n)
				tokens[receive(t, l.renewed)] = true
				publishing.Wait()
				s.publish("a", (n+1)*block-1) // so that the clock is never turned twice without a message: the stream would seem dead
				p.until("t.received.length >= %d", (n+1)*block)
			}
			p.until("t.received.length === %d && t.received.every((n, i) => n === i)", renewals*block)
			p.receivedEvents("disconnect")
			p.receivedEvents("unrenewed")
			if streams := l.streams.Load(); streams != 1 || len(tokens) != renewals {
				t.Errorf("%d streams with %d tokens, want 1 with %d", streams, len(tokens), renewals)
			}
		})
	}
}

// The page is told why the renewal failed, and later that the stream is lost.
func TestAStreamThatCannotBeRenewedReconnectsAndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		renewal   string // of the token
		down      bool
		tried     string // is true after the attempt to renew; "" after the event
		unrenewed string // error of the event; "" for no event
	}{
		"the function throws":             {renewal: `throw new Error("logged out")`, unrenewed: "the page's token function failed: logged out"},
		"the function rejects":            {renewal: `return Promise.reject(new Error("logged out"))`, unrenewed: "the page's token function failed: logged out"},
		"the function does not return":    {renewal: `return new Promise(() => {})`, tried: "t.asked > 1"},
		"the function has the same token": {renewal: `return t.first`, tried: "t.renewals > 0"},
		"the function has no token":       {renewal: `return ""`, unrenewed: `"status":401`},
		"the hub refuses the token":       {renewal: `return "anna.1.1"`, unrenewed: `"status":401`},
		"the token is that of another":    {renewal: `return t.token(hour, "bob")`, unrenewed: `"status":403`},
		"the hub does not answer":         {renewal: `return t.token(hour)`, down: true, unrenewed: "the hub cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := serveLogins(t, watchbox.WithHeartbeat(time.Hour))
			l.down.Store(c.down)
			p := openTestPage(t, s.url(), "/")
			p.do("%s", logIn+`
				window.ahead = t.clock(60_000);
				t.asked = 0;
				window.wb = t.watchbox({ token: () => {
					t.asked++;
					if (t.first === undefined) return t.first = t.token(hour);
					if (t.count("disconnect") > 0) return t.token(hour);
					`+c.renewal+`;
				} });
				await wb.join("a", t.receive);
				ahead(55 * 60_000)`)
			s.publish("a", 1)
			p.until("%s", cmp.Or(c.tried, "t.count('unrenewed') > 0"))
			if err := s.hub.Revoke(t.Context(), watchbox.Revocation{Subject: "anna"}); err != nil { // as if the token had expired
				t.Fatal(err)
			}
			p.until("t.count('disconnect') > 0")
			s.publish("a", 2)
			p.until("t.count('reconnect') > 0")
			s.publish("a", 3)
			p.receivedMessages(1, 2, 3)
			p.receivedEvents("disconnect", "token-revoked")
			p.receivedEvents("gap")
			var first string
			p.eval(&first, "return t.first")
			l.down.Store(false)
			p.do("ahead(55 * 60_000)")
			for receive(t, l.renewed) == first { // the stream with the new token is renewed
			}
			var failed []string
			p.eval(&failed, `return t.events.filter(([type]) => type === "unrenewed").map(([, detail]) => JSON.stringify(detail))`)
			if (len(failed) > 0) != (c.unrenewed != "") || len(failed) > 0 && !strings.Contains(failed[0], c.unrenewed) {
				t.Errorf("the events are %q, want %q", failed, c.unrenewed)
			}
		})
	}
}

func TestARenewalThatFailedIsTriedAgainBeforeTheStreamEnds(t *testing.T) {
	t.Parallel()
	s, l := serveLogins(t, watchbox.WithHeartbeat(time.Hour))
	p := openTestPage(t, s.url(), "/")
	p.do("%s", logIn+`
		window.ahead = t.clock(60_000);
		window.wb = t.watchbox({ token: () => {
			if (t.asked++ === 1) throw new Error("not now");
			return t.token(hour);
		} });
		t.asked = 0;
		await wb.join("a", t.receive);
		ahead(55 * 60_000)`)
	p.receivedEvents("unrenewed", "not now")
	var left float64
	p.eval(&left, `return t.events.find(([type]) => type === "unrenewed")[1].delay`)
	if minute := time.Minute.Milliseconds(); int64(left) > 3*minute || int64(left) < minute {
		t.Errorf("the next attempt is in %v ms, want half of five minutes", left)
	}
	p.do("ahead(3 * 60_000)")
	receive(t, l.renewed)
	s.publish("a", 1)
	p.receivedMessages(1)
	p.receivedEvents("disconnect")
}

// The hub may end a stream in the last 30 s, if its token was an hour old when the stream was opened.
func TestAStreamWithAnOldTokenIsRenewedInTime(t *testing.T) {
	t.Parallel()
	s, l := serveLogins(t, watchbox.WithHeartbeat(time.Hour))
	p := openTestPage(t, s.url(), "/")
	p.do("%s", logIn+`
		window.ahead = t.clock(1000);
		window.wb = t.watchbox({ token: () => t.token(120_000) });
		await wb.join("a", t.receive);
		ahead(85_000)`)
	receive(t, l.renewed)
}

func TestNoRenewalIsLeftWhenTheStreamIsClosed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"close":      `await wb.close()`,
		"last leave": `wb.leave("a")`,
		"kicked":     `await fetch("/v1/sessions/" + wb.uid, { method: "DELETE", headers: { Authorization: "Bearer " + t.token(hour) } })`,
		"pagehide":   `dispatchEvent(new PageTransitionEvent("pagehide"))`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &logins{renewed: make(chan string, 1000)}
			s := serve(t, &server{opts: []watchbox.Option{watchbox.WithAuthorize(func(r *http.Request) (*watchbox.Grant, error) {
				g, err := l.authorize(r)
				if g != nil {
					g.Admin = true
				}
				return g, err
			})}})
			p := openTestPage(t, s.url(), "/")
			p.do("%s", logIn+`
				window.wb = t.watchbox({ token: async () => t.token(hour) });
				await wb.join("a", t.receive);`)
			p.until("t.timers.size === 1")
			p.do("%s", end)
			p.until("t.timers.size === 0")
		})
	}
}

// A browser delays the timers of a tab in the background, even by minutes.
func TestATabWhoseTimersAreLateReconnects(t *testing.T) {
	t.Parallel()
	s, l := serveLogins(t)
	p := openTestPage(t, s.url(), "/")
	p.do("%s", logIn+`
		window.late = [];
		const { setTimeout: inTime } = window;
		window.setTimeout = (f, ms, ...args) => ms >= 500 && ms <= 3000 && t.count("disconnect") === 0 ? late.push(f) : inTime(f, ms, ...args);
		window.wb = t.watchbox({ token: () => { t.asked = (t.asked ?? 0) + 1; return t.token(t.asked > 1 ? hour : 3000); } });
		await wb.join("a", t.receive);`)
	s.publish("a", 1)
	p.until("t.count('disconnect') > 0")
	s.publish("a", 2)
	p.until("t.count('reconnect') > 0")
	p.do(`
		const { asked } = t;
		for (const f of late) f();
		await new Promise((done) => requestIdleCallback(done));
		if (late.length === 0 || t.asked !== asked) throw new Error("a late timer renewed a stream that had ended")`)
	s.publish("a", 3)
	p.receivedMessages(1, 2, 3)
	p.receivedEvents("disconnect", "token-expired")
	p.receivedEvents("unrenewed")
	if len(l.renewed) > 0 {
		t.Error("the stream was renewed")
	}
}

func TestATokenFunctionThatDoesNotReturnHoldsNothingUp(t *testing.T) {
	t.Parallel()
	s, _ := serveLogins(t)
	p := openTestPage(t, s.url(), "/")
	p.do(`
		window.wb = t.watchbox({ token: () => new Promise(() => {}) });
		const stop = new AbortController();
		const sent = wb.publish("a", 1, { signal: stop.signal });
		stop.abort();
		await sent.then(() => { throw new Error("it was sent") }, (e) => { if (e.name !== "AbortError") throw e });
		const joined = wb.join("a", t.receive);
		await wb.close();
		await joined;`)
	p.receivedEvents("closed", "")
}

func TestAPageLearnsThatItsTokenFunctionFailed(t *testing.T) {
	t.Parallel()
	s, _ := serveLogins(t)
	p := openTestPage(t, s.url(), "/")
	p.do("%s", logIn+`
		window.wb = t.watchbox({ token: () => {
			if (t.count("state") < 4) throw new Error("the login server is down");
			return t.token(hour);
		} });
		await wb.join("a", t.receive);`)
	p.until(`t.events.some(([type, d]) => d.error === "watchbox: the page's token function failed: the login server is down")`)
	s.publish("a", 1)
	p.receivedMessages(1)
}
