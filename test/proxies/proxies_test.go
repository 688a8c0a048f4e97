//go:build unix

package proxies_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/watchbox-go/watchbox/client"
)

// quiet keeps the hub from sending heartbeats: they would push events out of a proxy that collects them.
var quiet = []string{"--heartbeat", "1h"}

// each runs a test with each proxy.
func each(t *testing.T, test func(t *testing.T, k *kind)) {
	t.Parallel()
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

func TestEventsArriveAtOnceOverBothVersionsOfHTTPAndWithCompression(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		r := k.rig(t, quiet)
		for _, http2 := range []bool{true, false} {
			for _, accept := range []string{"identity", "gzip", "gzip, deflate, br, zstd"} {
				c := r.clientAt(t, "127.0.0.1", http2)
				s, _ := c.listen("/v1/groups/a", "Accept-Encoding", accept)
				if (s.res.ProtoMajor == 2) != http2 {
					t.Errorf("the stream has the protocol %s", s.res.Proto)
				}
				for i := range 3 {
					c.call(http.StatusCreated, "POST", "/v1/groups/a", strconv.Itoa(i))
					if data := s.next("message"); !strings.Contains(data, fmt.Sprintf(`"msg":"%d"`, i)) {
						t.Errorf("received %s, want the message %d", data, i)
					}
				}
				s.close()
			}
		}
	})
}

func TestHistoriesAreCompressed(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		r := k.rig(t, quiet)
		c := r.clientAt(t, "127.0.0.1", true)
		c.call(http.StatusCreated, "POST", "/v1/groups/a", strings.Repeat("a", 10_000))
		res := c.do("GET", "/v1/history/a", "", "Accept-Encoding", "gzip")
		if got := res.Header.Get("Content-Encoding"); got != "gzip" {
			t.Errorf("the encoding is %q", got)
		}
	})
}

func TestNamesAndFiltersArriveUnchanged(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		r := k.rig(t, quiet)
		c := r.clientAt(t, "127.0.0.1", true)
		for path, name := range map[string]string{
			"home/kitchen": "home/kitchen", "home%2Fhall": "home/hall", "home/caf%C3%A9": "home/café", "home/a%20b": "home/a b",
			"home/100%25": "home/100%", "home/q%3F": "home/q?", "home/a;b": "home/a;b",
		} {
			c.call(http.StatusCreated, "POST", "/v1/groups/"+path, name)
			for _, filter := range []string{path, "home/%23", "home/%2B", "home/+", "%2B/+"} {
				var list struct {
					Messages []struct{ Group, Msg string }
				}
				answer := c.call(http.StatusOK, "GET", "/v1/history/"+filter+"?last=1", "")
				if err := json.Unmarshal([]byte(answer), &list); err != nil || len(list.Messages) != 1 || list.Messages[0].Group != name {
					t.Errorf("the filter %s finds %s, want the group %s: %v", filter, answer, name, err)
				}
			}
		}
	})
}

func TestBatchesOfManyMegabytesAreAccepted(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		r := k.rig(t, quiet)
		c := r.clientAt(t, "127.0.0.1", true)
		line := `{"group":"a","msg":"` + strings.Repeat("m", 1000) + `"}` + "\n"
		const lines = 9000
		answer := c.call(http.StatusCreated, "POST", "/v1/messages", strings.Repeat(line, lines), "Content-Type", "application/x-ndjson")
		if !strings.Contains(answer, fmt.Sprintf(`"count":%d`, lines)) {
			t.Errorf("the receipt is %s", answer)
		}
	})
}

// forged are headers with which a client pretends to have another address.
func forged(n int) []string {
	addr := fmt.Sprintf("203.0.113.%d", n%250)
	return []string{"X-Forwarded-For", addr, "Forwarded", "for=" + addr, "X-Real-IP", addr, "X-Forwarded-Host", "other.example.org"}
}

func TestTheHubKnowsTheClientsAddress(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		r := k.rig(t, append([]string{"--log-streams", "--publish-rate", "1", "--anonymous-publish", "open"}, quiet...))
		c := r.clientAt(t, "127.0.0.2", true)
		_, uid := c.listen("/v1/groups/a", forged(1)...)
		if session := c.call(http.StatusOK, "GET", "/v1/sessions/"+uid, ""); !strings.Contains(session, `"address":"127.0.0.2"`) {
			t.Errorf("the session is %s", session)
		}
		r.hub.server.await("uid=" + uid + " remote=127.0.0.2\n")

		// Clients without a token are limited by address. A forged one does not help.
		anonymous, other := r.clientAt(t, "127.0.0.2", true), r.clientAt(t, "127.0.0.3", true)
		anonymous.token, other.token = "", ""
		n := 0
		eventually(t, "the client reaches its limit", func() bool {
			n++
			res := anonymous.do("POST", "/v1/groups/open", "m", forged(n)...)
			_ = res.Body.Close()
			return res.StatusCode == http.StatusTooManyRequests
		})
		other.call(http.StatusCreated, "POST", "/v1/groups/open", "m")
	})
}

