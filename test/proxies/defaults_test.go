//go:build unix

package proxies_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/client"
	"github.com/watchbox-go/watchbox/internal/freeport"
)

// defaultsOf starts nginx with its default settings and more directives in front of a hub, and returns its address.
func defaultsOf(t *testing.T, h *hub, directives string) string {
	t.Helper()
	dir, addr := tempDir(t), freeport.Addr(t)
	template, err := os.ReadFile("testdata/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "nginx.conf")
	write(t, conf, strings.NewReplacer("DIR", dir, "ADDR", addr, "HUB", h.addr, "MORE", directives).Replace(string(template)))
	start(t, exec.Command("nginx", "-e", "stderr", "-p", dir, "-c", conf))
	eventually(t, "nginx answers", func() bool {
		res, err := http.Get("http://" + addr + "/healthz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return addr
}

// TestGoClientBehindDefaultsOfNginx: nginx passes a stream on because of the hub's header X-Accel-Buffering. If it is told to
// ignore that, it holds streams back by GET and by POST, and the client polls.
func TestGoClientBehindDefaultsOfNginx(t *testing.T) {
	t.Parallel()
	for name, directives := range map[string]string{
		"defaults": "", "that ignore the hub": "proxy_ignore_headers X-Accel-Buffering;",
		"that ignore the hub and cut": "proxy_ignore_headers X-Accel-Buffering; proxy_read_timeout 5s;",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := serve(t, false, quiet...)
			addr := defaultsOf(t, h, directives)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c, err := client.New("http://"+addr, client.WithToken(func(context.Context) (string, error) { return h.token, nil }),
				client.WithMaxDelay(50*time.Millisecond), client.OnGap(func(g client.Gap) { t.Errorf("a gap: %+v", g) }))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			if _, err := c.Publish(ctx, "a", "kept", client.Retain()); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex // guards got
			var got []string
			arrived := make(chan struct{}, 1000)
			began := time.Now()
			if _, err := c.Join(ctx, "a", func(m client.Message) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, m.Text())
				arrived <- struct{}{}
			}); err != nil {
				t.Fatal(err)
			}
			<-arrived
			t.Logf("the first message came after %v", time.Since(began).Round(time.Millisecond))
			want := []string{"kept"}
			for i := range 100 {
				want = append(want, fmt.Sprint(i))
				if _, err := c.Publish(ctx, "a", fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			for range 100 {
				select {
				case <-arrived:
				case <-ctx.Done():
					t.Fatal("messages are missing")
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("got %v", got)
			}
		})
	}
}
