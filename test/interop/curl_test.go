package interop_test

import (
	"bufio"
	"context"
	"os/exec"
	"syscall"
	"testing"
)

func TestCurlSurvivesRestarts(t *testing.T) {
	s := serve(t)
	script := snippet(t, "bash", "curl", s)
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
