package sse

import (
	"time"

	"golang.org/x/sys/unix"
)

// The kernel resets a connection that is closed while input is unread, or when more arrives later. The reset may
// overtake the last bytes that were written, or the other side notices it before it reads them. So the sending half is closed
// first, and input is discarded until the other side has closed its half.

const (
	lingerTimeout = time.Second // how long the other side may take to close its half
	maxLinger     = 4 << 20     // how many bytes of it are discarded
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
