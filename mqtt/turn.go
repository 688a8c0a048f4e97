package mqtt

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/watchbox-go/watchbox/internal/hub"
)

// input is the reading side of a connection. When something arrives, a turn reads and handles it, on a goroutine of
// its own. Between two turns, a connection has no goroutine, and no buffer unless a part of a packet has arrived.
type input struct {
	wake     func()      // begins a turn
	turns    atomic.Bool // a turn runs, or is about to begin; also set when the connection has ended
	part     []byte      // of a packet that has not arrived completely
	ahead    []byte      // has arrived while the client waits for its session
	arriving *arriving   // that packet; nil: there is none
	unheard  unheard     // memory of part, while it is of a CONNECT

	giveUp atomic.Pointer[context.CancelFunc] // ends that the turn waits for memory; nil: it does not
}

// arriving is a packet that has not arrived completely.
type arriving struct {
	size  int64       // bytes that the hub counts for it; 0: none, because it is small
	late  *time.Timer // closes the connection if the packet does not arrive fast enough; nil: not yet
	paced int         // bytes of it that had arrived when late was set
}

// turn has what a connection needs while it handles packets.
type turn struct {
	pk    packets.Packet
	batch batch
	buf   [readBuffer]byte
}

// readBuffer is how many bytes are read at once, unless a packet is larger: what a connection may hold without counting it.
const readBuffer = hub.FreeBytes

var turns = sync.Pool{New: func() any { return new(turn) }}

// mediums are buffers for packets that are a little larger, while these are counted. Without them, messages of 12 KB took a fifth
// more CPU.
var mediums = sync.Pool{New: func() any { return new([mediumBuffer]byte) }}

const mediumBuffer = 2 * readBuffer

// begin begins a turn, unless one runs.
func (c *conn) begin() {
	if c.turns.CompareAndSwap(false, true) {
		c.server.workers.run(c)
	}
}

// turn reads and handles what has arrived. The last turn ends the session.
func (c *conn) turn() {
	err := c.read()
	if err == nil {
		c.turns.Store(false)
		c.socket.Readable(c.wake)
		if c.isClosed() || c.leaving.Load() != nil || c.regrant.Load() != nil { // meanwhile, and nothing may arrive any more
			c.begin()
		}
		return
	}
	if code, ok := errors.AsType[packets.Code](err); ok {
		switch {
		case c.session != nil:
			c.bye(c.disconnect(code))
		case c.version != 0 && !c.heard.Load(): // otherwise it knows
			c.bye(c.refusal(code))
		}
	}
	c.finish(err)
	c.server.forget(c)
}

// read reads and handles packets until nothing is left. An error is the end of the connection.
func (c *conn) read() error {
	t := turns.Get().(*turn)
	defer func() { turns.Put(t) }()
	b := c.part
	if len(b) <= len(t.buf)/2 {
		b = append(t.buf[:0], b...)
	}
	c.part = nil
	leaving := c.leaving.Load()
	if leaving != nil {
		c.socket.Expect()
	}
	for {
		if g := c.regrant.Swap(nil); g != nil && c.session != nil {
			c.session.regrant(g)
		}
		if len(b) == cap(b) { // a packet is larger
			b = slices.Grow(b, min(3*len(b), c.readLimit()-len(b)))
		}
		n, err := c.tryRead(b[len(b):min(cap(b), c.readLimit())])
		if n == 0 && err == nil {
			if leaving != nil {
				return *leaving
			}
			c.keep(t, b)
			if c.session == nil { // a CONNECT has a deadline of its own
				return c.unheard.hold(c.server, cap(c.part))
			}
			if len(b) > 0 {
				c.pace(len(b))
			}
			return nil
		}
		b = b[:len(b)+n]
		used := 0
		if n > 0 {
			used, err = c.handle(t, b)
			if failed := c.flush(); err == nil {
				err = failed
			}
		}
		if used > 0 {
			rest := append(t.buf[:0], b[used:]...) // a larger buffer is not counted any more
			if cap(b) == mediumBuffer {
				mediums.Put((*[mediumBuffer]byte)(b[:mediumBuffer]))
			}
			b = rest
			c.drop()
			_ = c.unheard.hold(c.server, 0)
		}
		need := int64(0)
		if err == nil {
			need, err = c.needs(b)
		}
		if err == nil && need > 0 && !c.takeNow(need) {
			rest := slices.Clone(b)
			turns.Put(t) // what it holds is not counted, and others need not wait
			err = c.take(need)
			t = turns.Get().(*turn)
			b = append(t.buf[:0], rest...)
		}
		if err == nil && need > 0 && need <= mediumBuffer {
			b = append(mediums.Get().(*[mediumBuffer]byte)[:0], b...)
		}
		if err != nil {
			return err
		}
		if used > 0 && c.session != nil {
			_ = c.server.hub.SignOfLife(c.uid(), c.session.grant) // an error: its stream has ended
		}
	}
}

