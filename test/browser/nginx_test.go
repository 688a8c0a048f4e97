package browser_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/freeport"
)

// nginx starts nginx with its default settings and more directives in front of a server, and returns its URL.
func nginx(t *testing.T, s *server, directives string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nginx")
	if err != nil {
		t.Fatal(err)
	}
	addr, conf := freeport.Addr(t), filepath.Join(dir, "nginx.conf")
	template, err := os.ReadFile("../proxies/testdata/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	// The page may use the hub only under the name that the browser sends.
	text := strings.NewReplacer("DIR", dir, "ADDR", addr, "HUB", s.addr, "MORE", "proxy_set_header Host $http_host; "+directives).Replace(string(template))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/nginx", "-e", "stderr", "-p", dir, "-c", conf)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (make needs installs nginx)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
		if t.Failed() {
			t.Log(output.String())
		}
	})
	for end := time.Now().Add(patience); ; {
		res, err := http.Get("http://" + addr + "/healthz")
		if err == nil {
			_ = res.Body.Close()
			return "http://" + addr
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestPageBehindDefaultsOfNginx: nginx passes a stream on because of the hub's header X-Accel-Buffering. If it is told to
// ignore that, it holds streams back by GET and by POST, and the page polls.
func TestPageBehindDefaultsOfNginx(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		directives string
		way        int
	}{
		"defaults": {"", 0}, "that ignore the hub": {"proxy_ignore_headers X-Accel-Buffering;", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{})
			p := openTestPage(t, nginx(t, s, c.directives), "/")
			p.do("%s", clientKinds["watchbox.js"])
			var want []any
			for i := range 50 {
				want = append(want, i)
				s.publish("b/c", i)
			}
			p.receivedMessages(want...)
			p.receivedEvents("gap")
			p.until("%s === %d", rememberedWay, c.way)
		})
	}
}
