package browser_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/watchbox-go/watchbox"
)

// listener opens a stream of a path and reads its first event. The client then reads nothing more.
func (s *server) listener(path, agent string) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: hub\r\nUser-Agent: %s\r\n\r\n", path, agent)
	r := bufio.NewReader(c)
	for line := ""; !strings.HasPrefix(line, "data:"); {
		if line, err = r.ReadString('\n'); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestGroupsShowTheTreeAndTheNoisiest(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{mount: "/hub"})
	var list []watchbox.Draft
	for i := range 20_000 {
		list = append(list, watchbox.Draft{Group: fmt.Sprintf("device/%03d/%d", i/100, i%100), Msg: i})
	}
	s.publishAll(list...)
	s.publishAll(numbered("noisy/one", 0, 900)...)
	s.listener("/hub/v1/groups/noisy/one", "x")
	d := openDashboard(t, s, "groups")
	names := func(want ...string) {
		t.Helper()
		d.until(`%s.every((name, i) => [...document.querySelectorAll(".list-row:not([hidden])")].sort((a, b) => a.dataset.index - b.dataset.index)[i]?.title === name)`, text(want))
	}
	names("device", "noisy")
	d.do(`document.querySelector(".list").focus()`)
	d.press(kb.ArrowDown, kb.ArrowRight)
	names("device", "device/000", "device/001")
	d.press(kb.ArrowDown, kb.ArrowRight)
	names("device", "device/000", "device/000/0", "device/000/1")
	if n := get[int](d, "document.querySelectorAll('.list-row').length"); n > 60 {
		t.Errorf("the page has %d rows", n)
	}
	d.press(kb.ArrowUp, kb.ArrowUp, kb.ArrowLeft, kb.Escape) // closes device and the panel
	d.click("Listeners")
	names("noisy", "device")
	d.click("Rate")
	d.do("document.querySelector('.find [type=checkbox]').click()")
	names("noisy/one")
	d.until(`document.querySelector(".list-row .value").textContent === '{"n":899}'`)
	d.fill("[data-search]", "+/199/7")
	names("device/199/7")
	d.fill("[data-search]", "device/19")
	names("device/190/0")
	d.run(chromedp.Reload())
	names("device/190/0")
}

// TestGroupsStayFluidWithMany counts the elements of the page, because times differ between machines, and logs how long
// the page took. With WATCHBOX_TEST_SCALE there are 100,000 groups.
func TestGroupsStayFluidWithMany(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithMaxMemory(1 << 30), watchbox.WithMaxGroups(200_000)}})
	groups := 20_000
	if os.Getenv("WATCHBOX_TEST_SCALE") != "" {
		groups = 100_000
	}
	last := fmt.Sprintf("g%06d", groups-1)
	list := make([]watchbox.Draft, groups)
	for i := range list {
		list[i] = watchbox.Draft{Group: fmt.Sprintf("g%06d/x", i), Msg: i}
	}
	s.publishAll(list...)
	d := openDashboard(t, s, "groups", `window.long = []; new PerformanceObserver((list) => long.push(...list.getEntries().map((e) => Math.round(e.duration)))).observe({ type: "longtask" })`)
	d.size(1280, 800)
	row := func(index int, title string) {
		t.Helper()
		d.until(`document.querySelector(".list-row:not([hidden])[data-index='%d']")?.title === %q`, index, title)
	}
	began := time.Now()
	row(0, "g000000")
	t.Logf("the first rows came after %v", time.Since(began).Round(time.Millisecond))
	for _, n := range []int{200, 1200, 2200} { // rows that were shown stay while the page asks for them again
		d.until(`(() => {
			const list = document.querySelector(".list"), row = document.querySelector(".list-row:not([hidden])[data-index='%d']");
			list.scrollTop = list.scrollHeight;
			return row?.textContent.startsWith("Show more (");
		})()`, n)
		d.do(`document.querySelector(".list-row:not([hidden])[data-index='%d']").click()`, n)
		row(n, fmt.Sprintf("g%06d", n))
	}
	d.do(`document.querySelector(".list").scrollTop = 0`)
	row(0, "g000000")
	began = time.Now()
	d.click("Messages")
	row(0, "g000000")
	s.publish(last+"/x", 1)
	row(0, last)
	t.Logf("sorted by messages, the page showed a change after %v", time.Since(began).Round(time.Millisecond))
	d.fill("[data-search]", last[:len(last)-1])
	row(0, last+"/x")
	d.do(`document.querySelector(".list-row:not([hidden])[data-index='0']").click()`)
	d.until("document.querySelector('.inspector h2')?.textContent === '%s/x'", last)
	elements, rows := get[int](d, "document.querySelectorAll('*').length"), get[int](d, "document.querySelectorAll('.list-row').length")
	if elements > 1000 || rows > 60 {
		t.Errorf("the page has %d elements and %d rows", elements, rows)
	}
	t.Logf("%d elements, %d rows, long tasks (ms): %v", elements, rows, get[[]int](d, "long"))
}

