//go:build unix

package watchbox_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/freeport"
)

// These tests run the examples of docs/EMBEDDING.md unchanged except for the port.

// startExample runs a program of docs/EMBEDDING.md and returns its place.
func startExample(t *testing.T, has, ready string) (*exec.Cmd, *place) {
	t.Helper()
	addr := freeport.Addr(t)
	cmd := exec.Command(build(t, strings.ReplaceAll(exampleIn(t, "docs/EMBEDDING.md", "go", has), "127.0.0.1:8080", addr)))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(patience); ; {
		if _, err := fetch("http://" + addr + ready); err == nil {
			return cmd, at(t, addr)
		}
		if time.Now().After(deadline) {
			t.Fatal("the program does not serve")
		}
	}
}

func TestEmbeddingInAServerOfTheProgram(t *testing.T) {
	cmd, p := startExample(t, "RegisterOnShutdown", "/hub/healthz")
	l := p.listen("/hub/v1/groups/foo", "")
	p.wants(201, "POST /hub/v1/groups/foo", "hello")
	l.gets(`"hello"`)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if ev := l.next(); ev.Type != "bye" {
		t.Errorf("the stream ends with %s", ev.Type)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program: %v", err)
	}
}

func TestEmbeddingBehindMiddleware(t *testing.T) {
	_, p := startExample(t, "withTicket", "/healthz?ticket=one-that-is-valid")
	p.wants(401, "GET /v1/groups", "")
	p.listen("/v1/groups/foo?ticket=one-that-is-valid&utm_source=x", "", "Origin", "http://localhost:3000")
	p.wants(204, "OPTIONS /v1/groups/foo", "", "Origin", "https://app.example.org", "Access-Control-Request-Method", "POST")
	p.refused(403, "origin-not-allowed", "GET /v1/groups?ticket=one-that-is-valid", "", "Origin", "https://evil.test")
}
