package sse

import "time"

// Socket is a connection of another protocol than HTTP, which is read, too. While nothing arrives it costs no goroutine
// and no buffer, if the Poller can watch it.
//
// One goroutine at a time may read, beside the one that writes. Whoever reads calls TryRead until nothing is left, and then
// Readable:
//
//	func (c *conn) turn() {
//		for {
//			n, err := c.socket.TryRead(buf)
//			if n == 0 && err == nil {
//				c.socket.Readable(func() { go c.turn() })
//				return
//			}
//			…
//		}
//	}
type Socket interface {
	// Conn is the writing side. Its Watch tells only of a peer that acknowledges nothing any more, which TryRead tells, too.
	// All other ends are told by TryRead alone, after everything that has arrived before them. Serve returns at once.
	Conn

	// TryRead reads what has arrived, without waiting. It returns 0 and no error if that is nothing, io.EOF if the other side
	// has ended its sending half, which leaves the other half open, and ErrClosed after Close.
	TryRead(p []byte) (int, error)

	// Expect makes the next TryRead look for what has arrived, also if that was not reported yet.
	Expect()

	// Readable calls f once, as soon as TryRead may return something else than nothing: at once, on the caller's
	// goroutine, or later, on the poller's. f must not block. After Close, f may or may not be called.
	Readable(f func())

	// Close implements Conn. The other side gets what was written before, also while it still sends: what arrives is discarded
	// until it ends its half, for at most a second. A connection that neither the Poller watches nor can close its
	// sending half alone is closed at once.
	Close() error
}

// The kernel resets a connection that is closed while input is unread, or when more arrives later. The reset may
// overtake the last bytes that were written, or the other side notices it before it reads them. So the sending half is closed
// first, and input is discarded until the other side has closed its half.

const (
	lingerTimeout = time.Second // how long the other side may take to close its half
	maxLinger     = 4 << 20     // how many bytes of it are discarded
)