// An answer that was asked for before "Show more" knows less than the page shows.
func TestMoreGroupsStayWhenAnOlderAnswerComesLate(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	list := make([]watchbox.Draft, 1500)
	for i := range list {
		list[i] = watchbox.Draft{Group: fmt.Sprintf("g%04d", i), Msg: i}
	}
	s.publishAll(list...)
	d := openDashboard(t, s, "groups", `
		window.held = [];
		window.answered = 0;
		const real = fetch;
		window.fetch = async (url, options) => {
			if (!String(url).includes("v1/groups?")) return real(url, options);
			if (window.holds) await new Promise((go) => held.push(go));
			const answer = await real(url, options);
			answered++;
			return answer;
		};`)
	rows := func(n int) {
		t.Helper()
		d.until("document.querySelector('.list-row:not([hidden])')?.getAttribute('aria-setsize') === '%d'", n)
	}
	rows(201)
	d.do("window.holds = true")
	d.until("held.length === 1") // the page asks again by itself
	d.until(`(() => {
		const list = document.querySelector(".list"), row = document.querySelector(".list-row:not([hidden])[data-index='200']");
		list.scrollTop = list.scrollHeight;
		return row !== null;
	})()`)
	d.do(`document.querySelector(".list-row:not([hidden])[data-index='200']").click()`)
	d.until("held.length === 2")
	d.do("held[1]()")
	d.until("held.length === 3") // the second page of them
	d.do("held[2]()")
	rows(1201)
	d.do("window.before = answered; held[0]()")
	d.until("answered > before && await new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))))")
	rows(1201)
}

func TestTheGroupPageChangesAGroup(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	ctx := context.Background()
	if _, _, err := s.hub.PublishBatch(ctx, []watchbox.Draft{{Group: "home/door", Msg: "open", Retain: true}, {Group: "home/door", Msg: "closed"}}); err != nil {
		t.Fatal(err)
	}
	s.listener("/v1/groups/home/door", "x")
	d := openDashboard(t, s, "groups?group=home/door")
	const panel = "document.querySelector('.inspector').textContent"
	d.until(panel + ".includes('Retained messageopen') && " + panel + ".includes('closed') && /Listeners[0-9a-f]{8}-/.test(" + panel + ")")
	s.publish("home/door", "ajar")
	d.until(panel + ".includes('ajar')")
	const field = "document.querySelector('.inspector .fields input')"
	d.do(field + `.value = "7"`)
	d.click("Save the policy")
	d.until("(await (await fetch('v1/policies/home/door')).json()).max_messages === 7")
	d.until(field + "?.value === '7'")
	d.click("Clear")
	d.until("document.querySelector('dialog').open")
	d.press(kb.Escape) // changes nothing
	d.until("!document.querySelector('dialog')")
	d.click("Clear")
	d.do(`document.querySelector("dialog button.danger").click()`)
	d.until("(await (await fetch('v1/retained/home/door')).json()).messages.length === 0")
	d.until(panel + ".includes('Retained messageNone')")
	d.click("Purge this group")
	d.do(`document.querySelector("dialog button.danger").click()`)
	d.until("(await (await fetch('v1/history/home/door')).json()).messages.length === 0")
}

