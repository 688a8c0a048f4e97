package browser_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// TestAHundredClientsOfEachKindSurviveTenRestarts runs a hundred clients in one page. They use twenty addresses of
// the same hub, because a browser opens at most six connections to each. The network is cut and refuses connections
// for a while, which looks to the clients like a server that restarts with the same log.
func TestAHundredClientsOfEachKindSurviveTenRestarts(t *testing.T) {
	for kind, script := range map[string]string{
		"EventSource": `new EventSource(address + "v1/groups/room?since=all").onmessage = (event) => list.push(JSON.parse(event.data).msg)`,
		"watchbox.js": `new Watchbox(address, { name: "client " + i, since: "all", maxDelay: 200 }).join("room", (m) => list.push(m.msg))`,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp4", "0.0.0.0:0") // 127.0.0.2 and so on are this machine, too
			if err != nil {
				t.Fatal(err)
			}
			port := ln.Addr().(*net.TCPAddr).Port
			origin := fmt.Sprint("http://127.0.0.1:", port)
			s := serve(t, &server{
				opts: []watchbox.Option{watchbox.WithRetry(20 * time.Millisecond), watchbox.WithAllowOrigin(origin)},
				wrap: func(hub http.Handler) http.Handler { // with a page that may connect to any address
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.URL.Path == "/free" {
							w.Header().Set("Content-Type", "text/html")
							return
						}
						hub.ServeHTTP(w, r)
					})
				},
			})
			network := newProxyAt(t, ln, s.addr)
			p := open(t, origin+"/free")
			s.publish("room", 0)
			p.do(`const { Watchbox } = await import("/watchbox.js");
				window.got = Array.from({ length: 100 }, () => []);
				got.forEach((list, i) => {
					const address = "http://127.0.0." + (2 + Math.floor(i / 5)) + ":%d/";
					%s;
				});`, port, script)
			n := 1
			all := func() {
				t.Helper()
				p.until("got.every((list) => list.length >= %d)", n)
			}
			all()
			for range 10 {
				network.refuse(true)
				network.cut()
				for range 10 {
					s.publish("room", n)
					n++
				}
				network.refuse(false)
				all()
				s.publish("room", n)
				n++
				all()
			}
			var streams int
			p.eval(&streams, `return Number((await (await fetch("/metrics")).text()).match(/\nwatchbox_streams_opened_total (\d+)/)[1])`)
			if streams < 1100 {
				t.Errorf("%d streams were opened, too few for all clients to have reconnected each time", streams)
			}
			var wrong [][]int
			if p.eval(&wrong, `return got.filter((list) => list.length !== %d || list.some((m, i) => m !== i))`, n); len(wrong) > 0 {
				t.Errorf("%d of 100 did not receive 0 to %d, each once and in order: %v", len(wrong), n-1, wrong[0])
			}
		})
	}
}
