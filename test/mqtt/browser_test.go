//go:build !windows

package mqtt_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// chromium is the path of Debian's package, which make test installs.
const chromium = "/usr/bin/chromium"

// TestMQTTJSInChromium: a page talks MQTT to the hub over a WebSocket, and EventSource and fetch beside it show the same.
// A page of an origin that is not allowed cannot.
func TestMQTTJSInChromium(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mqtt.js" {
			http.ServeFile(w, r, "testdata/node_modules/mqtt/dist/mqtt.min.js")
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, `<!doctype html><title>app</title><script src="/mqtt.js"></script>`)
	})
	app, stranger := httptest.NewServer(page), httptest.NewServer(page)
	defer app.Close()
	defer stranger.Close()
	b := hub(t, "--allow-origin", app.URL)
	tab := inChromium(t)

	got := tab(app.URL, fmt.Sprintf(`
		const heard = (source, group) => new Promise((done) => { source.onmessage = (e) => done(JSON.parse(e.data).msg); });
		const events = new EventSource(%q);
		await new Promise((done) => events.addEventListener("session", done));
		const byHTTP = heard(events);
		const client = await mqtt.connectAsync(%q, { protocolVersion: 5, clientId: "page" });
		const byMQTT = new Promise((done) => client.on("message", (topic, payload) => topic === "page/b" && done(payload.toString())));
		await client.subscribeAsync("page/+", { qos: 1 });
		await client.publishAsync("page/a", "by MQTT", { qos: 2 });
		await fetch(%q, { method: "POST", body: "by HTTP" });
		const both = [await byHTTP, await byMQTT].join(", ");
		await client.endAsync();
		events.close();
		return both;`, b.url+"/v1/groups/page/a", b.ws, b.url+"/v1/groups/page/b"))
	if got != "by MQTT, by HTTP" {
		t.Errorf("the page received %q", got)
	}
	got = tab(stranger.URL, fmt.Sprintf(`
		const socket = new WebSocket(%q, "mqtt");
		return new Promise((done) => { socket.onopen = () => done("open"); socket.onerror = () => done("refused"); });`, b.ws))
	if got != "refused" {
		t.Errorf("the WebSocket of another origin is %s", got)
	}
}

// inChromium starts Chromium and returns how to open a page in it and run the body of an async function there.
func inChromium(t *testing.T) func(url, script string) string {
	t.Helper()
	profile, err := os.MkdirTemp(scratch, "chromium-") // its processes may write into it for a moment after the browser has ended
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(chromium), chromedp.UserDataDir(profile), chromedp.WSURLReadTimeout(patience),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-background-networking", true),
	)
	t.Cleanup(stop)
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	t.Cleanup(cancel)
	ctx, quit := chromedp.NewContext(ctx)
	t.Cleanup(quit)
	return func(url, script string) (result string) {
		t.Helper()
		err := chromedp.Run(ctx, chromedp.Navigate(url), chromedp.Evaluate("(async () => {"+script+"})()", &result,
			func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
}