// TestTheFormOfAPolicySavesOnlyTheGroupsOwnProperties: what is inherited stays inherited, wherever it comes from.
func TestTheFormOfAPolicySavesOnlyTheGroupsOwnProperties(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{opts: []watchbox.Option{watchbox.WithMaxAge(time.Hour), watchbox.WithPolicy("+/door", watchbox.Policy{MaxMessages: 9}), watchbox.WithPolicy("home/door", watchbox.Policy{MaxBytes: 5000})}})
	s.publish("home/door", "open")
	d := openDashboard(t, s, "groups?group=home/door")
	const fields = "[...document.querySelectorAll('.inspector .fields input')]"
	d.until(fields + ".length > 3")
	if got := get[[]string](d, fields+".map((e) => e.value + '|' + e.placeholder)"); text(got) != text([]string{"|9", "5000|0", "|1h0m0s", "|0s"}) {
		t.Errorf("the fields are %q", got)
	}
	d.click("Save the policy")
	d.until("document.querySelector('#toast').textContent === 'Policy saved'")
	own := func() string {
		return get[string](d, "(await (await fetch('v1/policies/home/door?part=own')).text()).trim()")
	}
	if got := own(); got != `{"filter":"home/door","max_bytes":5000}` {
		t.Errorf("after saving without a change the policy is %s", got)
	}
	d.until(fields + ".length > 3")
	d.do(fields + `[1].value = ""`)
	d.click("Save the policy")
	d.until("(await (await fetch('v1/policies/home/door?part=own')).text()).trim() === '{\"filter\":\"home/door\"}'")
}

func TestListenersShowTheSlowOneFirst(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	s.listener("/v1/groups/other", "quick/1")
	s.listener("/v1/groups/big", "slow/1")
	for range 40 {
		s.publish("big", strings.Repeat("x", 1<<19))
	}
	d := openDashboard(t, s, "listeners")
	d.until(`document.querySelector(".list-row[data-index='0']")?.textContent.includes("slow/1") && document.querySelector(".list-row[data-index='0'] .behind")`)
	d.do(`document.querySelector(".list-row[data-index='0']").click()`)
	d.until(`/Behind by more than \d+ messages?, 1.0 MiB: .*takes less than is published/.test(document.querySelector(".inspector").textContent)`)
	d.fill("[aria-label='Message to this session']", `{"hello":1}`)
	d.click("Send")
	d.until(`document.querySelector(".inspector").textContent.includes("Sent as")`)
	d.click("Kick")
	d.do(`document.querySelector("dialog button.danger").click()`)
	d.until(`!document.querySelector(".list").textContent.includes("slow/1") && document.querySelector(".list").textContent.includes("quick/1")`)
	d.until(`document.querySelector(".inspector").textContent.includes("This session is gone")`)
	d.fill("[data-search]", "quick")
	d.until(`[...document.querySelectorAll(".list-row:not([hidden])")].map((r) => r.querySelector(".client").textContent).join() === "quick/1"`)
	d.page.console = nil // the browser writes a line for the 404 of the session that is gone
}

func TestTheSearchForListenersSaysWhatItCovers(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	for i := range 250 {
		s.listener("/v1/groups/a", fmt.Sprintf("agent/%d", i))
	}
	d := openDashboard(t, s, "listeners?sort=since")
	d.fill("[data-search]", "agent/249")
	d.until(`document.querySelector(".sub").textContent.startsWith("The first 200 ") && document.querySelector(".sub").textContent.endsWith(" 0 found") && document.querySelector(".over").textContent.includes("Show more loads others")`)
	d.click("Show more")
	d.until(`/^25[01] sessions · .* · 1 found$/.test(document.querySelector(".sub").textContent) && document.querySelector(".list-row:not([hidden])")?.textContent.includes("agent/249")`)
}

