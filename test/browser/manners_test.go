package browser_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/watchbox-go/watchbox"
)

// pages are the pages of the dashboard, each with the script that shows all its parts.
var pages = map[string]string{
	"live":      `await row(1)`,
	"groups":    `await row(0)`,
	"health":    `null`,
	"listeners": `await row(0)`,
	"publish":   `click("Save")`,
	"try":       `click("Open")`,
	"access":    `document.querySelector("main form input.mono").value = "home/#"; click("Explain"); while (!document.querySelector("form .strip")) await new Promise((r) => setTimeout(r, 20))`,
}

// showAll has the functions of pages.
const showAll = `
	const click = (text) => [...document.querySelectorAll("main button")].find((b) => b.textContent.trim() === text).click();
	const row = async (n) => {
		let rows = [];
		while ((rows = [...document.querySelectorAll(".list-row:not([hidden])")]).length <= n) await new Promise((r) => setTimeout(r, 20));
		rows[n].click();
		while (!document.querySelector(".inspector:not([hidden]) > :nth-child(2)")) await new Promise((r) => setTimeout(r, 20));
	};
	%s;`

// withContent starts a hub with messages of all kinds.
func withContent(t *testing.T, opts ...watchbox.Option) *server {
	s := serve(t, &server{opts: opts})
	s.publishAll(numbered("home/kitchen/temp", 0, 40)...)
	s.publishAll(
		watchbox.Draft{Group: "home/a-long-name-of-a-group/that-does-not-fit/into-a-narrow-page-at-all/without-being-cut", Msg: strings.Repeat("long ", 400)},
		watchbox.Draft{Group: "home/door", Msg: map[string]any{"open": true, "by": nil, "list": []any{1, "x", map[string]any{"deep": strings.Repeat("w", 300)}}}, Event: "an-event-name-that-is-rather-long", Retain: true},
		watchbox.Draft{Group: "home/camera", Msg: []byte{0xff, 0xd8, 0xff, 0xe0}},
	)
	return s
}

// each runs f with each page, with all its parts shown, for an administrator of a hub with authentication.
func each(t *testing.T, f func(d *dashboard, name string)) {
	t.Helper()
	path, tokens := newTokens(t, map[string][]string{"root": {"--subscribe", "#", "--publish", "#", "--admin"}})
	s := withContent(t, watchbox.WithTokenFile(path))
	d := &dashboard{open(t, s.url()+"/"), s.url() + "/"}
	d.login(tokens["root"])
	d.liveRows(43)
	for name, script := range pages {
		d.show(name)
		d.do(showAll, script)
		f(d, name)
	}
}

func TestNoPageScrollsSidewaysOnAPhone(t *testing.T) {
	t.Parallel()
	each(t, func(d *dashboard, name string) {
		d.size(360, 720)
		var wide []string
		d.eval(&wide, `
			await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
			const scrolls = (e) => e.scrollWidth > e.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
			const out = [...document.querySelectorAll("body, main, .list, .body, .inspector")].filter((e) => e.checkVisibility() && scrolls(e)).map((e) => e.className || e.tagName);
			const beyond = [...document.querySelectorAll("main *, header *")].filter((e) => e.checkVisibility() && !e.closest(".off-screen, .cut, .code, svg, .table, select") && e.getBoundingClientRect().right > 361 && !e.closest(".list-row"));
			return [...out, ...beyond.map((e) => e.tagName + "." + e.className + " " + e.textContent.slice(0, 40))]`)
		if len(wide) > 0 || get[bool](d, "document.documentElement.scrollWidth > 360") {
			t.Errorf("%s is wider than the page: %q", name, wide)
		}
		d.run(emulation.ClearDeviceMetricsOverride())
	})
}

