package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/watchbox-go/watchbox"
)

// dashboard is a tab with a page of the dashboard.
type dashboard struct {
	*page
	base string // address of the hub, with a / at its end
}

// watchPolicy collects what the Content-Security-Policy refuses.
const watchPolicy = `
	window.refused = [];
	document.addEventListener("securitypolicyviolation", (e) => refused.push(e.violatedDirective + " " + e.blockedURI + " " + e.sourceFile));`

// openDashboard opens a page of the dashboard, such as live?filter=home/%23, and waits until it is shown. The scripts
// run before those of the page.
func openDashboard(t *testing.T, s *server, name string, scripts ...string) *dashboard {
	t.Helper()
	d := &dashboard{open(t, "about:blank"), s.url() + strings.TrimSuffix(s.mount, "/") + "/"}
	d.run(chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := cdppage.AddScriptToEvaluateOnNewDocument(watchPolicy + strings.Join(scripts, ";\n")).Do(ctx)
		return err
	}))
	d.show(name)
	t.Cleanup(d.check)
	return d
}

// show shows a page of the dashboard.
func (d *dashboard) show(name string) {
	d.t.Helper()
	d.run(chromedp.Navigate(d.base + "#/" + name))
	title, _, _ := strings.Cut(name, "?")
	d.until("document.querySelector('main.page-%s')?.childElementCount > 0", title)
}

// check fails the test if the policy refused something or the console has lines.
func (d *dashboard) check() {
	var refused []string
	if d.t.Failed() {
		return
	}
	d.eval(&refused, "return window.refused ?? []")
	if len(refused) > 0 {
		d.t.Errorf("the policy refused %q", refused)
	}
	if lines := d.consoleLines(); len(lines) > 0 {
		d.t.Errorf("the console has %q", lines)
	}
}

// get evaluates an expression in the page.
func get[T any](d *dashboard, format string, args ...any) (v T) {
	d.t.Helper()
	d.eval(&v, "return "+format, args...)
	return v
}

// module evaluates an expression with a module of the page as m.
func module[T any](d *dashboard, name, expression string) (v T) {
	d.t.Helper()
	d.eval(&v, "const m = await import(%q); return %s", d.base+"assets/"+name, expression)
	return v
}

// size sets the size of the page.
func (d *dashboard) size(width, height int64) {
	d.t.Helper()
	d.run(emulation.SetDeviceMetricsOverride(width, height, 1, width < 500))
}

func (d *dashboard) press(keys ...string) {
	d.t.Helper()
	for _, k := range keys {
		d.run(chromedp.KeyEvent(k))
	}
}

// fill sets the value of a control as typing does.
func (d *dashboard) fill(selector, value string) {
	d.t.Helper()
	d.do(`const e = document.querySelector(%q); e.value = %q;
		e.dispatchEvent(new Event("input", { bubbles: true })); e.dispatchEvent(new Event("change", { bubbles: true }))`, selector, value)
}

// click clicks the first visible button or link with a text or label, except those between pages.
func (d *dashboard) click(text string) {
	d.t.Helper()
	const find = `[...document.querySelectorAll("main button, main a, #tools button")].find((e) => e.checkVisibility() && (e.textContent.trim() === %q || e.getAttribute("aria-label") === %q))`
	d.until(find, text, text)
	d.do(find+".click()", text, text)
}

// liveRows waits until the list of Live shows n rows.
func (d *dashboard) liveRows(n int) {
	d.t.Helper()
	d.until("document.querySelector('.list-row')?.getAttribute('aria-setsize') === '%d' && document.querySelector('.list-row:not([hidden])')", n)
}

// rows returns the texts of the visible rows' columns with a class.
func (d *dashboard) rows(class string) []string {
	d.t.Helper()
	return get[[]string](d, `[...document.querySelectorAll(".list-row:not([hidden])")].sort((a, b) => a.dataset.index - b.dataset.index).map((r) => r.querySelector(%q).textContent)`, class)
}

