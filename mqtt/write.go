package mqtt

import (
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/sse"
)

// writer is the writing side of a connection. Two write to it: the delivery stream, by the methods of sse.Conn, and
// the connection itself, by send. What send has queued is written between the stream's packets, never within one.
type writer struct {
	socket sse.Socket
	of     *conn // that it is the writing side of

	mu      sync.Mutex // guards what follows
	idle    *sync.Cond // signals that busy or missing has changed, or that the writer is closed; nil: nobody has waited
	own     []byte     // packets of send that are not written yet
	missing int32      // bytes that are missing of a packet that the stream has written in part
	busy    bool       // a goroutine writes, and may wait for the client
	closed  bool
	ending  bool // the stream writes its last packet, which nothing may follow
	parting bool // closed, and the goroutine that writes has to write the packets of send and to close the socket
	told    bool // clogged has reported that the client does not take what was sent to it
}

// maxOwn is how many bytes of own packets may wait for the stream. When there are more, the client is not read from.
const maxOwn = 64 << 10

// send queues whole packets. It does not wait.
func (w *writer) send(packets []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue(packets)
}

// last says that the stream is about to write its last packet.
func (w *writer) last() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ending = true
}

// queue is send for a caller that holds mu. Nothing follows the last packet of bye or of the stream.
func (w *writer) queue(packets []byte) {
	if !w.closed && !w.ending {
		w.own = append(w.own, packets...)
	}
}

// push is send for a goroutine that does not flush. What the socket does not take at once is written by another goroutine.
func (w *writer) push(packets []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue(packets)
	if w.busy || w.missing > 0 || w.closed {
		return // whoever writes takes it along
	}
	if !w.socket.Blocking() {
		n, _ := w.socket.TryWrite(w.own) // an error: the next write fails, too
		w.own = w.own[n:]
		w.took()
		if len(w.own) == 0 {
			w.own = nil
			return
		}
	}
	go func() { _ = w.flush() }() // it ends with the connection
}

// clogged reports whether the client does not take what was sent to it.
func (w *writer) clogged() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return true
	}
	w.told = len(w.own) > maxOwn/2
	return w.told
}

// took takes note that packets of send were taken to be written. The caller holds mu.
func (w *writer) took() {
	if w.told && !w.closed && len(w.own) <= maxOwn/2 {
		w.told = false
		w.of.unclogged()
	}
}

// flush writes the packets of send. If the stream writes now, it takes them along, and flush waits only if there are
// many. Otherwise it waits for the client.
func (w *writer) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.busy || w.missing > 0 {
		if len(w.own) <= maxOwn || w.closed {
			return nil
		}
		w.wait()
	}
	return w.drain()
}

// drain writes the packets of send. The caller holds mu, and nobody else writes.
func (w *writer) drain() error {
	for len(w.own) > 0 {
		b := w.own
		w.own = nil
		w.took()
		if _, err := w.write(b); err != nil {
			return err
		}
	}
	return nil
}

// write writes all of b. The caller holds mu, which write gives up meanwhile.
func (w *writer) write(b []byte) (int, error) {
	w.busy = true
	w.mu.Unlock()
	n, err := w.socket.Write(b)
	w.mu.Lock()
	w.busy = false
	w.signal()
	if w.parting {
		w.parting = false
		if err == nil {
			w.finish()
		}
		_ = w.socket.Close()
	}
	return n, err
}

// finish writes the packets of send, which are the last. The caller holds mu, and nobody else writes.
func (w *writer) finish() {
	b := w.own
	w.own = nil
	if !w.socket.Blocking() {
		_, _ = w.socket.TryWrite(b) // the client may have left
		return
	}
	late := time.AfterFunc(byeTimeout, func() { _ = w.socket.Close() })
	_, _ = w.write(b)
	late.Stop()
}

func (w *writer) wait() {
	if w.idle == nil {
		w.idle = sync.NewCond(&w.mu)
	}
	w.idle.Wait()
}

func (w *writer) signal() {
	if w.idle != nil {
		w.idle.Broadcast()
	}
}

// Blocking implements sse.Conn.
func (w *writer) Blocking() bool { return w.socket.Blocking() }

// TryWrite implements sse.Conn.
func (w *writer) TryWrite(p []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy || w.socket.Blocking() {
		return 0, nil
	}
	if w.missing == 0 && len(w.own) > 0 {
		n, err := w.socket.TryWrite(w.own)
		w.own = w.own[n:]
		w.took()
		if err != nil || len(w.own) > 0 {
			return 0, err
		}
		w.own = nil
	}
	n, err = w.socket.TryWrite(p)
	w.wrote(p, n)
	return n, err
}

// wrote takes note that n bytes of p were written by the stream. The caller holds mu.
func (w *writer) wrote(p []byte, n int) {
	w.missing = missing(p, n, w.missing)
	if w.ending && w.missing == 0 {
		w.own = nil // it would follow the last packet
	}
}

// Write implements sse.Conn.
func (w *writer) Write(p []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.busy && !w.closed {
		w.wait()
	}
	if w.missing == 0 {
		if err := w.drain(); err != nil {
			return 0, err
		}
	}
	n, err = w.write(p)
	if w.wrote(p, n); err == nil && w.missing == 0 {
		err = w.drain()
	}
	return n, err
}

// byeTimeout is how long the last packet to a client may take if a write cannot but wait.
const byeTimeout = time.Second

// bye sends what waits, and then b, as far as the socket takes it without waiting, and closes the connection. If a
// goroutine writes now, that one does it.
func (w *writer) bye(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return
	case w.busy:
		w.queue(b)
		w.parting = true
		time.AfterFunc(byeTimeout, func() { _ = w.socket.Close() })
	case w.missing == 0:
		w.queue(b)
		w.finish()
	}
	_ = w.close()
}

// Close implements sse.Conn.
func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.close()
}

func (w *writer) close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.signal()
	if w.parting {
		return nil // see bye
	}
	return w.socket.Close()
}

// isClosed reports whether the connection was closed on this side.
func (w *writer) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// missing returns how many bytes are missing of the last packet that has been begun, after n bytes of p. p begins with
// the missing bytes of an earlier packet and goes on with whole packets.
func missing(p []byte, n int, before int32) int32 {
	if n == len(p) {
		return 0
	}
	end := int(before)
	for end < n {
		length, size := varint(p[end+1:])
		end += 1 + size + length
	}
	return int32(end - n)
}
