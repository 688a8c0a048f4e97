package browser_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/watchbox-go/watchbox"
)

// sessions returns how many streams each session has.
func (s *server) sessions() map[string]int {
	s.t.Helper()
	resp, err := http.Get(s.url() + "/v1/sessions")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var list struct {
		Sessions []struct {
			UID     string
			Streams int
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		s.t.Fatal(err)
	}
	streams := map[string]int{}
	for _, session := range list.Sessions {
		streams[session.UID] = session.Streams
	}
	return streams
}

func TestTwoTabsHaveTheirOwnStreamsAndReceiveTheSame(t *testing.T) {
	for _, kind := range []string{"watchbox.js", "EventSource"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{})
			tabs := openTestTabs(t, s.url(), 2)
			one, two := tabs[0], tabs[1]
			one.do("%s", clientKinds[kind])
			two.do("%s", clientKinds[kind])
			s.publish("a", 1)
			s.publish("b/c", 2)
			one.receivedMessages(1, 2)
			two.receivedMessages(1, 2)
			if got := s.sessions(); len(got) != 2 {
				t.Errorf("the sessions and their streams are %v, want two", got)
			}
			two.cancel()
			s.publish("a", 3)
			one.receivedMessages(1, 2, 3)
		})
	}
}

// A duplicated tab, and a window that a page opens, get a copy of its sessionStorage. The copy's joins and leaves
// must not affect the first tab.
func TestACopyOfATabHasItsOwnSession(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	one := openTestPage(t, s.url(), "/")
	one.do(`window.wb = t.watchbox(); await wb.join("a", t.receive); await wb.join("b", t.receive)`)
	one.until(`Object.values(sessionStorage).some((v) => v.includes('"filters":["a","b"]'))`)
	opened := chromedp.WaitNewTarget(one.ctx, func(*target.Info) bool { return true })
	one.do(`window.open(location.href)`)
	two := attach(t, one.window, chromedp.WithTargetID(receive(t, opened)))
	two.until("location.href !== 'about:blank' && document.readyState === 'complete'")
	two.ready()
	two.do(`window.wb = t.watchbox(); await wb.join("a", t.receive); await wb.join("b", t.receive); await wb.join("c", t.receive); wb.leave("b")`)
	s.publish("a", 1)
	s.publish("b", 2)
	s.publish("c", 3)
	one.receivedMessages(1, 2)
	two.until("t.received.includes(1) && t.received.includes(3)")
	if got := s.sessions(); len(got) != 2 {
		t.Errorf("the sessions and their streams are %v, want two", got)
	}
}

func TestTabsThatShareHaveOneStream(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	share := `window.wb = t.watchbox({ shared: true }); await wb.join(%q, t.receive)`
	tabs := openTestTabs(t, s.url(), 3)
	one, two, three := tabs[0], tabs[1], tabs[2]
	one.do(share, "a")
	two.do(share, "b")
	three.do(share, "a")
	s.publish("a", 1)
	s.publish("b", 2)
	s.publish("c", 3)
	one.receivedMessages(1)
	two.receivedMessages(2)
	three.receivedMessages(1)
	var uids [3]string
	for i, p := range []*page{one, two, three} {
		p.eval(&uids[i], "return wb.uid")
	}
	if got := s.sessions(); len(got) != 1 || got[uids[0]] != 1 || uids[0] != uids[1] || uids[1] != uids[2] {
		t.Errorf("the sessions and their streams are %v, want one stream of one; the tabs are %v", got, uids)
	}

	two.do(`await wb.join("a", t.receive); await wb.publish("b", 4)`)
	two.receivedMessages(2, 4) // messages that arrive after a leave are not delivered
	two.do(`wb.leave("b")`)
	s.publish("b", 5)
	s.publish("a", 6)
	two.receivedMessages(2, 4, 6)
	one.receivedMessages(1, 6)
	var problem string
	two.eval(&problem, `return wb.join("$session/x", t.receive).then(() => "", (e) => e.code)`)
	if problem != "filter-forbidden" {
		t.Errorf("a filter that is refused in the leading tab: another tab gets %q", problem)
	}
	s.publish("a", 7)
	two.receivedMessages(2, 4, 6, 7)
}

func TestAKickClosesAllTabsThatShareAStream(t *testing.T) {
	for name, all := range map[string]bool{"stream": false, "polls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := &holding{all: all}
			proxy.off.Store(!all)
			s := serve(t, &server{wrap: func(hub http.Handler) http.Handler { proxy.to = hub; return proxy }})
			tabs := openTestTabs(t, s.url(), 4)
			for i, p := range tabs {
				p.do(`window.wb = t.watchbox({ shared: true }); await wb.join("a", t.receive); await wb.join("own/%d", t.receive)`, i)
			}
			tabs[1].do(`await fetch(new URL("v1/sessions/" + wb.uid, t.hub), { method: "DELETE" })`)
			for _, p := range tabs {
				p.receivedEvents("closed", "kicked")
				p.receivedEvents("disconnect", "kicked")
				p.do(`const code = await wb.join("a", t.receive).catch((e) => e.code); if (code !== "kicked") throw new Error(code)`)
			}
			if got := s.sessions(); len(got) != 0 {
				t.Errorf("there are sessions: %v", got)
			}
		})
	}
}

