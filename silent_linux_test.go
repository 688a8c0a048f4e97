package watchbox_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

// TestLostLinkIsNoticed runs curl in a network namespace and then removes the namespace's address: no
// connection is closed, and nothing answers. The kernel gives up on heartbeats that are not acknowledged
// (TCP_USER_TIMEOUT).
func TestLostLinkIsNoticed(t *testing.T) {
	far := newLink(t)
	addr := make(chan string, 1)
	h, err := watchbox.New(watchbox.WithOpenToAnyone(), watchbox.WithHeartbeat(200*time.Millisecond),
		watchbox.WithSessionTimeout(500*time.Millisecond), watchbox.WithListening(func(a net.Addr) { addr <- a.String() }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx, far.near+":0", nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	events := newEvents(t)
	events.register(h)
	uid := make(chan string, 1)
	h.OnConnect(func(s watchbox.Session) { uid <- s.UID })
	curl := exec.Command("ip", "netns", "exec", far.name, "curl", "-sN", "http://"+<-addr+"/v1/groups/foo")
	if err := curl.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = curl.Process.Kill(); _ = curl.Wait() })
	who := <-uid
	events.want(who, "connect, join foo")
	far.silence()
	events.want(who, "connect, join foo, disconnect timeout")
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
