package sse

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Poller notices when the other side closes a hijacked connection, or acknowledges nothing any more. It
// has one goroutine for all connections, which Close ends. It has its own epoll instance, because the
// runtime's would need a goroutine for each connection. The runtime's instance watches only the poller's:
// an additional thread that waits in epoll_wait would cost more for each event.
type Poller struct {
	file        *os.File // the epoll instance
	userTimeout time.Duration
	raw         syscall.RawConn
	start       sync.Once // of the goroutine, with the first connection
	done        chan struct{}
	close       func() error

	check    *time.Timer // calls checkAcks while unacked has any
	checking sync.Mutex  // held by checkAcks, which may take longer than the time to the next

	mu      sync.Mutex // guards what follows
	ep      int        // -1: closed
	slots   []pollSlot
	free    []int32
	unacked []*hijacked // with data that may not be acknowledged
}

// pollSlot is a connection that is watched. epoll's event data has the slot's number and its turn, which
// counts the connections that have used the slot. An event of an earlier connection has an older turn and
// is dropped.
type pollSlot struct {
	conn     *hijacked
	writable chan struct{} // closed when the connection can be written to, or is closed; nil if no Write waits
	turn     int32
}

// NewPoller starts a poller. If the other side of a connection acknowledges nothing for the user
// timeout, the poller closes the connection with an error whose Timeout method returns true. A client
// that is alive and does not read is not closed. 0 leaves all of this to the operating system.
func NewPoller(userTimeout time.Duration) (*Poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(ep, true); err != nil { // otherwise the runtime would not watch the file
		return nil, errors.Join(err, unix.Close(ep))
	}
	p := &Poller{file: os.NewFile(uintptr(ep), "epoll"), ep: ep, userTimeout: userTimeout, done: make(chan struct{})}
	p.close = sync.OnceValue(p.end)
	p.check = time.AfterFunc(time.Hour, p.checkAcks)
	p.check.Stop()
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	return p, nil
}

// Close ends the poller's goroutine and waits for it. Connections stay open, but the poller does not
// watch them any more: a Write that waits continues to wait until the connection is closed, and a later one to a full
// connection fails.
func (p *Poller) Close() error {
	if p == nil {
		return nil
	}
	return p.close()
}

func (p *Poller) end() error {
	if err := p.file.SetReadDeadline(time.Now()); err != nil {
		return err
	}
	p.start.Do(func() { close(p.done) }) // it had no connection
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ep = -1
	p.check.Stop()
	return p.file.Close()
}

func (p *Poller) run() {
	defer close(p.done)
	events := make([]unix.EpollEvent, 128)
	junk := make([]byte, 4<<10)
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0)
			return n > 0 // otherwise Read waits for events
		})
		if err != nil {
			return // Close
		}
		for _, ev := range events[:n] {
			c := p.conn(ev)
			if c == nil {
				continue
			}
			if ev.Events&unix.EPOLLOUT != 0 {
				p.wake(c)
			}
			c.handle(ev.Events, junk)
		}
		runtime.Gosched() // let what was woken read before more is woken
	}
}

// watchedEvents are the events that every connection is watched for.
const watchedEvents = unix.EPOLLIN | unix.EPOLLRDHUP

// events returns the events that the connection is always watched for.
func (c *hijacked) events() uint32 {
	if c.socket != nil {
		return watchedEvents | unix.EPOLLET
	}
	return watchedEvents
}

// add starts to watch a connection's descriptor.
func (p *Poller) add(c *hijacked, fd int) error {
	p.start.Do(func() { go p.run() })
	return p.place(c, fd, unix.EPOLL_CTL_ADD)
}

// place gives a connection a slot. op is what to do with its descriptor.
func (p *Poller) place(c *hijacked, fd, op int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		p.free = append(p.free, int32(len(p.slots)))
		p.slots = append(p.slots, pollSlot{})
	}
	c.slot = p.free[len(p.free)-1]
	s := &p.slots[c.slot]
	ev := unix.EpollEvent{Events: c.events(), Fd: c.slot, Pad: s.turn}
	if err := unix.EpollCtl(p.ep, op, fd, &ev); err != nil {
		return err
	}
	p.free = p.free[:len(p.free)-1]
	s.conn = c
	return nil
}

// remove stops watching a connection. Its lock is held, and its descriptor is closed next.
func (p *Poller) remove(c *hijacked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.slots[c.slot]
	if s.writable != nil {
		close(s.writable)
		s.writable = nil
	}
	s.conn = nil
	s.turn++
	p.free = append(p.free, c.slot)
}

// wait returns when the connection can be written to, or is closed.
func (p *Poller) wait(c *hijacked) error {
	writable, err := p.writable(c)
	if err != nil {
		return err
	}
	<-writable
	return nil
}

func (p *Poller) writable(c *hijacked) (<-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil, ErrClosed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.watch(c, unix.EPOLLOUT); err != nil {
		return nil, err
	}
	s := &p.slots[c.slot]
	if s.writable == nil {
		s.writable = make(chan struct{})
	}
	return s.writable, nil
}

// watchWritable makes the poller call wake when the connection can be written to. The caller holds the
// connection's lock.
func (p *Poller) watchWritable(c *hijacked) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watch(c, unix.EPOLLOUT)
}

// watch changes the events that the connection is watched for besides those that it is always watched for. The caller holds
// the connection's lock and p.mu.
func (p *Poller) watch(c *hijacked, also uint32) error {
	ev := unix.EpollEvent{Events: c.events() | also, Fd: c.slot, Pad: p.slots[c.slot].turn}
	return unix.EpollCtl(p.ep, unix.EPOLL_CTL_MOD, int(c.fd), &ev)
}

// wake sends the connection's unsent bytes, and wakes the Write that waits for the connection.
func (p *Poller) wake(c *hijacked) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return // closed: no Write waits any more
	}
	if c.secure != nil && c.secure.flush() == nil && len(c.secure.unsent) > 0 {
		return // it is still watched
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.watch(c, 0); err != nil {
		return // it will be woken again
	}
	if s := &p.slots[c.slot]; s.writable != nil {
		close(s.writable)
		s.writable = nil
	}
}

func (p *Poller) conn(ev unix.EpollEvent) *hijacked {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slots[ev.Fd]; s.turn == ev.Pad {
		return s.conn
	}
	return nil
}
