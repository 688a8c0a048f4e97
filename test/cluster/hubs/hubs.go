//go:build !windows

// Package hubs runs watchbox serve processes that share a log on NATS servers, or one that keeps it in memory.
package hubs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/watchbox-go/watchbox/internal/freeport"
	"github.com/watchbox-go/watchbox/test/cluster/process"
)

// Hub is one watchbox serve process. It keeps its address when it is started again.
type Hub struct {
	*process.Process
	Name string // h1, h2, …
	URL  string // without a slash at its end
	MQTT string // address for MQTT, if it serves that

	program, logFile string
	args             []string
}

// Build builds watchbox of this repository and returns the path of the program in dir. The current directory must be
// in a module below the repository's root.
func Build(dir string) (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/watchbox-go/watchbox").Output()
	if err != nil {
		return "", fmt.Errorf("find the module of watchbox: %w", err)
	}
	program := filepath.Join(dir, "watchbox")
	if out, err := exec.Command("go", "build", "-C", strings.TrimSpace(string(root)), "-o", program, "./cmd/watchbox").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build watchbox: %w: %s", err, out)
	}
	return program, nil
}

// Start starts a hub with arguments for watchbox serve, besides its address. The argument {mqtt} is replaced with the
// address for MQTT. Start returns before the hub is ready. The log is in dir.
func Start(program, dir, name string, args ...string) (*Hub, error) {
	addr, err := freeport.Find()
	if err != nil {
		return nil, err
	}
	h := &Hub{Name: name, URL: "http://" + addr, program: program, logFile: filepath.Join(dir, name+".log"),
		args: append([]string{"serve", "--listen", addr}, args...)}
	if i := slices.Index(h.args, "{mqtt}"); i >= 0 {
		if h.MQTT, err = freeport.Find(); err != nil {
			return nil, err
		}
		h.args[i] = h.MQTT
	}
	return h, h.run()
}

func (h *Hub) run() (err error) {
	h.Process, err = process.Start(h.logFile, h.program, h.args...)
	return err
}

// Restart starts a hub that has ended, and returns when it is ready.
func (h *Hub) Restart() error {
	<-h.Done()
	if err := h.run(); err != nil {
		return err
	}
	return h.Ready()
}

// Ready returns when the hub says that it is ready.
func (h *Hub) Ready() error {
	if err := h.Process.Ready(h.URL + "/readyz"); err != nil {
		return fmt.Errorf("%s: %w: %s", h.Name, err, h.Log())
	}
	return nil
}

// Log returns what the hub has logged, or why that cannot be read.
func (h *Hub) Log() string {
	log, err := os.ReadFile(h.logFile)
	if err != nil {
		return err.Error()
	}
	return string(log)
}
