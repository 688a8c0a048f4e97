package interop_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// loop returns the script of docs/CLIENTS.md with another URL and a shorter wait.
func loop(t *testing.T, url string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/CLIENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(text), "```bash\n")
	script, _, _ = strings.Cut(script, "```")
	script = strings.Replace(script, "http://127.0.0.1:1234/v1/groups/orders", url, 1)
	if !strings.Contains(script, url) || !strings.Contains(script, "sleep 1\n") {
		t.Fatalf("docs/CLIENTS.md has no script that can be tried: %s", script)
	}
	return strings.Replace(script, "sleep 1\n", "sleep 0.1\n", 1)
}

func TestCurlSurvivesRestarts(t *testing.T) {
	s := serve(t)
	script := loop(t, s.url("/v1/groups/a?since=all"))
	survive(t, s, func(c *crowd) {
		each(t, func(ctx context.Context, i int) {
			shell(ctx, t, func(line []byte) { c.hear(i, line) }, "bash", "-c", script)
		})
	})
}

// shell runs a command until the context is done, then kills its process group. It calls says with each line of output.
func shell(ctx context.Context, t *testing.T, says func(line []byte), name string, args ...string) {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Error(name, err)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		says(lines.Bytes())
	}
	if err := cmd.Wait(); ctx.Err() == nil {
		t.Errorf("%s ends: %v", name, err)
	}
}

// number parses the number of a client.
func number(t *testing.T, word string) int {
	n, err := strconv.Atoi(word)
	if err != nil {
		t.Errorf("%q is no number", word)
	}
	return n
}