// publishAll publishes many values with one call.
func (s *server) publishAll(drafts ...watchbox.Draft) {
	s.t.Helper()
	for len(drafts) > 0 {
		n := min(len(drafts), 1000)
		if _, _, err := s.hub.PublishBatch(context.Background(), drafts[:n]); err != nil {
			s.t.Fatal(err)
		}
		drafts = drafts[n:]
	}
}

// publishAlways publishes to a group many times a second until the test ends.
func (s *server) publishAlways(group string) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, _, err := s.hub.PublishBatch(ctx, numbered(group, 0, 10)); err != nil && ctx.Err() == nil {
				s.t.Error(err)
				return
			}
		}
	}()
	s.t.Cleanup(func() { cancel(); <-ended })
}

// numbered returns n messages to a group with the payloads {"n":0}, {"n":1}, ….
func numbered(group string, from, n int) []watchbox.Draft {
	list := make([]watchbox.Draft, n)
	for i := range list {
		list[i] = watchbox.Draft{Group: group, Msg: map[string]int{"n": from + i}}
	}
	return list
}

func TestLiveShowsWhatWasAndIsPublished(t *testing.T) {
	t.Parallel()
	for _, mount := range []string{"/", "/hub"} {
		s := serve(t, &server{mount: mount})
		s.publish("home/hall", "before", map[string]any{"celsius": 21.5})
		d := openDashboard(t, s, "live")
		d.liveRows(2)
		s.publish("home/kitchen", "after")
		d.liveRows(3)
		want := []string{"before", `{"celsius":21.5}`, "after"}
		if got := d.rows(".payload"); text(got) != text(want) {
			t.Errorf("%s: the list has %q, want %q", mount, got, want)
		}
		d.until("document.querySelector('#status').textContent.startsWith('Connected')")

		d.do(`document.querySelector(".chip button").click()`) // the filter #
		d.until("document.querySelector('.over').textContent.includes('No filter')")
		d.run(chromedp.SendKeys(".chips input", "home/+\r", chromedp.ByQuery))
		d.liveRows(3)
		if hash, want := get[string](d, "location.hash"), "#/live?filter="+strings.ReplaceAll(url.QueryEscape("home/+"), "%2F", "/"); hash != want {
			t.Errorf("%s: the URL ends in %s, want %s", mount, hash, want)
		}
		d.run(chromedp.Reload())
		d.liveRows(3)
	}
}

func TestLiveShowsWhyAFilterIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	d := openDashboard(t, s, "live?filter=a/%23/b")
	d.until("document.querySelector('.over').textContent.includes('filter-invalid')")
	d.page.console = nil // the browser writes a line for each status 400
}

func TestLivePausesAndFollows(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	s.publishAll(numbered("a", 0, 100)...)
	d := openDashboard(t, s, "live")
	d.liveRows(100)
	d.click("Pause")
	s.publishAll(numbered("a", 100, 37)...)
	d.until("document.querySelector('.unseen').textContent === '37 new'")
	d.liveRows(100)
	d.click("37 new")
	d.liveRows(137)
	d.until(`[...document.querySelectorAll(".list-row:not([hidden])")].some((r) => r.textContent.includes('{"n":136}'))`)

	d.do(`document.querySelector(".list").scrollTop = 0`) // scrolling up pauses, too
	d.until("document.querySelector('.counter').textContent.includes('paused')")
	s.publishAll(numbered("a", 137, 3)...)
	d.until("document.querySelector('.unseen').textContent === '3 new'")
	d.do(`const list = document.querySelector(".list"); list.scrollTop = list.scrollHeight`)
	d.liveRows(140)
}