func TestAxeFindsNothingAboveMinor(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile("../web/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatalf("%v: make web-tools installs it", err)
	}
	each(t, func(d *dashboard, name string) {
		d.run(chromedp.Evaluate(string(axe), nil))
		for _, theme := range []string{"light", "dark"} {
			for _, width := range []int64{1280, 360} {
				d.size(width, 800)
				var found []string
				d.eval(&found, `
					document.documentElement.dataset.theme = %q;
					await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
					const { violations } = await axe.run(document, { resultTypes: ["violations"] });
					return violations.filter((v) => v.impact !== "minor").map((v) => v.impact + " " + v.id + ": " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 150) + " " + n.failureSummary.slice(0, 300)).join(" | "))`, theme)
				for _, f := range found {
					t.Errorf("%s, %s, %d px: %s", name, theme, width, f)
				}
			}
		}
		d.run(emulation.ClearDeviceMetricsOverride())
	})
}

// TestHeadersStandAboveTheirColumns compares the edges of a list's header with those of a row, while the list scrolls.
func TestHeadersStandAboveTheirColumns(t *testing.T) {
	t.Parallel()
	s := withContent(t)
	for i := range 100 {
		s.publish(fmt.Sprintf("more/%d", i), 1)
		s.listener("/v1/groups/a", "x")
	}
	for _, name := range []string{"live", "groups?list=flat", "listeners"} {
		d := openDashboard(t, s, name)
		d.size(1280, 600)
		d.until("document.querySelectorAll('.list-row:not([hidden])').length > 10")
		var off []string
		d.eval(&off, `
			await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
			const cells = [...document.querySelector(".list-row:not([hidden])").children].map((e) => e.getBoundingClientRect());
			return [...document.querySelector(".columns").children].map((e, i) => [e.getBoundingClientRect(), cells[i], e.textContent])
				.filter(([a, b]) => Math.abs(a.left - b.left) > 0.5 || Math.abs(a.right - b.right) > 0.5).map(([a, b, text]) => text + " " + a.left + " " + b.left)`)
		if len(off) > 0 {
			t.Errorf("%s: columns are beside their headers: %q", name, off)
		}
	}
}

// TestNamesThatReorderTextAreShownWithTheirCharacters: U+202E makes the text behind it run from right to left.
func TestNamesThatReorderTextAreShownWithTheirCharacters(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	s.publishAll(watchbox.Draft{Group: "safe\u202etxt.exe", Msg: "x", Event: "e\u2066v"})
	const shown = `!/[\u202e\u2066]/.test(document.body.innerText + [...document.querySelectorAll("[title], [aria-label]")].map((e) => e.title + e.getAttribute("aria-label")).join()) && document.body.textContent.includes("safe\\u202etxt.exe")`
	d := openDashboard(t, s, "live")
	d.liveRows(1)
	d.do("document.querySelector('.list-row').click()")
	d.until(`document.querySelector(".inspector h2")?.textContent === "safe\\u202etxt.exe" && ` + shown)
	d.show("groups?group=safe%E2%80%AEtxt.exe")
	d.until(`document.querySelector(".list-row:not([hidden])") && document.querySelector(".inspector dl") && ` + shown)
	d.show("live?filter=safe%E2%80%AEtxt.exe")
	d.liveRows(1)
	d.until(shown)
}

func TestNumbersReadWell(t *testing.T) {
	t.Parallel()
	d := openDashboard(t, serve(t, &server{}), "live")
	for expression, want := range map[string]string{
		"m.rate(0)": "0/s", "m.rate(0.001)": "< 0.01/s", "m.rate(0.02)": "0.02/s", "m.rate(0.5)": "0.5/s", "m.rate(20)": "20/s",
		`m.plural(1, "message")`: "1 message", `m.plural(0, "message")`: "0 messages", "m.bytes(0)": "0 B",
	} {
		if got := module[string](d, "lib/format.js", expression); got != want {
			t.Errorf("%s is %q, want %q", expression, got, want)
		}
	}
}