// TestListenersHavePages has sessions on three pages: the first 200 rows, and 1,000 more with each click. One is far behind, one gets a
// message, and one is away.
func TestListenersHavePages(t *testing.T) {
	t.Parallel()
	const clients = 1300
	s := serve(t, &server{})
	for i := range clients {
		group := "a"
		switch i {
		case 1250:
			group = "big"
		case 1260:
			group = "small"
		}
		s.listener("/v1/groups/"+group, fmt.Sprintf("agent/%d;", i))
	}
	s.awayMQTT("gone", "a")
	for range 20 {
		s.publish("big", strings.Repeat("x", 1<<20))
	}
	s.publish("small", "x")
	d := openDashboard(t, s, "listeners?sort=since")
	d.size(1280, 800)
	row := func(index int, agent string) {
		t.Helper()
		d.until(`(() => {
			const list = document.querySelector(".list");
			list.scrollTop = %d * parseFloat(getComputedStyle(list).getPropertyValue("--row"));
			return document.querySelector(".list-row:not([hidden])[data-index='%d'] .client")?.textContent === %q;
		})()`, index, index, agent)
	}
	summary := func(want string) {
		t.Helper()
		d.until("document.querySelector('.sub').textContent === %q", want)
	}
	click := func(index int) {
		t.Helper()
		d.do(`document.querySelector(".list-row:not([hidden])[data-index='%d']").click()`, index)
	}
	row(199, "agent/199;")
	summary("The first 200 of 1,301 sessions: 0 behind · 0 lost") // this page is the last one
	d.click("Show more")
	row(1199, "agent/1199;")
	summary("The first 1,200 of 1,301 sessions: 0 behind · 0 lost")
	click(1199)
	d.until(`document.querySelector(".inspector").textContent.includes("agent/1199;")`)
	d.click("Kick")
	d.do(`document.querySelector("dialog button.danger").click()`)
	d.until(`document.querySelector(".inspector").textContent.includes("This session is gone")`)
	row(1199, "agent/1200;")
	row(1198, "agent/1198;")
	d.click("Show more")
	summary("1,300 sessions · 1 behind · 0 lost")
	row(1298, "agent/1299;")
	d.fill("[data-search]", "agent/1234;")
	row(0, "agent/1234;")
	summary("1,300 sessions · 1 behind · 0 lost · 1 found")
	click(0)
	d.until(`document.querySelector(".inspector").textContent.includes("agent/1234;")`)
	d.click("Close (Escape)")
	d.fill("[data-search]", "")
	order := func(sort, first, second, sum string) {
		t.Helper()
		d.fill(".find select", sort)
		row(0, first)
		if second != "" {
			row(1, second)
		}
		summary(sum)
	}
	order("lag", "agent/1250;", "agent/0;", "The first 200 of 1,300 sessions: 1 behind · 0 lost")
	d.until(`document.querySelector(".list-row[data-index='0'] .behind")`)
	order("sent", "agent/1250;", "", "The first 200 of 1,300 sessions: 1 behind · 0 lost")
	row(2, "agent/1260;") // after this page
	order("since", "agent/0;", "agent/1;", "The first 200 of 1,300 sessions: 0 behind · 0 lost")
	order("away", "gone", "", "1 session · 0 behind")
	d.page.console = nil // the browser writes a line for the 404 of the session that is gone
}

// awayMQTT leaves the session of an MQTT client that subscribes and goes away.
func (s *server) awayMQTT(id, filter string) {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	go func() { _ = s.hub.ServeMQTT(ln) }() // ends with the hub
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	text := func(s string) string { return string([]byte{0, byte(len(s))}) + s }
	packet := func(first byte, body string) string { return string([]byte{first, byte(len(body))}) + body }
	_, err = io.WriteString(c, packet(0x10, text("MQTT")+"\x04\x00\x00\x00"+text(id))+packet(0x82, "\x00\x01"+text(filter)+"\x01"))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4+5)); err != nil { // CONNACK and SUBACK
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(c, "\xe0\x00"); err != nil { // DISCONNECT
		s.t.Fatal(err)
	}
}