func TestLiveSearches(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	s.publishAll(
		watchbox.Draft{Group: "log", Msg: "ERR 42 timeout"}, watchbox.Draft{Group: "log", Msg: "ok", Event: "alarm"},
		watchbox.Draft{Group: "temp", Msg: map[string]any{"sensor": map[string]any{"temp": 20}, "list": []string{"x", "y"}}},
		watchbox.Draft{Group: "temp", Msg: map[string]any{"sensor": map[string]any{"temp": 30}}},
	)
	d := openDashboard(t, s, "live")
	d.liveRows(4)
	for _, c := range []struct {
		kind, query, event string
		want               []string
	}{
		{"text", "TIMEOUT", "", []string{"ERR 42 timeout"}},
		{"text", "temp", "", []string{`{"list":["x","y"],"sensor":{"temp":20}}`, `{"sensor":{"temp":30}}`}},
		{"regexp", `^ERR \d+`, "", []string{"ERR 42 timeout"}},
		{"path", "sensor.temp > 20", "", []string{`{"sensor":{"temp":30}}`}},
		{"path", "sensor.temp", "", []string{`{"list":["x","y"],"sensor":{"temp":20}}`, `{"sensor":{"temp":30}}`}},
		{"path", "$.list[1] = y", "", []string{`{"list":["x","y"],"sensor":{"temp":20}}`}},
		{"text", "", "alarm", []string{"ok"}},
	} {
		d.fill(".live-search select", c.kind)
		d.fill("[data-search]", c.query)
		d.fill("input.event", c.event)
		d.until(`JSON.stringify([...document.querySelectorAll(".list-row:not([hidden])")].sort((a, b) => a.dataset.index - b.dataset.index).map((r) => r.querySelector(".payload").textContent)) === %q`, text(c.want))
	}
	d.fill("input.event", "")
	d.fill(".live-search select", "regexp")
	d.fill("[data-search]", "(")
	d.until(`document.querySelector("[data-search]").getAttribute("aria-invalid") === "true"`)

	d.fill("[data-search]", "") // the search before
	d.until(`!document.querySelector("[data-search]").hasAttribute("aria-invalid") && document.querySelector("main .error-text").textContent === ""`)

	d.show("live?q=timeout&kind=unknown") // the URL has the search
	d.liveRows(1)
}

func TestTheInspectorShowsAMessage(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	for i := range 4 {
		s.publish("temp", map[string]any{"celsius": 20 + i, "unit": "C"})
	}
	last := watchbox.Draft{Group: "temp", Msg: map[string]any{"celsius": 24, "unit": "C"}, Meta: [][2]string{{"room", "kitchen"}}}
	if _, _, err := s.hub.PublishBatch(context.Background(), []watchbox.Draft{last}); err != nil {
		t.Fatal(err)
	}
	d := openDashboard(t, s, "live")
	d.liveRows(5)
	d.do(`document.querySelector(".list").focus()`)
	d.press(kb.ArrowUp, kb.Enter) // up: the last one; Enter: into the inspector
	d.until(`document.querySelector(".inspector pre").textContent.includes('"celsius": 24')`)
	d.until(`document.querySelector(".inspector .pairs").textContent.includes("Meta roomkitchen")`)
	d.click("Raw")
	d.until(`document.querySelector(".inspector pre").textContent === '{"celsius":24,"unit":"C"}'`)
	d.click("Hex")
	d.until(`document.querySelector(".inspector pre").textContent.includes("7b 22 63 65 6c")`)
	d.click("Changes")
	d.until(`document.querySelector(".inspector pre .gone").textContent.includes('"celsius": 23') && document.querySelector(".inspector pre .new").textContent.includes('"celsius": 24')`)
	d.click("Pretty")
	d.click("Plot celsius: 24")
	d.until(`document.querySelector(".inspector canvas") && document.querySelector(".inspector .legend").textContent.includes("celsius 24")`)
	s.publish("temp", map[string]any{"celsius": 99, "unit": "C"})
	d.until(`document.querySelector(".inspector .legend").textContent.includes("celsius 99")`)

	snippets := []string{}
	for _, name := range []string{"asCurl", "asGo", "asJavaScript"} {
		snippets = append(snippets, module[string](d, "lib/snippets.js", fmt.Sprintf(`m.%s({ group: "it's", msg: { a: "it's" }, json: '{"a":"it\'s"}', event: "e", meta: [["b", "it's"], ["$qos", "0"]] })`, name)))
	}
	for i, wants := range [][]string{
		{`curl --data-raw '{"a":"it'\''s"}'`, `-H 'Watchbox-Meta-b: it'\''s' '`},
		{"c.Publish(ctx, \"it's\", json.RawMessage(`{\"a\":\"it's\"}`), client.Event(\"e\"), client.Meta(\"b\", \"it's\"))"},
		{`wb.publish("it's", {`, `{"event":"e","meta":[["b","it's"]]}`},
	} {
		for _, want := range wants {
			if !strings.Contains(snippets[i], want) {
				t.Errorf("the snippet is %s, want %s in it", snippets[i], want)
			}
		}
	}
	d.press(kb.Escape)
	d.until(`document.querySelector(".inspector").hidden`)
}

