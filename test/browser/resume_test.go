package browser_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/watchbox-go/watchbox"
)

// clientKinds are the ways to subscribe to the groups a and b/#.
var clientKinds = map[string]string{
	"EventSource":                `window.c = t.eventSource("v1/events?group=a&group=b/%23"); await new Promise((r) => c.addEventListener("session", r))`,
	"watchbox.js":                `window.wb = t.watchbox(); await Promise.all([wb.join("a", t.receive), wb.join("b/#", t.receive)])`,
	"watchbox.js by EventSource": `window.wb = t.watchbox({ transport: "eventsource" }); await Promise.all([wb.join("a", t.receive), wb.join("b/#", t.receive)])`,
	"watchbox.js shared":         `window.wb = t.watchbox({ shared: true }); await Promise.all([wb.join("a", t.receive), wb.join("b/#", t.receive)])`,
}

// usesWatchboxJS reports whether a kind uses watchbox.js.
func usesWatchboxJS(kind string) bool { return kind != "EventSource" }

func eachKind(t *testing.T, f func(t *testing.T, kind, listen string)) {
	t.Helper()
	t.Parallel()
	for kind, listen := range clientKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f(t, kind, listen)
		})
	}
}

func TestARestartedServerCausesOneGapAndThenSendsAllItsMessages(t *testing.T) {
	eachKind(t, func(t *testing.T, kind, listen string) {
		s := serve(t, &server{})
		p := openTestPage(t, s.url(), "/")
		p.do("%s", listen)
		s.publish("a", 1, 2)
		s.publish("b/c", 3)
		p.receivedMessages(1, 2, 3)
		s.stop()
		if usesWatchboxJS(kind) {
			p.until("t.events.filter(([type, d]) => type === 'state' && d.state === 'waiting').length >= 3")
		} else {
			p.until("t.count('error') > 0")
		}
		s.start()
		s.publish("a", 4)
		s.publish("b", 5)
		s.publish("other", 6)
		s.publish("b/c", 7)
		p.receivedMessages(1, 2, 3, 4, 5, 7)
		p.receivedEvents("gap", `"epoch"`, `"epoch"`) // of each filter, once
		if usesWatchboxJS(kind) {
			p.receivedEvents("disconnect", "") // per loss, not per attempt
			p.receivedEvents("reconnect", "uid")
			p.receivedEvents("open", "uid")
			p.receivedEvents("closed")
		}
	})
}

func TestACutNetworkLosesAndRepeatsNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, kind, listen string) {
		s := serve(t, &server{})
		network := newProxy(t, s.addr)
		p := openTestPage(t, network.url(), "/")
		p.do("%s", listen)
		s.publish("a", 1)
		p.receivedMessages(1)
		network.refuse(true)
		network.cut()
		s.publish("b", 2)
		s.publish("a", 3)
		s.publish("c", 4)
		network.refuse(false)
		p.receivedMessages(1, 2, 3)
		s.publish("a", 5)
		p.receivedMessages(1, 2, 3, 5)
		p.receivedEvents("gap")
		if usesWatchboxJS(kind) {
			p.receivedEvents("disconnect", "")
			p.receivedEvents("reconnect", "")
		}
	})
}

// TestAProxyThatCutsEveryStreamAfterFiveSeconds publishes until the proxy has cut several streams. How long that takes does
// not matter.
func TestAProxyThatCutsEveryStreamAfterFiveSeconds(t *testing.T) {
	eachKind(t, func(t *testing.T, _, listen string) {
		s := serve(t, &server{opts: []watchbox.Option{watchbox.WithRetry(20 * time.Millisecond)}})
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		network := newCuttingProxy(t, ln, s.addr, 5*time.Second)
		p := openTestPage(t, network.url(), "/")
		p.do("%s", listen)
		const streams = `Number((await (await fetch("/metrics")).text()).match(/\nwatchbox_streams_opened_total (\d+)/)?.[1] ?? 0)`
		var want []any
		for opened := 0; opened < 4; {
			for range 3 {
				n := len(want)
				want = append(want, n)
				s.publish([]string{"a", "b", "b/c"}[n%3], n)
			}
			p.until("t.received.length >= %d", len(want))
			p.eval(&opened, "try { return %s } catch { return 0 }", streams) // the request may be cut, too
		}
		p.receivedMessages(want...)
		p.receivedEvents("gap")
		if n := network.expired.Load(); n < 3 {
			t.Errorf("the proxy has cut %d connections", n)
		}
	})
}

