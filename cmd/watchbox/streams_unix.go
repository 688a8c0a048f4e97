//go:build unix

package main

import "syscall"

// reserved is the number of files that the process needs besides its streams.
const reserved = 256

// defaultStreams returns the number of streams that the limit of open files allows. Go raises it to the hard
// limit at the start.
func defaultStreams() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<24 {
		return 0
	}
	return max(int(l.Cur)-reserved, 1)
}
