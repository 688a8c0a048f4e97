package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/watchbox-go/watchbox/internal/freeport"
	"github.com/watchbox-go/watchbox/internal/leak"
)

// patience is how long the whole test may take.
const patience = 5 * time.Minute

func TestMain(m *testing.M) { leak.Main(m) }

// TestTwoPeopleChat opens the room in two windows of Debian's Chromium, which make test installs.
func TestTwoPeopleChat(t *testing.T) {
	addr := start(t)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	profile, err := os.MkdirTemp("", "watchbox-chat-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(profile) }() // may fail, because the browser may still write to it
	ctx, quit := chromedp.NewExecAllocator(ctx, chromedp.ExecPath("/usr/bin/chromium"), chromedp.UserDataDir(profile),
		chromedp.WSURLReadTimeout(patience), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU)
	defer quit()
	ann, leave := chromedp.NewContext(ctx)
	defer leave()
	do(t, ann, chromedp.Navigate("http://"+addr), sees("host: somebody came"))
	bob, leave := another(t, ann)
	defer leave()
	do(t, bob, chromedp.Navigate("http://"+addr), sees("host: somebody came"))

	do(t, ann, say("hello"), sees("you: hello"))
	do(t, bob, sees(": hello"), say("who is there?"), sees("good question (only you see this)"))
	do(t, ann, sees(": who is there?"), say("damn"), until(
		`document.getElementById("state").textContent.includes("mind your words")`))
	var log string
	do(t, ann, chromedp.Text("#log", &log))
	if want := "good question"; len(log) == 0 || strings.Contains(log, want) || strings.Contains(log, "damn") {
		t.Errorf("Ann sees %q", log)
	}
	leave()
	do(t, ann, sees("host: has left"))
	do(t, ann, chromedp.Evaluate(`document.getElementById("log").remove()`, nil), chromedp.Reload(), sees("you: hello")) // as the same session
}

// another opens a window that shares no storage with the others.
func another(t *testing.T, window context.Context) (context.Context, context.CancelFunc) {
	t.Helper()
	var tab target.ID
	do(t, window, chromedp.ActionFunc(func(ctx context.Context) error {
		ctx = cdp.WithExecutor(ctx, chromedp.FromContext(ctx).Browser)
		own, err := target.CreateBrowserContext().Do(ctx)
		if err == nil {
			tab, err = target.CreateTarget("about:blank").WithBrowserContextID(own).WithNewWindow(true).Do(ctx)
		}
		return err
	}))
	return chromedp.NewContext(window, chromedp.WithTargetID(tab))
}

// start runs the chat and returns its address.
func start(t *testing.T) string {
	t.Helper()
	addr := freeport.Addr(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, addr) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	for {
		resp, err := http.Get("http://" + addr)
		if err == nil {
			_ = resp.Body.Close()
			return addr
		}
		if len(ended) > 0 {
			t.Fatal("the chat has ended")
		}
	}
}

func do(t *testing.T, window context.Context, actions ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(window, actions...); err != nil {
		t.Fatal(err)
	}
}

func sees(text string) chromedp.Action {
	return until(fmt.Sprintf(`document.getElementById("log")?.innerText.includes(%q)`, text))
}

// until waits until an expression is true. The page itself checks it. chromedp.Poll fails if it starts while
// the page reloads; until starts again.
func until(expression string) chromedp.Action {
	script := fmt.Sprintf(`(async () => { while (!(%s)) await new Promise((r) => setTimeout(r, 20)); return true })()`, expression)
	return chromedp.ActionFunc(func(ctx context.Context) error {
		for {
			var ok bool
			err := chromedp.Evaluate(script, &ok, chromedp.EvalAsValue, awaits).Do(ctx)
			if err == nil || ctx.Err() != nil {
				return err
			}
		}
	})
}

func awaits(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }

func say(text string) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf(`document.querySelector("input").value = %q; document.querySelector("form").requestSubmit()`, text), nil)
}

// TestThePageNamesItsIcon: without an icon, a browser requests /favicon.ico, which does not exist.
func TestThePageNamesItsIcon(t *testing.T) {
	if !strings.Contains(string(page), `<link rel="icon" href="data:,">`) {
		t.Error("the page names no icon")
	}
}