func TestTenThousandMessagesArriveOnceAndInOrderOverANetworkThatIsCut(t *testing.T) {
	const all, blocks = 10_000, 8
	eachKind(t, func(t *testing.T, _, listen string) {
		s := serve(t, &server{})
		network := newProxy(t, s.addr)
		p := openTestPage(t, network.url(), "/")
		p.do("%s", listen)
		for block := range blocks {
			var publishing sync.WaitGroup
			publishing.Go(func() {
				for i := block * all / blocks; i < (block+1)*all/blocks; i++ {
					if _, err := s.hub.Publish(context.Background(), []string{"a", "b", "b/c/d"}[i%3], i); err != nil {
						t.Error(err)
					}
				}
			})
			p.until("t.received.length > %d", block*all/blocks)
			network.cut()
			publishing.Wait()
		}
		p.until("t.received.length >= %d", all)
		p.until("t.received.length === %d && t.received.every((n, i) => n === i)", all)
		p.receivedEvents("gap")
	})
}

func TestAReloadedPageResumes(t *testing.T) {
	eachKind(t, func(t *testing.T, kind, listen string) {
		if !usesWatchboxJS(kind) {
			return // an EventSource in a reloaded page starts anew
		}
		s := serve(t, &server{mount: "/hub/"})
		address := s.url() + testPage + "/hub/"
		p := openTestPage(t, s.url(), "/hub/")
		p.do("%s", listen)
		s.publish("a", 1)
		p.receivedMessages(1)
		var before, after string
		p.eval(&before, "return wb.uid")

		p.reopen(address, func() { s.publish("b", 2, 3) })
		s.publish("a", 4)
		p.do("%s", listen)
		p.receivedMessages(2, 3, 4)
		p.eval(&after, "return wb.uid")
		if before != after || before == "" {
			t.Errorf("the uid was %q before the reload, and is %q", before, after)
		}

		p.run(chromedp.Reload())
		p.ready()
		p.do("%s", listen)
		s.publish("a", 5)
		p.receivedMessages(5)
		p.receivedEvents("gap")
	})
}

func TestAFilterJoinedLaterAfterAReloadResumesToo(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	p := openTestPage(t, s.url(), "/")
	p.do(`window.wb = t.watchbox(); await Promise.all([wb.join("a", t.receive), wb.join("b", t.receive)])`)
	s.publish("a", 1)
	p.receivedMessages(1)
	for n := range 2 { // the second time it continues from the kept messages
		p.reopen(s.url()+testPage+"/", func() { s.publish("b", 10+n); s.publish("a", 20+n) })
		p.do(`window.wb = t.watchbox(); await wb.join("a", t.receive)`)
		p.receivedMessages(20 + n)
	}
	p.do(`await wb.join("b", t.receive)`)
	s.publish("b", 30)
	p.receivedMessages(21, 10, 11, 30)
}

func TestADeadConnectionIsNoticedByMissingHeartbeats(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	network := newProxy(t, s.addr)
	p := openTestPage(t, network.url(), "/")
	p.do(`window.skip = t.clock(40_000); window.wb = t.watchbox(); await wb.join("a", t.receive)`)
	s.publish("a", 1)
	p.receivedMessages(1)
	network.blackhole()
	s.publish("a", 2)
	p.do("skip(46_000)") // three heartbeats of 15 s
	p.receivedMessages(1, 2)
	p.receivedEvents("disconnect", "dead")
}

// An id without data fires no event but still sets the last event id (WHATWG HTML, 9.2.6). A listener to a
// quiet group therefore does not fall behind a busy log.
func TestAHeartbeatMovesTheLastEventIDOfAnEventSource(t *testing.T) {
	t.Parallel()
	lastEventIDs := make(chan string, 10)
	s := serve(t, &server{
		opts: []watchbox.Option{watchbox.WithHeartbeat(100 * time.Millisecond)},
		wrap: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/groups/quiet" {
					lastEventIDs <- r.Header.Get("Last-Event-ID")
				}
				next.ServeHTTP(w, r)
			})
		},
	})
	network := newProxy(t, s.addr)
	p := openTestPage(t, network.url(), "/")
	p.do(`window.c = t.eventSource("v1/groups/quiet"); await new Promise((r) => c.addEventListener("session", r))`)
	if id := receive(t, lastEventIDs); id != "" {
		t.Errorf("the first request has the Last-Event-ID %q", id)
	}
	var id string
	for range 50 {
		var err error
		if id, err = s.hub.Publish(context.Background(), "busy", "x"); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, network.awaitText("\nid: "+id+"\n\n"))
	network.closeAll()
	if got := receive(t, lastEventIDs); got != id {
		t.Errorf("the EventSource reconnects with %q, want %q", got, id)
	}
	p.receivedMessages()
	p.receivedEvents("gap")
}
