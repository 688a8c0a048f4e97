//go:build unix

package watchbox_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/freeport"
)

// These tests run the examples of the README unchanged except for the port. The one for browsers is in
// test/browser.

// example returns the README's block of a language that contains a text.
func example(t *testing.T, language, has string) string {
	t.Helper()
	return exampleIn(t, "README.md", language, has)
}

// exampleIn is like example, for any document.
func exampleIn(t *testing.T, name, language, has string) string {
	t.Helper()
	readme, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(m[1], has) {
			return m[1]
		}
	}
	t.Fatalf("%s has no %s block with %q", name, language, has)
	return ""
}

// command starts a process. The end of the test kills it and its children.
func command(t *testing.T, name string, args ...string) (out io.Reader, wait func() error) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	r, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	late := time.AfterFunc(patience, kill)
	t.Cleanup(func() { late.Stop(); kill(); _ = cmd.Wait() })
	return r, cmd.Wait
}

// expect reads lines until one contains the text.
func expect(t *testing.T, out *bufio.Reader, text string) {
	t.Helper()
	for {
		line, err := out.ReadString('\n')
		if strings.Contains(line, text) {
			return
		}
		if err != nil {
			t.Fatalf("waiting for %q: %v", text, err)
		}
	}
}

func TestReadmeCurl(t *testing.T) {
	_, addr := serve(t)
	block := strings.ReplaceAll(example(t, "sh", "curl -N"), "127.0.0.1:1234", addr)
	listen, send, ok := strings.Cut(block, "&\n")
	if !ok {
		t.Fatalf("the example no longer has a command that listens and one that sends: %s", block)
	}
	out, _ := command(t, "sh", "-c", "exec "+listen)
	lines := bufio.NewReader(out)
	expect(t, lines, "event: session")
	_, wait := command(t, "sh", "-c", send)
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	expect(t, lines, `"msg":"the kettle is on"`)
}

func TestReadmeScripts(t *testing.T) {
	_, addr := serve(t)
	bin := filepath.Join(t.TempDir(), "watchbox")
	if out, err := exec.Command("go", "build", "-o", bin, "./cmd/watchbox").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv("PATH", filepath.Dir(bin)+":"+os.Getenv("PATH"))
	t.Setenv("WATCHBOX_URL", "http://"+addr)
	out, wait := command(t, "sh", "-ec", example(t, "sh", "watchbox pub"))
	text, err := io.ReadAll(out)
	if err != nil || string(text) != "the kettle is on\n" {
		t.Errorf("printed %q, %v", text, err)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
}

func TestReadmeGo(t *testing.T) {
	addr := freeport.Addr(t)
	command(t, build(t, strings.ReplaceAll(example(t, "go", "hub.Run"), "127.0.0.1:8080", addr)))
	for deadline := time.Now().Add(patience); ; {
		body, err := fetch("http://" + addr + "/hub/v1/history/home/kitchen")
		if strings.Contains(body, `"msg":{"celsius":93}`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q, %v", body, err)
		}
	}
}

func TestReadmeGoClient(t *testing.T) {
	_, addr := serve(t)
	out, wait := command(t, build(t, strings.ReplaceAll(example(t, "go", "client.New"), "127.0.0.1:1234", addr)))
	text, err := io.ReadAll(out)
	if err := errors.Join(err, wait()); err != nil || string(text) != "home/kitchen the kettle is on\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// build compiles a program and returns its path.
func build(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	main, bin := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(main, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", bin, main).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

func fetch(url string) (string, error) {
	res, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close() //nolint:errcheck // the body was read
	b, err := io.ReadAll(res.Body)
	return string(b), err
}