func TestALoginCookieOverTheProxyIsSecure(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		r := k.rig(t, quiet)
		c := r.clientAt(t, "127.0.0.1", true)
		res := c.do("POST", "/v1/login", "")
		cookies := res.Cookies()
		if res.StatusCode != http.StatusNoContent || len(cookies) != 1 || cookies[0].Name != "__Host-watchbox_token" || !cookies[0].Secure {
			t.Fatalf("%s %v", res.Status, cookies)
		}
		c.token = "" // from now on the cookie counts
		s, _ := c.listen("/v1/groups/a")
		c.call(http.StatusCreated, "POST", "/v1/groups/a", "m")
		s.next("message")
		c.call(http.StatusNoContent, "DELETE", "/v1/login", "")
		c.call(http.StatusUnauthorized, "POST", "/v1/groups/a", "m")
	})
}

func TestTheHubNoticesThatAClientHasLeft(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		r := k.rig(t, quiet)
		for _, http2 := range []bool{true, false} {
			c := r.clientAt(t, "127.0.0.1", http2)
			s, uid := c.listen("/v1/groups/a")
			s.close()
			eventually(t, "the session is lost", func() bool {
				return strings.Contains(c.call(http.StatusOK, "GET", "/v1/sessions/"+uid, ""), `"state":"lost"`)
			})
		}
	})
}

func TestHeartbeatsKeepAStreamOpen(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		r := k.rig(t, []string{"--heartbeat", "100ms"}, k.idle...)
		c := r.clientAt(t, "127.0.0.1", true)
		first, _ := c.listen("/v1/groups/a")
		second, _ := r.clientAt(t, "127.0.0.1", false).listen("/v1/groups/a")
		heartbeats := 0
		first.events.OnComment = func(string) {
			if heartbeats++; heartbeats == 45 { // longer than three seconds
				c.call(http.StatusCreated, "POST", "/v1/groups/a", "m")
			}
		}
		first.next("message")
		second.next("message")
	})
}

func TestAStreamWithoutHeartbeatsIsCut(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		if !k.cuts {
			return // the proxy has no such timeout
		}
		r := k.rig(t, quiet, k.idle...)
		s, _ := r.clientAt(t, "127.0.0.1", true).listen("/v1/groups/a")
		var err error
		s.timed(func() { _, err = s.events.Read() })
		if err == nil {
			t.Error("the stream has an event")
		}
	})
}

func TestNoMessageIsLostOrRepeatedOverReloadsAndRestarts(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		r := k.rig(t, nil)
		listener, publisher := r.client(t), r.client(t)
		heard := make(chan string, 1000)
		if _, err := listener.Join(t.Context(), "a", func(m client.Message) { heard <- m.Text() }); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		const burst = 20
		for step, action := range []func(){func() { r.change("2") }, r.restart, r.hub.restart} {
			first := step * burst
			sent := make(chan error, 1)
			go func() {
				for i := range burst {
					if _, err := publisher.Publish(ctx, "a", strconv.Itoa(first+i)); err != nil {
						sent <- err
						return
					}
				}
				sent <- nil
			}()
			action()
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			for i := range burst {
				select {
				case got := <-heard:
					if got != strconv.Itoa(first+i) {
						t.Fatalf("received %s, want %d", got, first+i)
					}
				case <-ctx.Done():
					t.Fatalf("%d has not arrived", first+i)
				}
			}
		}
	})
}

// restart ends the proxy and starts it again.
func (r *rig) restart() {
	r.t.Helper()
	r.proxy.stop(r.end)
	r.start()
}

// client returns the Go client, through the proxy.
func (r *rig) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New("https://"+domain, client.WithHTTPClient(r.clientAt(t, "127.0.0.1", true).http),
		client.WithToken(func(context.Context) (string, error) { return r.hub.token, nil }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestNoTokenIsLogged(t *testing.T) {
	each(t, func(t *testing.T, k *kind) {
		r := k.rig(t, append([]string{"--log-level", "debug"}, quiet...))
		c := r.clientAt(t, "127.0.0.1", true)
		c.call(http.StatusCreated, "POST", "/v1/groups/a", "m")
		c.token = ""
		s, uid := c.listen("/v1/groups/a?access_token=" + r.hub.token)
		r.hub.server.await(uid)
		s.close()
		r.proxy.stop(r.end)
		logs := [][]byte{[]byte(r.proxy.output()), []byte(r.hub.server.output())}
		files, err := filepath.Glob(filepath.Join(r.dir, "*.log"))
		for _, name := range files {
			b, readErr := os.ReadFile(name)
			if err = readErr; err == nil {
				logs = append(logs, b)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, log := range logs {
			if bytes.Contains(log, []byte(r.hub.token)) {
				t.Errorf("the token is in a log:\n%s", log)
			}
		}
	})
}
