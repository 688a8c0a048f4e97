package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take for one step.
const patience = 2 * time.Minute

// page is a tab of the browser.
type page struct {
	t   *testing.T
	ctx context.Context

	window cdp.BrowserContextID
	cancel func() // closes it

	mu      sync.Mutex // guards what follows
	console []string
	onLine  func(string)
}

// open opens a tab at an address, in a new window without history or storage.
func open(t *testing.T, address string) *page {
	t.Helper()
	var window cdp.BrowserContextID
	var tab target.ID
	err := chromedp.Run(browser, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		ctx = cdp.WithExecutor(ctx, chromedp.FromContext(ctx).Browser)
		if window, err = target.CreateBrowserContext().Do(ctx); err != nil {
			return err
		}
		tab, err = target.CreateTarget("about:blank").WithBrowserContextID(window).WithNewWindow(true).Do(ctx)
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := cdp.WithExecutor(browser, chromedp.FromContext(browser).Browser)
		if err := target.DisposeBrowserContext(window).Do(ctx); err != nil {
			t.Error(err)
		}
	})
	p := attach(t, window, chromedp.WithTargetID(tab))
	p.run(chromedp.Navigate(address))
	return p
}

// openTab opens another tab in the same window.
func (p *page) openTab(address string) *page {
	p.t.Helper()
	q := attach(p.t, p.window, chromedp.WithExistingBrowserContext(p.window))
	q.run(chromedp.Navigate(address))
	return q
}

func attach(t *testing.T, window cdp.BrowserContextID, opt chromedp.ContextOption) *page {
	ctx, cancel := chromedp.NewContext(browser, opt)
	t.Cleanup(cancel)
	p := &page{t: t, ctx: ctx, window: window, cancel: cancel}
	chromedp.ListenTarget(ctx, p.onEvent)
	if err := chromedp.Run(ctx); err != nil { // without a timeout, which would end the tab
		t.Fatal(err)
	}
	return p
}

// openTestPage opens the test page, for the hub mounted at a path.
func openTestPage(t *testing.T, base, mount string) *page {
	t.Helper()
	return open(t, base+testPage+mount).ready()
}

// openTestTabs opens the test page in several tabs of a window, for a hub that serves it at the root.
func openTestTabs(t *testing.T, base string, n int) []*page {
	t.Helper()
	tabs := []*page{openTestPage(t, base, "/")}
	for range n - 1 {
		tabs = append(tabs, tabs[0].openTab(base+testPage+"/").ready())
	}
	return tabs
}

// testPage is the URL of the test page without the hub's mount at its end.
const testPage = "/test/page.html?hub="

// ready waits until the script of the test page has run.
func (p *page) ready() *page {
	p.t.Helper()
	p.until("window.t?.ready")
	return p
}

// reopen leaves the page, calls between, and opens the page again.
func (p *page) reopen(address string, between func()) {
	p.t.Helper()
	p.run(chromedp.Navigate("about:blank"))
	between()
	p.run(chromedp.Navigate(address))
	p.ready()
}

// onEvent collects the lines of the console and uncaught errors.
func (p *page) onEvent(event any) {
	var line string
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		var values []string
		for _, a := range e.Args {
			var s string
			if json.Unmarshal(a.Value, &s) != nil {
				s = string(a.Value)
			}
			values = append(values, s)
		}
		line = strings.Join(values, " ")
	case *runtime.EventExceptionThrown:
		line = e.ExceptionDetails.Error()
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.console = append(p.console, line)
	if p.onLine != nil {
		p.onLine(line)
	}
}

// onConsole sets a function that is called with each line of the console. It must not block.
func (p *page) onConsole(f func(string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onLine = f
}

// consoleLines returns what the page has written to the console.
func (p *page) consoleLines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.console...)
}

func (p *page) run(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatalf("%v\n%s", err, p.state())
	}
}

// do runs a script, which may use await.
func (p *page) do(format string, args ...any) {
	p.t.Helper()
	var done any
	p.eval(&done, format, args...)
}

// eval formats and runs a script in the page and stores its result in to.
func (p *page) eval(to any, format string, args ...any) {
	p.t.Helper()
	script := "(async () => { " + fmt.Sprintf(format, args...) + " })().then((v) => v === undefined ? null : v)"
	p.run(chromedp.Evaluate(script, to, func(e *runtime.EvaluateParams) *runtime.EvaluateParams {
		return e.WithAwaitPromise(true).WithUserGesture(true)
	}))
}

// until waits until an expression is true. The page itself checks it.
func (p *page) until(format string, args ...any) {
	p.t.Helper()
	expression := fmt.Sprintf(format, args...)
	p.do(`const end = Date.now() + %d;
		while (!(%s)) {
			if (Date.now() > end) throw new Error("timed out: " + %q);
			await new Promise((r) => setTimeout(r, 50));
		}`, (patience - time.Second).Milliseconds(), expression, expression)
}

// state returns the state of the page, for the log of a failed test.
func (p *page) state() string {
	var s string
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	err := chromedp.Run(ctx, chromedp.Evaluate(
		`JSON.stringify({received: window.t?.received.slice(-30), events: window.t?.events.slice(-30)})`, &s))
	return fmt.Sprint(s, err, "\nconsole: ", strings.Join(p.consoleLines(), "\n"))
}

// receivedMessages waits for messages and compares their payloads with want.
func (p *page) receivedMessages(want ...any) {
	p.t.Helper()
	p.until("t.received.length >= %d", len(want))
	var got []any
	p.eval(&got, "return t.received")
	if text(got) != text(append([]any{}, want...)) {
		p.t.Errorf("received %s\nwant %s\n%s", text(got), text(want), p.state())
	}
}

// receivedEvents waits for events of one type. Each must contain the text in want at its place.
func (p *page) receivedEvents(event string, want ...string) {
	p.t.Helper()
	p.until("t.count(%q) >= %d", event, len(want))
	var got []json.RawMessage
	p.eval(&got, "return t.events.filter(([type]) => type === %q)", event)
	if len(got) != len(want) {
		p.t.Errorf("%d events %s, want %d\n%s", len(got), event, len(want), p.state())
		return
	}
	for i, w := range want {
		if !strings.Contains(string(got[i]), w) {
			p.t.Errorf("%s %d is %s, want %s", event, i, got[i], w)
		}
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// receive waits for a value.
func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("timed out")
	}
	return v
}