func TestPublishSendsChecksAndKeeps(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{mount: "/hub"})
	d := openDashboard(t, s, "publish?group=home/hall")
	results := func(want string) {
		t.Helper()
		d.until("document.querySelector('.results li').textContent.includes(%q)", want)
	}
	d.fill("main select", "json")
	d.fill("textarea", `{"celsius":`)
	d.until("document.querySelector('textarea').getAttribute('aria-invalid') === 'true'")
	d.fill("textarea", `{"celsius":20}`)
	d.until("document.querySelector('main').textContent.includes('Valid JSON, 14 bytes')")
	d.until(`document.querySelector("main pre").textContent.includes("curl --data-raw '{\"celsius\":20}' -H 'Content-Type: application/json'")`)
	d.fill("#field-2", "alarm")
	d.fill("#field-5", "room")
	d.until("document.querySelector('#field-5').getAttribute('aria-invalid') === 'true' && document.querySelector('main').textContent.includes('name=value')")
	d.fill("#field-5", "Room=Küche\nb = 2")
	d.until(`document.querySelector("main pre").textContent.includes("-H 'Watchbox-Meta-room: Küche' -H 'Watchbox-Meta-b: 2'")`)
	d.do(`document.querySelector("form button.main").click()`)
	results("stored")
	if got := get[string](d, "(await (await fetch('v1/history/home/hall')).json()).messages.map((m) => m.event + JSON.stringify([m.msg, m.meta])).join()"); got != `alarm[{"celsius":20},[["b","2"],["room","Küche"]]]` {
		t.Errorf("the history has %s", got)
	}
	d.click("Save")
	d.run(chromedp.Reload())
	d.until("document.querySelector('.saved')?.textContent.includes('home/hall') && document.querySelector('textarea').value === '{\"celsius\":20}'")
	d.do("document.querySelectorAll('main [type=checkbox]')[1].click()") // repeat
	d.fill(".every", "0.1")
	d.do(`document.querySelector("form button.main").click()`)
	d.until("(await (await fetch('v1/history/home/hall')).json()).messages.length > 3")
	d.do("document.querySelector('form button.main').click()")
	d.until("document.querySelector('form button.main').textContent === 'Publish'")
	d.fill("#field-1", "a/#")
	d.do(`document.querySelector("form button.main").click()`)
	results("group-invalid")
	d.page.console = nil // the browser writes a line for the status 400
}

func TestTryItShowsEachLine(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	s.publish("a", "before")
	d := openDashboard(t, s, "try?filter=a")
	has := func(want string) {
		t.Helper()
		d.until("[...document.querySelectorAll('.list-row:not([hidden]) .mono')].some((e) => e.textContent.includes(%q))", want)
	}
	d.size(1280, 1600)
	for _, method := range []string{"GET", "POST"} {
		d.fill(".try-head .fields > :last-child select", method)
		d.click("Open")
		has(method + " /v1/events")
		has("content-type: text/event-stream")
		has("event: session")
		s.publish("a", method)
		has(`"msg":"` + method + `"`)
		d.click("Close")
		d.until("document.querySelector('.try-head p').textContent.startsWith('Closed')")
		d.click("Clear")
	}
	d.fill(".try-head .fields > :nth-child(5) input", "all") // since
	d.click("Open")
	has(`"msg":"before"`)
	d.until("/last id \\S+-\\d/.test(document.querySelector('.try-head p').textContent)")
	s.stop()
	has("reconnecting in")
	s.start()
	d.until("[...document.querySelectorAll('.list-row:not([hidden]) .mono')].filter((e) => e.textContent.includes('event: session')).length === 2")
	d.page.console = nil
}

func TestRepeatedPublishingGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	d := openDashboard(t, s, "publish?group=a")
	d.do("document.querySelectorAll('main [type=checkbox]')[1].click()") // repeat
	d.fill(".every", "0.1")
	const send, last = "document.querySelector('form button.main')", "document.querySelector('.results .badge')?.textContent === %q"
	d.do(send + ".click()")
	d.until(last, "sent")
	s.stop()
	d.until(last, "failed")
	s.start()
	d.until(last, "sent")
	d.fill("#field-1", "a/#")
	d.until(last, "refused")
	d.until(send + ".textContent === 'Publish'")
	d.fill("main select", "json")
	d.do(send + ".click()")
	d.until(last, "not sent")
	d.page.console = nil // the browser writes a line for each request that fails
}

// The page is left while the hub has not answered yet.
func TestRepeatedPublishingEndsWithThePage(t *testing.T) {
	t.Parallel()
	d := openDashboard(t, serve(t, &server{}), "publish", `
		window.posts = [];
		{
			const { fetch } = window;
			window.fetch = (url, options) => options?.method !== "POST" || !String(url).includes("/v1/groups/") ? fetch(url, options)
				: new Promise((done) => posts.push(() => done(Response.json({ id: "x" }, { status: 201 }))));
		}`)
	d.do("[...document.querySelectorAll('label.check')].find((l) => l.textContent.includes('Repeat')).click()")
	d.fill("input.every", "0.1")
	d.click("Publish")
	d.until("posts.length === 1")
	d.show("try")
	d.do("posts[0](); await new Promise((r) => setTimeout(r, 300))") // the second one would come after 100 ms
	if n := get[int](d, "posts.length"); n != 1 {
		t.Errorf("%d messages were published", n)
	}
}
