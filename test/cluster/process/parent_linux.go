package process

import "syscall"

// endsWithParent has the kernel kill the process when the thread that starts it ends.
func endsWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