// hostile has texts that run as code where data is parsed as HTML, as a URL, or as a template.
var hostile = []string{
	`<img src=x onerror="window.pwned=1">`, `<script>window.pwned=1</script>`, `"><svg onload=window.pwned=1>`,
	`'onmouseover='window.pwned=1`, `javascript:window.pwned=1`, `{{constructor.constructor('window.pwned=1')()}}`,
	`${window.pwned=1}`, `</title><script>window.pwned=1</script>`, `<style>*{display:none}</style>`, `__proto__`,
	`<iframe srcdoc="<script>parent.pwned=1</script>">`, "\u202e\u2066<b>\u0000",
}

func TestHostileContentIsShownAsText(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithDataDir(t.TempDir()), watchbox.WithFsync(watchbox.FsyncNever)}})
	for _, text := range hostile {
		group := "x" + strings.NewReplacer("/", "∕", "+", "＋", "#", "＃", "\x00", "").Replace(text)
		s.publishAll(
			watchbox.Draft{Group: group, Msg: text}, watchbox.Draft{Group: group, Msg: map[string]any{text: []any{text, map[string]any{text: 1}}}},
			watchbox.Draft{Group: group, Msg: []byte("\xff" + text), Event: strings.NewReplacer("\x00", "", "\n", "").Replace(text), Retain: true},
		)
		r, err := http.NewRequest("GET", s.url()+"/v1/groups/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", strings.NewReplacer("\x00", "").Replace(text))
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
	}
	d := openDashboard(t, s, "live?start=all")
	d.liveRows(3 * len(hostile))
	check := func(what string) {
		t.Helper()
		var bad []string
		d.eval(&bad, `return [window.pwned && "a script has run", ...[...document.querySelectorAll("main :is(img, script, style, iframe, b, object, embed, link), main svg:not(.icon)")].map((e) => e.outerHTML),
			...[...document.querySelectorAll("main a")].map((e) => e.protocol).filter((p) => !/^(https?|blob):$/.test(p))].filter(Boolean)`)
		if len(bad) > 0 {
			t.Errorf("%s: the page has %q", what, bad)
		}
	}
	for i := range 3 * len(hostile) {
		d.do(`const list = document.querySelector(".list"); list.scrollTop = %d * parseFloat(getComputedStyle(list).getPropertyValue("--row"));
			await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
			[...document.querySelectorAll(".list-row:not([hidden])")].find((r) => r.dataset.index === "%d").click();`, i, i)
		for _, view := range []string{"Pretty", "Raw", "Hex", "Changes"} {
			d.click(view)
			check(fmt.Sprint("the inspector's ", view, " of ", i))
		}
	}
	for name, script := range pages {
		if name == "access" {
			continue // without authentication there is none
		}
		d.show(name)
		d.do(showAll, script)
		check(name)
		for _, text := range hostile {
			d.do(`for (const e of document.querySelectorAll("main :is(input[type=search], input[type=text], textarea)")) { e.value = %q; e.dispatchEvent(new Event("input", { bubbles: true })) }`, text)
			d.do(`location.hash = "#/%s?" + new URLSearchParams({ filter: %q, q: %q, group: %q, uid: %q, start: %q, kind: %q, id: %q, sort: %q })`, name, text, text, text, text, text, text, text, text)
			check(name + " " + text)
		}
	}
	if shown := module[int](d, "lib/row.js", `new m.MessageRow({ id: "a-1", group: "a", time: "2026-01-01T00:00:00Z", msg: "<b>" }).text.length`); shown != 3 {
		t.Errorf("the text has %d characters", shown)
	}
	d.page.console = nil // the browser writes a line for each status 400
}

