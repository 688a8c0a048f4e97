package browser_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/watchbox-go/watchbox"
)

// The headers of the page's requests make the browser send a preflight request first.
func TestAPageOfAnotherOriginUsesATokenAndCookies(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var cookies []string
	s := serve(t, &server{
		opts: []watchbox.Option{watchbox.WithAllowOrigin("http://*.localhost:*"), watchbox.WithAllowCredentials()},
		wrap: func(hub http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c, err := r.Cookie("ticket"); err == nil {
					mu.Lock()
					cookies = append(cookies, c.Value)
					mu.Unlock()
				}
				if r.URL.Path == "/cookie" {
					http.SetCookie(w, &http.Cookie{Name: "ticket", Value: "mine", Path: "/"})
					return
				}
				if r.Method == http.MethodPost && r.Header.Get("Authorization") != "Bearer a-token" {
					http.Error(w, "no token", http.StatusUnauthorized)
					return
				}
				hub.ServeHTTP(w, r)
			})
		},
	})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/watchbox.js" {
			s.hub.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, "<!doctype html><title>app</title>")
	}))
	t.Cleanup(app.Close)
	_, port, _ := net.SplitHostPort(app.Listener.Addr().String())
	_, hubPort, _ := net.SplitHostPort(s.addr)
	hub := "http://hub.localhost:" + hubPort
	p := open(t, hub+"/cookie") // sets it for the hub's host
	p = p.openTab("http://app.localhost:" + port)
	p.do(`
		const { Watchbox } = await import("/watchbox.js");
		window.received = [];
		window.wb = new Watchbox(%q, { token: "a-token" });
		await wb.join("a", (m) => received.push(m.msg));
		await wb.setWill("a", "gone");
		await wb.publish("a", 1);`, hub)
	p.until(`received.length === 1 && received[0] === 1`)
	p.do(`
		window.source = new EventSource(%q, { withCredentials: true });
		source.onmessage = (e) => received.push(JSON.parse(e.data).msg);
		await new Promise((open) => source.onopen = open);`, hub+"/v1/groups/b")
	s.publish("b", 2)
	p.until(`received.length === 2 && received[1] === 2`)
	mu.Lock()
	defer mu.Unlock()
	if len(cookies) == 0 || cookies[0] != "mine" {
		t.Errorf("the hub received the cookies %q", cookies)
	}
}
