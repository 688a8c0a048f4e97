//go:build !windows

// Package process runs programs that can be killed, paused and started again. On Linux they end when the program that
// started them ends, however it ends.
package process

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Process is a running program. Its methods may be called at once, also after it has ended.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait; valid once done is closed
}

// Start runs a program. It appends stdout and stderr to the file logFile.
func Start(logFile, program string, args ...string) (*Process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = attributes()
	if err := start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Kill ends the process at once (SIGKILL) and returns when it has ended.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end (SIGTERM), also if it is paused, and returns when it has ended. The error says how it
// ended, unless the status was 0.
func (p *Process) Stop() error {
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT)
	<-p.done
	return p.err
}

// Pause stops the process's clock (SIGSTOP): its sockets stay open, but it does nothing until Continue.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Continue continues a paused process.
func (p *Process) Continue() { p.signal(syscall.SIGCONT) }

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Pid returns the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

func (p *Process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // os.ErrProcessDone: it has ended
}

// The kernel ends a child when the thread that started it ends. Therefore one thread, which never ends, starts all.
var (
	starter  sync.Once
	requests chan request
)

type request struct {
	cmd   *exec.Cmd
	reply chan error
}

func start(cmd *exec.Cmd) error {
	starter.Do(func() {
		requests = make(chan request)
		go starting()
	})
	r := request{cmd, make(chan error)}
	requests <- r
	return <-r.reply
}

// starting starts processes for as long as this program runs.
func starting() {
	runtime.LockOSThread()
	for r := range requests {
		r.reply <- r.cmd.Start()
	}
}
