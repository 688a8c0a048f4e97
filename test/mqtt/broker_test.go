//go:build !windows

package mqtt_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/freeport"
	"github.com/watchbox-go/watchbox/test/cluster/process"
)

// patience is how long something may take that must happen.
const patience = time.Minute

// broker is a hub, or mosquitto. It keeps its addresses when it is started again.
type broker struct {
	*process.Process
	t    testing.TB
	addr string // of its MQTT listener
	url  string // of the hub's HTTP API; "" for mosquitto
	ws   string // address of its WebSockets

	command []string
	log     string
}

// serve starts what is under test: a hub with these flags, or mosquitto, which keeps its sessions and messages on
// disk when it is stopped. It ends with the test.
func serve(t testing.TB, flags ...string) *broker {
	t.Helper()
	if !reference {
		return hub(t, flags...)
	}
	sockets := freeport.Addr(t)
	b := &broker{t: t, addr: freeport.Addr(t), ws: "ws://" + sockets}
	dir := t.TempDir()
	conf := filepath.Join(dir, "mosquitto.conf")
	listen := func(addr string) string { return "listener " + strings.TrimPrefix(addr, "127.0.0.1:") + " 127.0.0.1" }
	lines := []string{
		"allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0", "user root", // 0: no limit
		"persistence true", "persistence_location " + dir + "/",
		listen(b.addr), listen(sockets), "protocol websockets",
	}
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.command = []string{"mosquitto", "-c", conf}
	return b.begin()
}

// hub starts a hub with these flags. The test is skipped if another broker is under test.
func hub(t testing.TB, flags ...string) *broker {
	t.Helper()
	if reference {
		t.Skip("only a hub can do this")
	}
	listen := freeport.Addr(t)
	b := &broker{t: t, addr: freeport.Addr(t), url: "http://" + listen, ws: "ws://" + listen + "/mqtt"}
	b.command = append([]string{program, "serve", "--listen", listen, "--mqtt", b.addr}, flags...)
	return b.begin()
}

func (b *broker) begin() *broker {
	b.t.Helper()
	b.log = filepath.Join(b.t.TempDir(), "log")
	b.t.Cleanup(func() {
		b.Kill()
		if log, err := os.ReadFile(b.log); b.t.Failed() && err == nil {
			b.t.Logf("log of the broker:\n%s", log)
		}
	})
	b.start()
	return b
}

// start starts the broker, and returns when it is ready.
func (b *broker) start() {
	b.t.Helper()
	var err error
	if b.Process, err = process.Start(b.log, b.command[0], b.command[1:]...); err != nil {
		b.t.Fatal(err)
	}
	if b.url != "" {
		err = b.Ready(b.url + "/readyz")
	} else {
		err = b.accepts()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// accepts returns when the broker accepts connections.
func (b *broker) accepts() error {
	for deadline := time.After(patience); ; {
		c, err := net.Dial("tcp", b.addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-b.Done():
			return fmt.Errorf("%s has ended", b.command[0])
		case <-deadline:
			return err
		case <-time.After(20 * time.Millisecond): // it can only be asked
		}
	}
}

// restart stops the broker in an orderly way, and starts it again.
func (b *broker) restart() {
	b.t.Helper()
	if err := b.Stop(); err != nil {
		b.t.Error(err)
	}
	b.start()
}

func (b *broker) dial() net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// receive waits for a value.
func receive[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("timed out")
	}
	return v
}
