package delivery_test

import (
	"bytes"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/sse"
	"github.com/watchbox-go/watchbox/store"
)

// fakeConn is a connection in memory. Its client reads everything at once, or nothing.
type fakeConn struct {
	blocking bool
	takes    func(n int) int // how many of n bytes a TryWrite accepts; nil: all
	newest   func() store.Seq
	codec    *windowed // nil: it is an event stream

	mu      sync.Mutex
	stopped bool
	closed  bool
	writes  int
	stuck   int // Writes that wait
	got     []byte
	parser  parser
	changed chan struct{} // closed with each change
}

func newConn(newest func() store.Seq) *fakeConn {
	return &fakeConn{newest: newest, changed: make(chan struct{})}
}

func (c *fakeConn) change() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeConn) take(p []byte) {
	if len(p) > 0 {
		c.writes++
		c.got = append(c.got, p...)
		before := len(c.parser.blocks)
		c.parser.feed(p, c.newest())
		if c.codec != nil {
			c.codec.received(c.parser.blocks[before:])
		}
		c.change()
	}
}

func (c *fakeConn) TryWrite(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, sse.ErrClosed
	case c.stopped || c.blocking:
		return 0, nil
	}
	n := len(p)
	if c.takes != nil {
		n = min(n, c.takes(n))
	}
	c.take(p[:n])
	return n, nil
}

func (c *fakeConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck++
	for c.stopped && !c.closed {
		c.change()
		c.sleep()
	}
	c.stuck--
	if c.closed {
		return 0, sse.ErrClosed
	}
	c.take(p)
	return len(p), nil
}

// sleep releases the lock until another goroutine changes something.
func (c *fakeConn) sleep() {
	changed := c.changed
	c.mu.Unlock()
	<-changed
	c.mu.Lock()
}

func (c *fakeConn) Blocking() bool { return c.blocking }

func (c *fakeConn) Serve() {}

func (c *fakeConn) Watch(func(error)) {}

func (c *fakeConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.change()
	}
	return nil
}

// read makes the client read, or stop reading.
func (c *fakeConn) read(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = !on
	c.change()
}

// blocks returns the blocks received so far.
func (c *fakeConn) blocks() []block {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parser.blocks
}

func (c *fakeConn) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.got)
}

// patience is how long to wait for an event: long enough for a busy machine.
const patience = 2 * time.Minute

// await waits until ok returns true, which it calls with the lock held, or fails the test.
func (c *fakeConn) await(t tester, what string, ok func() bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !ok() {
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-late.C:
			c.mu.Lock()
			t.Fatalf("no sign of %s; the last of %d blocks: %+v", what, len(c.parser.blocks), c.parser.last())
		}
		c.mu.Lock()
	}
}

// awaitSeq waits until a block with an id at or above seq is received.
func (c *fakeConn) awaitSeq(t tester, seq store.Seq) {
	t.Helper()
	c.await(t, "the newest message", func() bool { return c.parser.last().seq >= seq })
}
