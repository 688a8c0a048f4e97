package browser_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/watchbox-go/watchbox"
)

// newTokens returns a token file and a token for each name and its flags.
func newTokens(t *testing.T, flags map[string][]string) (path string, tokens map[string]string) {
	t.Helper()
	path, tokens = filepath.Join(t.TempDir(), "tokens.json"), map[string]string{}
	for name, f := range flags {
		c := exec.Command("go", append([]string{"run", "./cmd/watchbox", "token", "create", name, "--token-file", path}, f...)...)
		c.Dir, c.Stderr = filepath.Join("..", ".."), os.Stderr // the module of the program
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		tokens[name] = strings.TrimSpace(string(out))
	}
	return path, tokens
}

// login enters a token in the form.
func (d *dashboard) login(token string) {
	d.t.Helper()
	d.until("document.querySelector('.login input')")
	d.fill(".login input", token)
	d.do("document.querySelector('.login button').click()")
}

func (d *dashboard) links() string {
	return get[string](d, "[...document.querySelectorAll('nav a')].map((a) => a.textContent).join()")
}

func TestThePageShowsWhatTheTokenAllows(t *testing.T) {
	t.Parallel()
	path, tokens := newTokens(t, map[string][]string{
		"root": {"--subscribe", "#", "--publish", "#", "--admin"}, "reader": {"--subscribe", "home/#"}, "nobody": {"--publish", "in/#"},
	})
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithTokenFile(path)}})
	s.publishAll(watchbox.Draft{Group: "home/door", Msg: "open", Retain: true}, watchbox.Draft{Group: "secret", Msg: "x"})
	d := &dashboard{open(t, s.url()+"/"), s.url() + "/"}
	d.login("wrong")
	d.until("document.querySelector('.login .error-text')?.textContent.includes('token-invalid')")

	d.login(tokens["reader"])
	d.liveRows(1)
	if links := d.links(); links != "Live,Groups,Health,Access,Try it" {
		t.Errorf("a reader sees the pages %s", links)
	}
	if c := get[string](d, "document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })"); strings.Contains(c, tokens["reader"]) {
		t.Errorf("scripts can read the token: %s", c)
	}
	d.show("groups?group=home/door")
	d.until("document.querySelector('.inspector')?.textContent.includes('Retained messageopen')")
	if b := get[string](d, "[...document.querySelectorAll('main button')].map((b) => b.textContent.trim()).filter((t) => /Clear|Purge|Save|Kick/.test(t)).join()"); b != "" {
		t.Errorf("a reader sees the buttons %s", b)
	}
	d.show("live?filter=secret")
	d.until("document.querySelector('.over')?.textContent.includes('forbidden')")
	d.show("live?filter=home/%23") // the refusal has not ended the stream
	d.liveRows(1)
	s.publish("home/door", "closed")
	d.liveRows(2)
	d.show("health")
	d.until("document.querySelector('.tile')?.textContent.includes('Ready')")

	d.show("access")
	explain := func(action, target, want string) {
		t.Helper()
		d.fill("form select:nth-of-type(1)", "")
		d.do(`const [, what] = document.querySelectorAll("form select"); what.value = %q; what.dispatchEvent(new Event("change"))`, action)
		d.do(`const e = [...document.querySelectorAll("form input[type=text]")].find((e) => e.checkVisibility()); e.value = %q`, target)
		d.click("Explain")
		d.until("document.querySelector('form .strip')?.textContent.startsWith(%q)", want)
	}
	explain("subscribe", "home/+", "Allowed")
	explain("publish", "home/door", "Denied")

	d.click("Log out") // loads the page again
	d.run(chromedp.WaitVisible(".login input", chromedp.ByQuery))
	d.login(tokens["root"])
	d.until("document.querySelector('nav')?.textContent.includes('Listeners')")
	if links := d.links(); links != "Live,Groups,Listeners,Health,Publish,Access,Try it" {
		t.Errorf("root sees the pages %s", links)
	}
	d.page.console = nil // the browser writes a line for each refusal
}