func TestLiveShowsMessagesBesideOnesThatAreNestedTooDeeply(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	deep := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	s.publish("a", "before", json.RawMessage(deep), deep, "after")
	d := openDashboard(t, s, "live")
	d.liveRows(4)
	d.do(`document.querySelector(".list").focus()`)
	d.press(kb.ArrowUp, kb.ArrowUp) // the text
	d.until(`document.querySelector(".inspector pre").textContent.startsWith("[[[")`)
	d.press(kb.ArrowUp) // the JSON
	d.until(`document.querySelector(".inspector pre").textContent.startsWith("JSON with more than")`)
	d.press(kb.ArrowUp)
	d.until(`document.querySelector(".inspector pre").textContent === "before"`)
}

func TestLiveExportsWhatItShows(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	s.publish("a", "text", map[string]int{"n": 1}, []byte{0xff, 0})
	d := openDashboard(t, s, "live", `window.saved = []; URL.createObjectURL = (blob) => { saved.push(blob); return "#/live"; }`)
	d.liveRows(3)
	d.click("Export")
	lines := get[string](d, "saved[0].text()")
	for i, want := range []string{`"text"`, `{"n":1}`, `"/wA="`} {
		var m struct{ Msg json.RawMessage }
		if err := json.Unmarshal([]byte(strings.Split(lines, "\n")[i]), &m); err != nil || string(m.Msg) != want {
			t.Errorf("line %d of %s: %s %v, want %s", i, lines, m.Msg, err, want)
		}
	}
}

func TestTheDashboardShowsARestartAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithDataDir(t.TempDir()), watchbox.WithFsync(watchbox.FsyncNever)}})
	s.publishAll(numbered("a", 0, 50)...)
	d := openDashboard(t, s, "live?filter=a")
	d.liveRows(50)
	s.stop()
	d.until("/^(Reconnecting|Connecting)/.test(document.querySelector('#status .state').textContent)")
	s.start()
	s.publishAll(numbered("a", 50, 50)...)
	d.liveRows(100)
	d.until("document.querySelector('#status').textContent.startsWith('Connected')")
	numbers := module[[]int](d, "lib/feed.js", "m.feed.rows.map((row) => row.message?.msg.n ?? -1)")
	for i, n := range numbers {
		if n != i {
			t.Fatalf("row %d is %d in %v", i, n, numbers)
		}
	}
	d.page.console = nil // the browser writes a line for each request that fails
}

// The messages from before the page listened are not part of the rate.
func TestTheRateOfLiveIsThatOfNewMessages(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	s.publishAll(numbered("a", 0, 100)...)
	d := openDashboard(t, s, "live?filter=a", "window.ahead = 0; const begun = Date.now(); Date.now = () => begun + ahead")
	d.liveRows(100)
	d.do("window.ahead = 10_000")
	s.publish("a", "new")
	d.until("document.querySelector('.counter').textContent.endsWith(' 0.1/s')")
}

func TestAGapIsShownInLive(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{}) // in memory: a restart starts a new log
	s.publish("a", "old")
	d := openDashboard(t, s, "live?filter=a")
	d.liveRows(1)
	s.stop()
	d.until("!document.querySelector('#status').textContent.startsWith('Connected')")
	s.start()
	d.until("document.querySelector('.list-row.gap')?.textContent.includes('messages to a after')")
	s.publish("a", "new")
	d.until("[...document.querySelectorAll('.list-row .payload')].some((e) => e.textContent === 'new')")
	d.page.console = nil
}

func TestLiveShowsTheGapsOfAStartInThePast(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithMaxMessages(3)}})
	s.publishAll(numbered("a", 0, 10)...)
	d := openDashboard(t, s, "live?filter=a&start=since%3D10m")
	d.liveRows(4)
	d.until("document.querySelector('.list-row.gap')?.textContent.includes('messages to a after')")
}

