//go:build !linux && !windows

package process

import "syscall"

// endsWithParent has no effect: only Linux can tie a process to its parent.
func endsWithParent() *syscall.SysProcAttr { return nil }
