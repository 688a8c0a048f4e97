package main

import (
	"io"
	"net"
	"os/exec"
	"syscall"
	"testing"
)

// TestAHubThatStartsCanBeStopped has a hub that waits for a NATS server which says nothing.
func TestAHubThatStartsCanBeStopped(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	hub := exec.Command("watchbox", "serve", "--listen", "127.0.0.1:0", "--nats", "nats://"+l.Addr().String())
	hub.Env = append(hub.Environ(), "GORACE="+noNap)
	out, err := hub.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := hub.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(out)
	if err := hub.Wait(); err != nil {
		t.Errorf("%v: %s", err, text)
	}
}