// holdEnd makes a page keep the message that the session has ended until it calls hear.
const holdEnd = `
	const heard = new Promise((r) => { window.hear = r; });
	const channel = BroadcastChannel;
	window.BroadcastChannel = class extends channel {
		set onmessage(f) {
			super.onmessage = f && ((event) => event.data.event?.state === "closed" ? heard.then(() => f(event)) : f(event));
		}
	};`

// joinFixed makes a client that shares a session with a fixed secret.
const joinFixed = `window.wb = t.watchbox({ shared: true, session: "fixed-secret-0123456789abcdef" }); await wb.join("a", t.receive)`

// Another tab leads, and has opened the session again, when it hears of the end.
func TestAKickClosesTabsThatHearOfItLate(t *testing.T) {
	for name, c := range map[string]struct {
		onClosed string // what the first leading tab then does
		left     int    // sessions in the end
	}{
		"the first one stays":                   {``, 0},
		"the first one leaves":                  {`location.replace("about:blank")`, 0},
		"the first one opens the session again": {joinFixed + `; window.joined = true`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{opts: []watchbox.Option{watchbox.WithSessionTimeout(time.Hour)}}) // a session that is not ended stays
			connected := make(chan watchbox.Session, 10)
			s.hub.OnConnect(func(session watchbox.Session) { connected <- session })
			tabs := openTestTabs(t, s.url(), 3)
			for _, p := range tabs[1:] {
				p.do(holdEnd)
			}
			for _, p := range tabs {
				p.do(joinFixed)
			}
			tabs[0].do(`wb.addEventListener("closed", async () => { %s })`, c.onClosed)
			receive(t, connected)
			tabs[1].do(`await fetch(new URL("v1/sessions/" + wb.uid, t.hub), { method: "DELETE" })`)
			for _, p := range tabs[1:] { // each leads in turn
				receive(t, connected)
				p.do("hear()")
				p.receivedEvents("closed", "kicked")
			}
			if c.left > 0 {
				tabs[0].until("window.joined")
				s.publish("a", 1)
				tabs[0].receivedMessages(1)
				tabs[0].receivedEvents("closed", "kicked")
			}
			tabs[1].until(`(await (await fetch(new URL("v1/sessions", t.hub))).json()).sessions.length === %d`, c.left)
		})
	}
}

// A page opens a session again that was kicked. No timer of more than a second fires: it waits for none.
func TestAKickedSharedSessionOpensAgainAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	p := openTestPage(t, s.url(), "/")
	p.do(joinFixed + `; const { setTimeout: later } = window; window.setTimeout = (f, ms, ...args) => ms > 1000 ? 0 : later(f, ms, ...args)`)
	p.do(`await fetch(new URL("v1/sessions/" + wb.uid, t.hub), { method: "DELETE" })`)
	p.receivedEvents("closed", "kicked")
	p.do(joinFixed)
	s.publish("a", 1)
	p.receivedMessages(1)
}

func TestTheLeadingClientClosesWhileAnotherTabJoins(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	tabs := openTestTabs(t, s.url(), 2)
	tabs[0].do(`window.fetch = () => new Promise(() => {})`) // its stream does not open
	for _, p := range tabs {
		p.do(`window.wb = t.watchbox({ shared: true }); window.joined = wb.join("a", t.receive)`)
		p.until(`wb.state === "connecting"`)
	}
	tabs[0].do(`await wb.close()`)
	tabs[0].receivedEvents("closed", "")
	tabs[1].do(`await joined`)
	s.publish("a", 1)
	tabs[1].receivedMessages(1)
}

// The leading tab is closed while messages arrive, and then the next leader.
func TestClosingTheLeadingTabLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	tabs := openTestTabs(t, s.url(), 3)
	for _, p := range tabs {
		p.do(`window.wb = t.watchbox({ shared: true }); await wb.join("a", t.receive)`)
	}
	const all = 600
	next := make(chan int)
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for n := range next {
			for i := n; i < n+all/3; i++ {
				if _, err := s.hub.Publish(context.Background(), "a", i); err != nil {
					t.Error(err)
				}
			}
		}
	})
	last := tabs[2]
	next <- 0
	last.until("t.received.length > 10")
	tabs[0].cancel()
	next <- all / 3
	last.until("t.received.length > %d", all/3+10)
	tabs[1].cancel()
	next <- 2 * all / 3
	close(next)
	publishing.Wait()
	last.until("t.received.length >= %d", all)
	last.until("t.received.length === %d && t.received.every((n, i) => n === i)", all)
	last.receivedEvents("gap")
}

// One of several tabs is reloaded. The stream continues for the others.
func TestAReloadedSharingTabResumes(t *testing.T) {
	for name, first := range map[string]bool{"the one that leads": true, "another": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{})
			listen := `window.wb = t.watchbox({ shared: true }); await Promise.all([wb.join("a", t.receive), wb.join("b", t.receive)])`
			tabs := openTestTabs(t, s.url(), 2)
			leaves, stays := tabs[0], tabs[1]
			if first {
				leaves.do("%s", listen)
				stays.do("%s", listen)
			} else {
				stays.do("%s", listen)
				leaves.do("%s", listen)
			}
			s.publish("a", 1)
			leaves.receivedMessages(1)
			leaves.reopen(s.url()+testPage+"/", func() { s.publish("a", 2); s.publish("b", 3); stays.receivedMessages(1, 2, 3) })
			leaves.do("%s", listen)
			s.publish("b", 4)
			leaves.receivedMessages(2, 3, 4)
			stays.receivedMessages(1, 2, 3, 4)
			leaves.receivedEvents("gap")
		})
	}
}
