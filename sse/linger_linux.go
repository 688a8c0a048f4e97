package sse

import (
	"time"

	"golang.org/x/sys/unix"
)

// linger closes the sending half of a descriptor, and the descriptor later. It returns false if that is not possible.
func (p *Poller) linger(fd int) bool {
	if unix.Shutdown(fd, unix.SHUT_WR) != nil {
		return false
	}
	c := &hijacked{poller: p, fd: int32(fd), early: maxEarly - maxLinger, lingers: true}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.place(c, fd, unix.EPOLL_CTL_MOD) != nil {
		return false
	}
	time.AfterFunc(lingerTimeout, func() { _ = c.Close() })
	return true
}
