//go:build !linux && !windows

package process

import "syscall"

// attributes keeps Ctrl-C in a terminal from the process. Only Linux can tie it to its parent.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
