package mqtt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/leak"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/disk"
	"github.com/watchbox-go/watchbox/store/memory"
)

// childEnv makes the test binary run a server instead of tests. Its value is the folder of the messages, or memory.
const childEnv = "WATCHBOX_TEST_MQTT_SERVER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := runChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	leak.Main(m)
}

// runChild serves until the standard input ends. It prints its address.
func runChild(dir string) error {
	log, err := openStore(dir)
	if err != nil {
		return err
	}
	h, err := hub.New(log, hub.Defaults())
	if err != nil {
		return err
	}
	s := New(h, Options{MaxKeepAlive: 5 * time.Minute, QueueQoS0: true, Logger: h.Options().Logger, connectTimeout: time.Hour})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = s.Serve(ln) }()
	fmt.Println(ln.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	h.EndStreams("shutdown")
	return errors.Join(s.Close(), h.Close())
}

func openStore(dir string) (store.Store, error) {
	if dir == "memory" {
		return memory.New(memory.Options{MaxMemory: 64 << 20, MaxGroups: 1000}), nil
	}
	return disk.Open(disk.Options{Dir: dir})
}

// child is a server in a process of its own.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	addr  string
}

func startChild(t testing.TB, dir string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+dir, "GORACE=atexit_sleep_ms=0")
	c.cmd.Stderr = os.Stderr
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin = stdin
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c.addr = strings.TrimSpace(line)
	return c
}

// kill ends the process at once.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	_ = c.stdin.Close()
}

// end ends the process in an orderly way.
func (c *child) end() {
	_ = c.stdin.Close()
	_ = c.cmd.Wait()
}