func TestTheDashboardWorksByKeyboardAlone(t *testing.T) {
	t.Parallel()
	s := withContent(t)
	d := openDashboard(t, s, "live")
	d.liveRows(43)
	tabTo := func(selector string) {
		t.Helper()
		for range 60 {
			d.press(kb.Tab)
			if get[bool](d, "document.activeElement.matches(%q)", selector) {
				return
			}
		}
		t.Fatalf("Tab does not reach %s", selector)
	}
	d.press(kb.Tab, kb.Enter) // skip to the content
	if !get[bool](d, "document.activeElement.id === 'view'") {
		t.Error("the first key does not skip to the content")
	}
	tabTo(".list")
	d.press(kb.End, kb.ArrowUp, kb.Enter)
	d.until("document.activeElement.getAttribute('role') === 'tab'")
	d.press(kb.ArrowRight)
	d.until("document.activeElement.textContent === 'Raw'")
	d.press(kb.Escape)
	d.until("document.querySelector('.inspector').hidden")
	d.press("g", "p")
	d.until("document.querySelector('main.page-publish form')")
	d.do("document.querySelector('#skip').focus()")
	tabTo("textarea")
	d.run(chromedp.KeyEvent("a", chromedp.KeyModifiers(2))) // Ctrl+A
	d.press("b", "y", " ", "k", "e", "y", "s")
	tabTo("form button.main")
	d.press(kb.Enter)
	d.until("document.querySelector('.results').textContent.includes('stored')")
	d.do("document.querySelector('#skip').focus()")
	d.press("g", "g")
	d.until("document.querySelector('.page-groups .list-row:not([hidden])')")
	tabTo(".list")
	d.press(kb.ArrowDown, kb.ArrowDown, kb.ArrowRight)
	d.until("[...document.querySelectorAll('.list-row:not([hidden])')].some((r) => r.title === 'home/door')")
	d.press("/")
	d.until("document.activeElement.matches('[data-search]')")
}

func TestDarkAndLight(t *testing.T) {
	t.Parallel()
	s := withContent(t)
	d := openDashboard(t, s, "live")
	dark := func() bool {
		return get[bool](d, `getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).every((c) => c < 64)`)
	}
	for scheme, want := range map[string]bool{"dark": true, "light": false} {
		d.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
		if dark() != want {
			t.Errorf("the system's colours are %s: dark is %t", scheme, !want)
		}
	}
	d.click("Theme: Colours of the system")
	d.click("Theme: Light")
	if !dark() {
		t.Error("the theme Dark is not dark")
	}
	d.run(chromedp.Reload())
	d.until("document.querySelector('.list')")
	if !dark() {
		t.Error("the theme is forgotten")
	}
}

// Timers of a few seconds run a hundred times as fast here, so that polling shows soon.
const fastTimers = `const wait = setTimeout; window.setTimeout = (f, ms, ...args) => wait(f, ms > 1000 ? ms / 100 : ms, ...args);`

func TestNothingPollsWhileHidden(t *testing.T) {
	t.Parallel()
	var polls atomic.Int64
	s := serve(t, &server{wrap: func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" && r.URL.Path != "/healthz" && !strings.HasPrefix(r.URL.Path, "/v1/events") {
				polls.Add(1)
			}
			h.ServeHTTP(w, r)
		})
	}})
	s.publish("a", 1)
	d := openDashboard(t, s, "groups", fastTimers)
	n := polls.Load()
	d.until("performance.getEntriesByType('resource').filter((e) => e.name.includes('/v1/groups?')).length > 5")
	if polls.Load() == n {
		t.Error("the page does not poll while it is visible")
	}
	d.do(`Object.defineProperty(document, "hidden", { value: true, configurable: true }); document.dispatchEvent(new Event("visibilitychange"))`)
	ask := func() { // a request is done after all that were sent before
		t.Helper()
		d.do(`for (let i = 0; i < 50; i++) { await fetch("healthz"); await new Promise((r) => requestAnimationFrame(r)); }`)
	}
	ask()
	n = polls.Load()
	ask()
	if more := polls.Load() - n; more > 0 {
		t.Errorf("the hidden page has sent %d requests", more)
	}
	d.do(`Object.defineProperty(document, "hidden", { value: false, configurable: true }); document.dispatchEvent(new Event("visibilitychange"))`)
	for polls.Load() == n {
		d.do(`await fetch("healthz")`)
		if context.Cause(d.ctx) != nil {
			t.Fatal("the page does not poll again")
		}
	}
}
