//go:build unix

// Package proxies_test runs the proxy configurations of docs/DEPLOYING.md with nginx, Caddy and Traefik in front of a
// hub.
package proxies_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/leak"
)

// patience is how long a test waits for one event.
const patience = 2 * time.Minute

// watchbox is the path of the program.
var watchbox string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "proxies")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	watchbox = filepath.Join(dir, "watchbox")
	if out, err := exec.Command("go", "-C", "../..", "build", "-o", watchbox, "./cmd/watchbox").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %s", err, out)
		return 1
	}
	code := m.Run()
	if err := leak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
