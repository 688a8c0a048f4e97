//go:build unix

package proxies_test

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a running program and its output.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended chan struct{}

	mu    sync.Mutex // guards what follows
	text  bytes.Buffer
	wrote chan struct{} // closed at the next output
}

// start runs a program, which ends with the test.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, ended: make(chan struct{}), wrote: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (make needs installs the proxies)", err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
		if t.Failed() {
			t.Logf("%s:\n%s", cmd.Path, p.output())
		}
	})
	return p
}

// Write implements io.Writer for the program's output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.wrote)
	p.wrote = make(chan struct{})
	return p.text.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// await waits until the program has written a text.
func (p *process) await(text string) {
	p.t.Helper()
	for late := time.After(patience); ; {
		p.mu.Lock()
		found, wrote := strings.Contains(p.text.String(), text), p.wrote
		p.mu.Unlock()
		if found {
			return
		}
		select {
		case <-wrote:
		case <-p.ended:
			p.t.Fatalf("%s has ended:\n%s", p.cmd.Path, p.output())
		case <-late:
			p.t.Fatalf("waiting for %q", text)
		}
	}
}

// stop sends the program a signal and waits for its end.
func (p *process) stop(s syscall.Signal) {
	p.t.Helper()
	p.signal(s)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end", p.cmd.Path)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}