// TestALoginInAnotherTabCountsHere: tabs share their cookies. No click is needed here.
func TestALoginInAnotherTabCountsHere(t *testing.T) {
	t.Parallel()
	path, tokens := newTokens(t, map[string][]string{"root": {"--subscribe", "#", "--publish", "#", "--admin"}, "reader": {"--subscribe", "home/#"}})
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithTokenFile(path)}})
	s.publish("home/door", "for the reader")
	network := newProxy(t, s.addr)
	d := &dashboard{open(t, network.url()+"/"), network.url() + "/"}
	d.login(tokens["reader"])
	d.liveRows(1)
	other := &dashboard{d.openTab(d.base), d.base}
	other.liveRows(1)
	ready := func(n int, links string) {
		t.Helper()
		d.run(cdppage.BringToFront()) // a tab in the background draws nothing
		d.liveRows(n)
		d.until("[...document.querySelectorAll('nav a')].map((a) => a.textContent).join() === %q", links)
		d.until("document.querySelector('#status').textContent.startsWith('Connected')")
		s.publish("home/door", n)
		d.liveRows(n + 1)
	}
	other.click("Log out")
	other.run(chromedp.WaitVisible(".login input", chromedp.ByQuery))
	d.run(cdppage.BringToFront(), chromedp.WaitVisible(".login input", chromedp.ByQuery))
	other.login(tokens["root"])
	ready(1, "Live,Groups,Listeners,Health,Publish,Access,Try it")
	other.do("await fetch('v1/login', { method: 'POST', headers: { Authorization: 'Bearer ' + %q } })", tokens["reader"]) // without a word to the tabs
	d.run(chromedp.Reload())
	ready(2, "Live,Groups,Health,Access,Try it")
	other.do("await fetch('v1/login', { method: 'POST', headers: { Authorization: 'Bearer ' + %q } })", tokens["root"])
	network.cut() // the next stream has the session of the reader, and root's token
	ready(3, "Live,Groups,Listeners,Health,Publish,Access,Try it")
	d.page.console, other.page.console = nil, nil
}

func TestPagesThatAreNotForTheViewerSaySo(t *testing.T) {
	t.Parallel()
	path, tokens := newTokens(t, map[string][]string{"reader": {"--subscribe", "#"}, "writer": {"--publish", "in/#", "--subscribe", "#"}})
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithTokenFile(path)}})
	d := &dashboard{open(t, s.url()+"/"), s.url() + "/"}
	refused := func(d *dashboard, name, why string) {
		t.Helper()
		d.show(name)
		d.until("document.querySelector('main .notice')?.textContent.includes(%q) && !document.querySelector('main :is(button, form)')", why)
	}
	d.login(tokens["reader"])
	d.until("document.querySelector('nav')?.textContent.includes('Live')")
	refused(d, "publish?group=a", "allows to publish")
	refused(d, "listeners", "admin")
	d.click("Log out")
	d.run(chromedp.WaitVisible(".login input", chromedp.ByQuery))
	d.login(tokens["writer"])
	d.until("document.querySelector('nav')?.textContent.includes('Publish')")
	d.show("publish?group=out")
	d.until("document.querySelector('form button.main').disabled && document.querySelector('form .error-text').textContent.includes('out')")
	d.fill("form [data-search]", "in/1")
	d.until("!document.querySelector('form button.main').disabled")
	d.page.console = nil
	refused(openDashboard(t, serve(t, &server{}), "live"), "access", "no authentication")
}

func TestAccessManagesTokens(t *testing.T) {
	t.Parallel()
	path, tokens := newTokens(t, map[string][]string{"root": {"--subscribe", "#", "--publish", "#", "--admin"}})
	s := serve(t, &server{mount: "/hub", opts: []watchbox.Option{watchbox.WithTokenFile(path)}})
	d := &dashboard{open(t, s.url()+"/hub/#/access"), s.url() + "/hub/"}
	d.login(tokens["root"])
	names := func(want string) {
		t.Helper()
		d.until("[...document.querySelectorAll('tbody tr')].map((r) => r.firstChild.textContent.trim().split(' ')[0]).join() === %q", want)
	}
	names("root")
	d.size(360, 740)
	d.until("(({ left, right }) => left >= 0 && right <= 360)([...document.querySelectorAll('main button')].find((b) => b.textContent === 'Revoke').getBoundingClientRect())")
	d.size(1280, 800)
	d.fill("[placeholder=phone]", "desk")
	d.fill("[placeholder='home/# public/#']", "home/# public/+")
	d.click("Create")
	d.until("/^wb_[a-z2-7]{32,}$/.test(document.querySelector('.panel code.code')?.textContent)")
	token := get[string](d, "document.querySelector('.panel code.code').textContent")
	d.click("Done")
	names("desk,root")
	if status := get[int](d, "(await fetch('v1/history/home', { headers: { Authorization: 'Bearer ' + %q }, credentials: 'omit' })).status", token); status != 200 {
		t.Errorf("the new token gets %d", status)
	}
	d.click("Revoke desk")
	d.until("document.querySelector('dialog').open")
	d.press(kb.Escape)
	d.until("!document.querySelector('dialog')")
	names("desk,root")
	d.click("Revoke desk")
	d.do("document.querySelector('dialog button.danger').click()")
	names("root")
	d.show("publish")
	d.until(`document.querySelector("main pre").textContent.includes('-H "Authorization: Bearer $WATCHBOX_TOKEN" ')`) // what the form does needs a token
	d.page.console = nil
}
