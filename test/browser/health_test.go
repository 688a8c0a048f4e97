package browser_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/watchbox-go/watchbox"
)

func TestHealthShowsADiskWithoutALimitAndAHubWithoutStreams(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithDataDir(t.TempDir())}})
	d := openDashboard(t, s, "health")
	d.until("[...document.querySelectorAll('.tile')].some((t) => /^Disk.*without a limit$/.test(t.textContent))")
	d.until("document.querySelector('#status .figures').textContent.includes('1 stream ·')")
	d.do("const { stats } = await import('../assets/lib/stats.js'); delete stats.latest.watchbox_streams; stats.dispatchEvent(new Event('change'))")
	d.until("document.querySelector('#status .figures').textContent.includes('0 streams ·')")
}

func TestHealthShowsFiguresThatSurviveAReload(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{mount: "/hub"})
	s.listener("/hub/v1/groups/a", "x")
	d := openDashboard(t, s, "health")
	tile := func(name string) string {
		return get[string](d, "[...document.querySelectorAll('.tile')].find((t) => t.firstChild.textContent === %q).querySelector('.tile-value').textContent", name)
	}
	s.publishAlways("a") // a rate covers five seconds only, and a busy page may draw later
	d.until("document.querySelectorAll('.charts canvas').length === 7")
	d.until("[...document.querySelectorAll('.legend')].some((l) => /in [1-9]/.test(l.textContent))")
	if state := tile("State"); state != "Ready" {
		t.Errorf("the state is %q", state)
	}
	d.until("[...document.querySelectorAll('.tile')].some((t) => t.textContent.startsWith('Listeners2'))") // this page is the other one
	d.until("document.querySelector('#status .figures').textContent.includes('2 streams')")
	points := "(await import('../hub/assets/lib/stats.js')).stats.points.length"
	d.until("%s > 3", points)
	var before int
	d.eval(&before, "return %s", points)
	d.run(chromedp.Reload())
	d.until("document.querySelectorAll('.charts canvas').length === 7")
	if after := get[int](d, "%s", points); after < before {
		t.Errorf("%d points after the reload, %d before", after, before)
	}
}

func TestHealthShowsMQTTClients(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.hub.ServeMQTT(ln) }() // ends with the hub
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a")); err != nil { // CONNECT
		t.Fatal(err)
	}
	d := openDashboard(t, s, "health")
	d.until("[...document.querySelectorAll('.tile')].some((t) => /^MQTT clients1.*0 positions kept$/.test(t.textContent))")
}

func TestHealthSaysThatItsFiguresAreOld(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	d := openDashboard(t, s, "health")
	const state = "[...document.querySelectorAll('.tile')].find((t) => t.firstChild.textContent === 'State')?.querySelector('.tile-value').textContent === %q"
	d.until(state, "Ready")
	s.stop()
	d.until(state, "Unknown")
	d.until("document.querySelector('.strip.bad')?.textContent.includes('not connected')")
	s.start()
	d.until(state, "Ready")
	d.until("!document.querySelector('.strip.bad')")
	d.page.console = nil // the browser writes a line for each request that fails
}

// The history has the figures of a hub that stopped a minute ago, and of one that runs.
func TestHealthShowsAHubThatRuns(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	d := openDashboard(t, s, "try")
	var got []any
	d.eval(&got, `
		const [{ hub }, { stats }] = await Promise.all([import("../assets/lib/hub.js"), import("../assets/lib/stats.js?hubs")]);
		const figures = (id, ago) => ({ group: "$sys/stats/" + id, time: new Date(Date.now() - ago).toISOString(), msg: {} });
		window.fetch = async () => Response.json({ messages: [figures("a", 60_000), figures("b", 1000)] });
		hub.join = async () => () => {};
		await stats.open();
		const first = [stats.shown, stats.isSilent];
		stats.wanted = "a";
		return [...first, stats.shown, stats.isSilent];`)
	if fmt.Sprint(got) != "[b false a true]" {
		t.Errorf("the page shows %v", got)
	}
}
