package sse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// response is a Conn on a writer that may block. The handler's goroutine stays in Serve until it ends.
type response struct {
	w        io.Writer
	flush    func() error
	deadline func(time.Time) error // nil: writes cannot be interrupted
	peer     context.Context       // ends when the other side is gone

	unwatch func() // ends what Watch began; nil before

	once   sync.Once
	closed chan struct{}

	mu       sync.Mutex // held while writing, so that the handler does not return meanwhile
	panicked any        // the value of a panic in w, or nil
}

func newResponse(w http.ResponseWriter, r *http.Request, first []byte) (Conn, error) {
	if inner := unflushable(w); inner != nil {
		return nil, fmt.Errorf("%T has neither a Flush nor an Unwrap method: %w", inner, http.ErrNotSupported)
	}
	rc := http.NewResponseController(w)
	c := &response{w: w, flush: rc.Flush, deadline: rc.SetWriteDeadline, peer: r.Context(), closed: make(chan struct{})}
	// A server's WriteTimeout must not end streams.
	if err := rc.SetWriteDeadline(time.Time{}); errors.Is(err, http.ErrNotSupported) {
		c.deadline = nil
		first = append(padding(), first...)
	}
	w.WriteHeader(http.StatusOK)
	_, err := c.Write(first)
	c.raise()
	return c, err
}

// padding returns a comment of 2 KiB. It begins a stream behind middleware that hides the connection:
// some of it ignores Flush until it knows whether the response is long enough to be compressed
// (NYTimes gziphandler: 1,400 bytes).
func padding() []byte {
	return append(bytes.Repeat([]byte{':'}, 2<<10-1), '\n')
}

// unflushable returns nil if w can be flushed, or else the innermost writer, which cannot. Calling Flush to
// find out would send the header. Wrappers that have both Flush and Unwrap do not count: the Flush of
// echo's Response panics if the writer within cannot be flushed.
func unflushable(w http.ResponseWriter) http.ResponseWriter {
	for {
		switch known := w.(type) {
		case interface{ Unwrap() http.ResponseWriter }:
			w = known.Unwrap()
		case http.Flusher, interface{ FlushError() error }:
			return nil
		default:
			return w
		}
	}
}

func (c *response) TryWrite([]byte) (int, error) { return 0, nil }

func (c *response) Blocking() bool { return true }

func (c *response) Write(p []byte) (int, error) {
	if c.deadline == nil {
		return c.writeInBackground(p)
	}
	return c.write(p)
}

func (c *response) write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
		return 0, ErrClosed
	default:
	}
	defer func() {
		if r := recover(); r != nil {
			c.panicked = r
			err = ErrClosed
			c.once.Do(func() { close(c.closed) }) // makes Serve return
		}
	}()
	n, err = c.w.Write(p)
	if err == nil {
		err = c.flush()
	}
	return n, err
}

// raise panics again if middleware panicked in a write. It is called on the handler's goroutine, where
// net/http and the program's middleware recover panics. On another goroutine a panic would end the process.
func (c *response) raise() {
	c.mu.Lock() // waits for a write in progress
	defer c.mu.Unlock()
	if c.panicked != nil {
		panic(c.panicked)
	}
}

// writeInBackground writes p on another goroutine, because Close cannot interrupt the write. After Close
// it leaves a stuck write behind: p then belongs to that goroutine, and Serve waits for it.
func (c *response) writeInBackground(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := c.write(p)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-c.closed:
		return 0, ErrClosed
	}
}

func (c *response) Watch(gone func(error)) {
	left := func() { gone(io.EOF) }
	stop := context.AfterFunc(c.peer, left)
	c.unwatch = func() {
		if stop() && c.peer.Err() != nil { // the context ends before it starts what waits for it
			left()
		}
	}
}

func (c *response) Serve() {
	select {
	case <-c.peer.Done():
	case <-c.closed:
	}
	_ = c.Close()
	if c.unwatch != nil {
		c.unwatch()
	}
	c.raise()
}

func (c *response) Close() error {
	c.once.Do(func() {
		close(c.closed)
		if c.mu.TryLock() {
			c.mu.Unlock()
			return
		}
		if c.deadline != nil {
			_ = c.deadline(time.Now()) // makes the write in progress fail
		}
	})
	return nil
}
