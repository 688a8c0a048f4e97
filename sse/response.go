package sse

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// response is a Conn over a writer that may block. The handler's goroutine stays with it.
type response struct {
	w        io.Writer
	flush    func() error
	deadline func(time.Time) error
	peer     context.Context // ends with the other side

	once   sync.Once
	closed chan struct{}
	mu     sync.Mutex // held while writing, so that the handler does not return meanwhile
	over   bool
}

func newResponse(w http.ResponseWriter, r *http.Request, first []byte) (Conn, error) {
	if !flushes(w) {
		return nil, fmt.Errorf("sse: %T cannot flush: %w", w, http.ErrNotSupported)
	}
	rc := http.NewResponseController(w)
	c := &response{w: w, flush: rc.Flush, deadline: rc.SetWriteDeadline, peer: r.Context(), closed: make(chan struct{})}
	_ = rc.SetWriteDeadline(time.Time{}) // a server's WriteTimeout is not meant for streams
	w.WriteHeader(http.StatusOK)
	_, err := c.Write(first)
	return c, err
}

// flushes reports whether a ResponseController can flush w. It looks where that looks; asking it
// to would send the header.
func flushes(w http.ResponseWriter) bool {
	for {
		switch known := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = known.Unwrap()
		default:
			return false
		}
	}
}

func (c *response) TryWrite([]byte) (int, error) { return 0, nil }

func (c *response) Blocking() bool { return true }

func (c *response) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, ErrClosed
	}
	n, err := c.w.Write(p)
	if err == nil {
		err = c.flush()
	}
	return n, err
}

func (c *response) Serve(gone func(error)) {
	select {
	case <-c.peer.Done():
	case <-c.closed:
	}
	gone(io.EOF)
	_ = c.Close()
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
}

func (c *response) Close() error {
	c.once.Do(func() {
		close(c.closed)
		if c.mu.TryLock() {
			c.over = true
			c.mu.Unlock()
			return
		}
		_ = c.deadline(time.Now()) // a write is under way: let it fail
	})
	return nil
}
