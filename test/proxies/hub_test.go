//go:build unix

package proxies_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/watchbox-go/watchbox/internal/freeport"
)

// hub is a hub with the settings of the page, in a process of its own.
type hub struct {
	t      *testing.T
	addr   string // HOST:PORT, or unix:/PATH
	env    []string
	flags  []string
	token  string // allows everything
	server *process
}

// serve starts a hub that ends with the test. It has one address, also when it is started again.
func serve(t *testing.T, unix bool, flags ...string) *hub {
	t.Helper()
	dir := tempDir(t)
	h := &hub{t: t, addr: freeport.Addr(t), flags: flags}
	if unix {
		h.addr = "unix:" + filepath.Join(dir, "hub.sock")
	}
	settings := edit(t, block(t, "/etc/watchbox/watchbox.env", "TRUSTED_PROXY"),
		change{"unix:/run/watchbox/hub.sock", h.addr}, change{"/var/lib/watchbox", dir})
	h.env = append(strings.Fields(strings.TrimPrefix(settings, "# /etc/watchbox/watchbox.env\n")), "WATCHBOX_DATA_DIR="+dir)
	out, err := exec.Command(watchbox, "token", "create", "anna", "--admin", "--subscribe", "#", "--publish", "#",
		"--token-file", filepath.Join(dir, "tokens.json")).Output()
	if err != nil {
		t.Fatal(err)
	}
	h.token = strings.TrimSpace(string(out))
	h.start()
	return h
}

func (h *hub) start() {
	h.t.Helper()
	cmd := exec.Command(watchbox, append([]string{"serve", "--retry", "20ms"}, h.flags...)...)
	cmd.Env = h.env
	h.server = start(h.t, cmd)
	h.server.await("watchbox listens on")
}

// restart ends the hub and starts it again.
func (h *hub) restart() {
	h.t.Helper()
	h.server.stop(syscall.SIGTERM)
	h.start()
}

// tempDir returns a folder whose path is short enough for a Unix socket, and that every user may enter.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hub")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
