//go:build linux

package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = time.Minute

// command builds this command and starts it. It returns the address of its server.
func command(t *testing.T) (cmd *exec.Cmd, addr string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "natsserver")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd = exec.Command(program, t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimPrefix(strings.TrimSpace(line), "nats://")
}

func TestTheServerEndsWithTheCommand(t *testing.T) {
	for name, end := range map[string]func(*exec.Cmd) error{
		"killed":      func(cmd *exec.Cmd) error { return cmd.Process.Kill() },
		"interrupted": func(cmd *exec.Cmd) error { return cmd.Process.Signal(os.Interrupt) },
	} {
		t.Run(name, func(t *testing.T) {
			cmd, addr := command(t)
			if err := end(cmd); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			closed(t, addr)
		})
	}
}

// closed waits until nothing listens on addr.
func closed(t *testing.T, addr string) {
	t.Helper()
	for late := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		_ = c.Close()
		if time.Now().After(late) {
			t.Fatalf("the server still listens on %s", addr)
		}
	}
}
