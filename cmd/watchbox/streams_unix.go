//go:build unix

package main

import "syscall"

// reserved is how many files the process needs beside its streams.
const reserved = 256

// defaultStreams is what the limit of open files allows (Go raises it to the hard limit at the
// start).
func defaultStreams() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<24 {
		return 0
	}
	return max(int(l.Cur)-reserved, 1)
}
