package sse

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TCP_USER_TIMEOUT (RFC 5482) would be the obvious way to notice a peer that acknowledges nothing.
// But Linux also applies it to a peer that has closed its receive window, and then closes the
// connection of a client that is alive and only pauses reading (tcp_probe_timer in
// net/ipv4/tcp_timer.c). The kernel can distinguish the two, because a live peer answers its window
// probes. So the Poller queries the kernel (TCP_INFO).

// silentChecks is how many checks in a row have to find a peer silent before the connection is closed. They
// are a quarter of the user timeout apart, so the connection is closed after the timeout or a little later.
const silentChecks = 4

// watchAcks makes the poller check that the written data is acknowledged. The caller holds the connection's
// lock.
func (p *Poller) watchAcks(c *hijacked) {
	if c.checked || p.userTimeout == 0 {
		return
	}
	c.checked, c.silent = true, 0
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unacked = append(p.unacked, c)
	if len(p.unacked) == 1 && p.ep >= 0 {
		p.check.Reset(p.checkEvery())
	}
}

func (p *Poller) checkEvery() time.Duration { return p.userTimeout / silentChecks }

// checkAcks checks all connections with data that was not acknowledged at the last check, or was
// written since. The timer calls it while there are any.
func (p *Poller) checkAcks() {
	p.checking.Lock()
	defer p.checking.Unlock()
	p.mu.Lock()
	list := p.unacked
	p.unacked = nil
	p.mu.Unlock()
	kept := list[:0]
	for _, c := range list {
		pending, gone := c.checkAck(p.checkEvery())
		switch {
		case gone:
			c.ended(syscall.ETIMEDOUT)
		case pending:
			kept = append(kept, c)
		}
	}
	clear(list[len(kept):])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unacked = append(kept, p.unacked...)
	if len(p.unacked) > 0 && p.ep >= 0 {
		p.check.Reset(p.checkEvery())
	}
}

// checkAck reports whether the connection has data that is not acknowledged, and whether its peer
// has been silent for too long.
func (c *hijacked) checkAck(every time.Duration) (pending, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = false
	if c.fd < 0 {
		return false, false
	}
	info, err := unix.GetsockoptTCPInfo(int(c.fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.Unacked == 0 && info.Notsent_bytes == 0 {
		return false, false // it is a Unix socket, or all data is acknowledged
	}
	c.checked = true
	switch answered := time.Duration(info.Last_ack_recv) * time.Millisecond; {
	case answered < every:
		c.silent = 0
	case info.Probes >= 2, info.Retransmits > 0 && answered > time.Duration(info.Rto)*time.Microsecond:
		// The kernel has sent something since and got no answer. Probes of a closed window may be two
		// minutes apart, so the time since the last answer alone is not enough. A live peer may leave one
		// probe unanswered: Linux sends no more than two such answers a second.
		c.silent++
	}
	return true, c.silent >= silentChecks
}
