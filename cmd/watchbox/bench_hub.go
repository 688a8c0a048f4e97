package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// hubEnds is how long a hub may take to end before it is killed.
const hubEnds = 20 * time.Second

// withHub runs a hub in a process of its own while f runs. Settings of the environment have no effect on it.
func (b *bench) withHub(ctx context.Context, profile, store string, f func(hubURL) error) (err error) {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe)
	cmd.Args = []string{os.Args[0], "serve", "--listen", "127.0.0.1:0", "--profile", profile, "--log-level", "error"}
	if store == "disk" {
		dir, failed := os.MkdirTemp("", "watchbox-bench-")
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		cmd.Args = append(cmd.Args, "--data-dir", dir)
	}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "WATCHBOX_") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.WaitDelay = hubEnds
	cmd.Cancel = func() error {
		if cmd.Process.Signal(syscall.SIGTERM) == nil {
			return nil
		}
		return cmd.Process.Kill() // on Windows, or if it has ended
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(stderr)
	first, err := lines.ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(first), "watchbox listens on ")
	if !ok || err != nil {
		cancel()
		_ = cmd.Wait() // its message says more
		return fmt.Errorf("the hub does not start: %s", strings.TrimSpace(first))
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(os.Stderr, lines)
	}()
	err = f(hubURL(address))
	cancel()
	<-read
	_ = cmd.Wait() // the error is that it was ended
	return err
}
