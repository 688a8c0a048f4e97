package watchbox_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/internal/listen/certtest"
)

// TestLostLinkIsNoticed runs curl in a network namespace and then removes the namespace's address: no
// connection is closed, and nothing answers. Over HTTP/1.1 the hub finds heartbeats that are not acknowledged, and
// over HTTP/2 a ping without an answer.
func TestLostLinkIsNoticed(t *testing.T) {
	for _, wire := range []struct {
		name, scheme, curl, reason string
	}{
		{"HTTP/1.1", "http", "--http1.1", "timeout"},
		{"TLS, HTTP/1.1", "https", "--http1.1", "timeout"},
		{"TLS, HTTP/2", "https", "--http2", "closed"},
		{"h2c", "http", "--http2-prior-knowledge", "closed"},
	} {
		t.Run(wire.name, func(t *testing.T) {
			far := newLink(t)
			opts := []watchbox.Option{watchbox.WithOpenToAnyone(), watchbox.WithHeartbeat(200 * time.Millisecond), watchbox.WithSessionTimeout(500 * time.Millisecond)}
			if wire.scheme == "https" {
				cert, key, _ := certtest.Files(t)
				opts = append(opts, watchbox.WithTLS(cert, key))
			} else {
				opts = append(opts, watchbox.WithH2C())
			}
			connected := make(chan string, 1)
			h, addr := runAt(t, far.near+":0", opts...)
			events := newEvents(t)
			events.register(h)
			h.OnConnect(func(s watchbox.Session) { connected <- s.UID })
			curl := exec.Command("ip", "netns", "exec", far.name, "curl", "-skN", wire.curl, wire.scheme+"://"+addr.String()+"/v1/groups/foo")
			if err := curl.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = curl.Process.Kill(); _ = curl.Wait() })
			who := <-connected
			events.want(who, "connect, join foo")
			far.silence()
			events.want(who, "connect, join foo, disconnect "+wire.reason)
		})
	}
}

// link is a network link between this network namespace and another.
type link struct {
	*testing.T
	name, near, far string
}

// newLink makes a link. It skips the test without root.
func newLink(t *testing.T) *link {
	t.Helper()
	n := os.Getpid() % 250
	l := &link{t, fmt.Sprint("watchbox", n), fmt.Sprintf("10.213.%d.1", n), fmt.Sprintf("10.213.%d.2", n)}
	if out, err := exec.Command("ip", "netns", "add", l.name).CombinedOutput(); err != nil {
		t.Skipf("this machine allows no network namespaces: %v %s", err, out)
	}
	t.Cleanup(func() { l.ip("netns", "del", l.name) })
	l.ip("link", "add", l.name, "type", "veth", "peer", "name", "far", "netns", l.name)
	t.Cleanup(func() { l.ip("link", "del", l.name) })
	l.ip("addr", "add", l.near+"/30", "dev", l.name)
	l.ip("link", "set", l.name, "up")
	l.ip("-n", l.name, "addr", "add", l.far+"/30", "dev", "far")
	l.ip("-n", l.name, "link", "set", "far", "up")
	return l
}

func (l *link) ip(args ...string) {
	l.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.Fatalf("ip %s: %s", strings.Join(args, " "), out)
	}
}

// silence removes the far end's address. Packets to it are dropped.
func (l *link) silence() {
	l.Helper()
	l.ip("-n", l.name, "addr", "del", l.far+"/30", "dev", "far")
}
