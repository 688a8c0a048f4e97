// Package browser_test tests the hub in Debian's Chromium: with EventSource, watchbox.js and the dashboard.
package browser_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/watchbox-go/watchbox/internal/leak"
)

// chromium is the path of Debian's package, which make test installs.
const chromium = "/usr/bin/chromium"

// browser is shared by all tests. Each test has its own window with its own storage.
var browser context.Context

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil { // they wait for the network most of the time
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := exec.LookPath(chromium); err != nil {
		fmt.Fprintln(os.Stderr, "there is no "+chromium+": make test installs it")
		return 1
	}
	profile, err := os.MkdirTemp("", "watchbox-browser-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(profile) }()
	code := inBrowser(profile, m.Run)
	if err := leak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// inBrowser runs f with a browser.
func inBrowser(profile string, f func() int) int {
	ctx, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(chromium), chromedp.UserDataDir(profile), chromedp.WSURLReadTimeout(5*time.Minute),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
	)
	defer stop()
	ctx, quit := chromedp.NewContext(ctx)
	defer quit()
	if err := chromedp.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chromium does not start:", err)
		return 1
	}
	browser = ctx
	return f()
}
