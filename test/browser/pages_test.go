package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/watchbox-go/watchbox"
)

func TestTheREADMEExampleRuns(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```js\n(.*?)```").FindSubmatch(readme)
	if example == nil {
		t.Fatal("the README has no example in js")
	}
	s := serve(t, &server{})
	p := open(t, s.url()+"/")
	lines := make(chan string, 10)
	p.onConsole(func(line string) { lines <- line })
	p.run(chromedp.Evaluate(string(example[1]), nil))
	if line := receive(t, lines); line != "the kettle is on" {
		t.Errorf("the console has %q", line)
	}
}

// otherOrigin serves a page of another origin without a content policy.
func otherOrigin(t *testing.T) *httptest.Server {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, "<!doctype html><title>other origin</title>")
	}))
	t.Cleanup(other.Close)
	return other
}

func TestAPageOfAnotherOriginIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	connected := make(chan watchbox.Session, 10)
	s.hub.OnConnect(func(session watchbox.Session) { connected <- session })
	p := open(t, otherOrigin(t).URL)
	var got []any
	p.eval(&got, `
		const hub = %q;
		const request = (init) => fetch(hub + "/v1/groups/a", init).then((r) => r.type, (e) => e.name);
		const stream = () => new Promise((done) => {
			const source = new EventSource(hub + "/v1/groups/a");
			source.onopen = () => done("open");
			source.onerror = () => done(source.readyState === EventSource.CLOSED ? "refused" : "lost");
		});
		return Promise.all([
			request(), request({ mode: "no-cors" }), request({ method: "POST", body: "x" }), request({ method: "POST", body: "x", mode: "no-cors" }),
			request({ method: "DELETE" }), stream(),
			import(hub + "/watchbox.js").then(() => "imported", (e) => e.name),
		])`, s.url())
	want := []any{"TypeError", "opaque", "TypeError", "opaque", "TypeError", "refused", "TypeError"}
	if text(got) != text(want) {
		t.Errorf("got  %s\nwant %s", text(got), text(want))
	}
	// The page cannot read an opaque answer. The request must not have had an effect, either.
	sameOrigin := openTestPage(t, s.url(), "/")
	var history string
	sameOrigin.eval(&history, `return (await fetch("/v1/history/%%23")).text()`)
	if strings.Join(strings.Fields(history), "") != `{"messages":[]}` {
		t.Errorf("the history is %s", history)
	}
	if n := len(connected); n != 0 {
		t.Errorf("%d sessions were created", n)
	}
}

func TestAPageOfAnAllowedOriginUsesWatchboxJSFromTheHub(t *testing.T) {
	t.Parallel()
	other := otherOrigin(t)
	s := serve(t, &server{mount: "/hub", opts: []watchbox.Option{watchbox.WithAllowOrigin(other.URL)}})
	network := newProxy(t, s.addr)
	p := open(t, other.URL)
	p.do(`
		const { Watchbox } = await import(%q + "/hub/watchbox.js");
		window.t = { received: [], events: [] };
		window.wb = new Watchbox(undefined, { maxDelay: 200 });
		await wb.join("a", (m) => t.received.push(m.msg));
		await wb.join("b", (m) => t.received.push(m.msg));
		await wb.publish("b", 1);`, network.url())
	p.receivedMessages(1)
	network.cut() // the preflight request asks for the header Last-Event-ID, and the hub allows it
	s.publish("a", 2)
	p.receivedMessages(1, 2)
}
