package process

import "syscall"

// attributes has the kernel kill the process when the thread that starts it ends, and keeps Ctrl-C in a terminal from it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