// readLimit returns how many bytes may be held of what arrives.
func (c *conn) readLimit() int {
	switch {
	case c.session == nil:
		return maxConnect
	case c.arriving != nil && c.arriving.size > 0:
		return int(c.arriving.size) // nothing behind the packet is counted
	}
	return readBuffer
}

// tryRead reads what has arrived, first what hasLeft has read.
func (c *conn) tryRead(b []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.socket.TryRead(b)
	}
	n := copy(b, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
	return n, nil
}

// maxAhead is how many bytes are read of a client that waits for its session. One that sends more has not left.
const maxAhead = readBuffer

// hasLeft reports whether the client has left while its CONNECT is handled.
func (c *conn) hasLeft() bool {
	var b [512]byte
	c.socket.Expect()
	for len(c.ahead) < maxAhead {
		n, err := c.socket.TryRead(b[:])
		if err != nil {
			return true
		}
		if n == 0 {
			return false
		}
		c.ahead = append(c.ahead, b[:n]...)
	}
	return false
}

// keep keeps the part of a packet that has arrived until the next turn, but not the buffer of a larger packet before it.
func (c *conn) keep(t *turn, b []byte) {
	switch {
	case len(b) == 0:
	case cap(b) == len(t.buf), len(b) < cap(b)/4:
		c.part = slices.Clone(b)
	default:
		c.part = b
	}
}

// needs returns the bytes of the packet that b begins, if it is a large one whose memory was not taken yet, and else 0. That is
// never taken for a CONNECT: clients that are not admitted must not take memory from those that are (see unheard).
func (c *conn) needs(b []byte) (int64, error) {
	h, err := c.header(b)
	need := int64(h.size + h.Remaining)
	if err != nil || h.size == 0 || c.session == nil || need <= hub.FreeBytes || c.arriving != nil && c.arriving.size == need {
		return 0, err
	}
	return need, nil
}

// takeNow takes the memory for a large packet from the hub's memory for requests, if that need not wait.
func (c *conn) takeNow(need int64) bool {
	c.drop()
	if !c.server.hub.TakeBodyNow(need) {
		return false
	}
	c.arriving = &arriving{size: need}
	return true
}

// take waits until takeNow has the memory, but no longer than the connection is open.
func (c *conn) take(need int64) error {
	ctx, cancel := context.WithCancel(c.server.ctx)
	defer cancel()
	defer c.giveUp.Store(nil)
	if c.giveUp.Store(&cancel); c.isClosed() { // Close may have looked before
		cancel()
	}
	err := c.server.hub.TakeBody(ctx, need)
	switch {
	case err == nil:
		c.arriving = &arriving{size: need}
		return nil
	case c.server.ctx.Err() != nil:
		return packets.ErrServerShuttingDown
	}
	return codeOf(err)
}

// pace disconnects the client unless the packet that it has begun goes on to arrive as fast as the body of an HTTP request has
// to. Otherwise clients could hold memory as long as they like.
func (c *conn) pace(arrived int) {
	if c.arriving == nil {
		c.arriving = new(arriving)
	}
	patience, x := c.server.hub.Options().BodyTimeout, c.arriving
	switch {
	case x.late == nil:
		x.late = time.AfterFunc(patience, func() { c.end(packets.ErrKeepAliveTimeout) })
	case arrived-x.paced >= hub.SmallBytes:
		x.late.Reset(patience)
	default:
		return
	}
	x.paced = arrived
}

// drop frees the memory of the packet that has not arrived completely.
func (c *conn) drop() {
	x := c.arriving
	if x == nil {
		return
	}
	c.arriving = nil
	if x.late != nil {
		x.late.Stop()
	}
	c.server.hub.GiveBody(x.size)
}