// The viewer has no rights for administration, so that the page follows nothing but the feed.
func TestLiveBeginsAgainAfterTheHubWasDown(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithAnonymousSubscribe("#"), watchbox.WithDataDir(t.TempDir())}})
	s.publish("a", 1)
	s.publish("b", 1, 2)
	d := openDashboard(t, s, "live?filter=a")
	d.liveRows(1)
	s.stop()
	d.show("live?filter=b")
	d.until("document.querySelector('main .notice.error')?.textContent.includes('cannot be reached')")
	s.start()
	d.liveRows(2)
	s.publish("b", 3)
	d.liveRows(3)
	d.page.console = nil // the browser writes a line for each request that fails
}

// A proxy may cut the page's stream often.
func TestAReconnectLeavesThePageAsItIs(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithDataDir(t.TempDir())}})
	s.publish("a/b", 1)
	d := openDashboard(t, s, "live?filter=%23")
	restart := func() {
		d.do("const { viewer } = await import('../assets/lib/viewer.js'); window.loads = 0; viewer.addEventListener('change', () => loads++)")
		s.stop()
		d.until("!document.querySelector('#status').textContent.startsWith('Connected')")
		s.start()
		d.until("loads > 0 && document.querySelector('#status').textContent.startsWith('Connected')")
	}
	d.liveRows(1)
	d.do("document.querySelector('.list-row').click()")
	d.until("document.querySelector('.inspector h2')?.textContent === 'a/b'")
	restart()
	if !get[bool](d, "document.querySelector('.counter').textContent.includes('paused') && !document.querySelector('.inspector').hidden") {
		t.Error("Live follows again, or the inspector is closed")
	}

	d.show("groups")
	d.until("document.querySelector('.list-row .expand svg')")
	d.do("document.querySelector('.list-row .expand').click()")
	d.liveRows(2)
	restart()
	s.publish("a/c", 1)
	d.liveRows(3)
	d.page.console = nil // the browser writes a line for each request that fails
}

// 10,000 rows are kept while messages come quickly. The test counts the elements of the page and the rows that are
// filled for each frame, because times differ between machines.
func TestLiveStaysFluid(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	s.publishAll(numbered("a", 0, 10_000)...)
	d := openDashboard(t, s, "live?filter=a&start=last%3D10000")
	d.size(1280, 800)
	d.liveRows(10_000)
	d.do(`
		window.changed = new Set(); window.most = 0; window.frames = 0; window.long = [];
		new PerformanceObserver((list) => long.push(...list.getEntries().map((e) => Math.round(e.duration)))).observe({ type: "longtask" });
		new MutationObserver((list) => { for (const m of list) changed.add(m.target.closest?.(".list-row") ?? m.target.parentElement?.closest(".list-row")); })
			.observe(document.querySelector(".list-size"), { childList: true, characterData: true, subtree: true });
		const frame = () => { most = Math.max(most, changed.size); changed.clear(); frames++; requestAnimationFrame(frame); };
		requestAnimationFrame(frame);`)
	for i := range 100 { // 50 messages every 100 ms
		s.publishAll(numbered("a", 10_000+50*i, 50)...)
		d.until("frames >= %d", 3*(i+1))
	}
	d.until(`[...document.querySelectorAll(".list-row:not([hidden]) .payload")].some((e) => e.textContent === '{"n":14999}')`)
	if n := module[int](d, "lib/feed.js", "m.feed.received"); n != 15_000 {
		t.Errorf("%d messages were received, want 15,000", n)
	}
	d.liveRows(10_000)
	elements, rows, most := get[int](d, "document.querySelectorAll('*').length"), get[int](d, "document.querySelectorAll('.list-row').length"), get[int](d, "most")
	if elements > 1000 || rows > 60 || most > 60 {
		t.Errorf("the page has %d elements and %d rows; a frame changed %d rows", elements, rows, most)
	}
	t.Logf("%d elements, %d rows, %d rows a frame, long tasks (ms): %v", elements, rows, most, get[[]int](d, "long"))
}
