package browser_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/watchbox-go/watchbox"
)

// failing is a proxy that cannot reach the hub for some requests.
type failing struct {
	to     http.Handler
	prefix atomic.Pointer[string] // of their paths; nil for none
}

func (f *failing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := f.prefix.Load(); p != nil && strings.HasPrefix(r.URL.Path, *p) {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	f.to.ServeHTTP(w, r)
}

// TestPagesRecoverByThemselves: no request that a page makes once stays at its error.
func TestPagesRecoverByThemselves(t *testing.T) {
	t.Parallel()
	path, tokens := newTokens(t, map[string][]string{"root": {"--subscribe", "#", "--publish", "#", "--admin"}})
	network := &failing{}
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithTokenFile(path)}, wrap: func(hub http.Handler) http.Handler { network.to = hub; return network }})
	s.publish("home/door", "open")
	d := &dashboard{open(t, s.url()+"/"), s.url() + "/"}
	d.login(tokens["root"])
	d.liveRows(1)
	for _, c := range []struct{ page, fails, failed, recovered string }{
		{"live", "/v1/explain", "The hub does not answer", "open"},
		{"live", "/v1/history", "These messages cannot be shown", "open"},
		{"groups", "/v1/explain", "The hub does not answer", "home"},
		{"groups", "/v1/groups", "The groups cannot be shown", "home"},
		{"groups?list=flat", "/v1/history/home/door", "home/door", "open"},
		{"groups?group=home/door", "/v1/policies/", "Policythe answer is 502", "Save the policy"},
		{"listeners", "/v1/explain", "The hub does not answer", "this page"},
		{"listeners", "/v1/sessions", "The listeners cannot be shown", "this page"},
		{"health", "/v1/explain", "The hub does not answer", "Uptime"},
		{"health", "/v1/history", "The figures cannot be shown", "Uptime"},
		{"publish", "/v1/explain", "The hub does not answer", "Idempotency key"},
		{"publish", "/assets/pages/publish.js", "The page cannot be loaded", "Idempotency key"},
		{"access", "/v1/explain", "The hub does not answer", "Revoke"},
		{"access", "/v1/tokens", "The tokens cannot be shown", "Create"},
		{"try", "/v1/explain", "The hub does not answer", "Last-Event-ID"},
	} {
		t.Run(c.page+" without "+c.fails, func(t *testing.T) {
			network.prefix.Store(&c.fails)
			d.run(chromedp.Navigate("about:blank"), chromedp.Navigate(d.base+"#/"+c.page))
			d.until("document.querySelector('main')?.textContent.includes(%q)", c.failed)
			if has := get[bool](d, "document.querySelector('main').textContent.includes(%q)", c.recovered); has {
				t.Errorf("%q is shown already", c.recovered)
			}
			network.prefix.Store(nil)
			d.until("document.querySelector('main').textContent.includes(%q) && ![...document.querySelectorAll('main .notice.error')].some((e) => e.checkVisibility())", c.recovered)
		})
	}
	d.page.console = nil // the browser writes a line for each request that fails
}

// TestAProxyThatFailsForAMomentLeavesThePageAsItIs: the page asks for its grant after each reconnect.
func TestAProxyThatFailsForAMomentLeavesThePageAsItIs(t *testing.T) {
	t.Parallel()
	proxy := &failing{}
	s := serve(t, &server{wrap: func(hub http.Handler) http.Handler { proxy.to = hub; return proxy }})
	s.publish("a/b", 1)
	network := newProxy(t, s.addr)
	d := openDashboard(t, &server{t: t, addr: network.addr}, "live?filter=%23")
	d.liveRows(1)
	d.do("document.querySelector('.list-row').click()")
	d.until("document.querySelector('.inspector h2')?.textContent === 'a/b'")
	d.do(`
		window.failed = 0;
		const real = fetch;
		window.fetch = async (url, options) => {
			const answer = await real(url, options);
			if (String(url).includes("v1/explain") && answer.status === 502) failed++;
			return answer;
		};`)
	fails := "/v1/explain"
	proxy.prefix.Store(&fails)
	network.cut()
	d.until("failed > 0 && document.querySelector('#status').textContent.startsWith('Connected')")
	if !get[bool](d, "document.querySelector('.inspector h2')?.textContent === 'a/b'") {
		t.Error("the page was taken away")
	}
	proxy.prefix.Store(nil)
	d.do("const { viewer } = await import('../assets/lib/viewer.js'); window.loads = 0; viewer.addEventListener('change', () => loads++)")
	d.until("loads > 0")
	d.page.console = nil
}
