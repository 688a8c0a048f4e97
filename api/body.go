package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/watchbox-go/watchbox/internal/hub"
)

// body is the body of a request. Its memory counts against the hub's budget for requests, and each
// piece of it has a deadline. It is valid until free is called.
type body struct {
	bytes.Buffer
	hub     *hub.Hub
	taken   int64 // bytes taken from the hub's budget
	limited io.LimitedReader
	patient patient
}

// maxPooled is the largest body, in bytes, whose buffer is reused.
const maxPooled = hub.SmallBytes

var bodies = sync.Pool{New: func() any { return new(body) }}

// read returns the body of a request, which may have at most most bytes. It returns tooLarge for a
// larger one, without reading it if its Content-Length says so.
//
// The first hub.FreeBytes are not counted. A larger body takes budget for its possible length. A body
// without a Content-Length takes hub.SmallBytes first, so that it waits for large bodies only if it is
// large itself.
func (a *api) read(w http.ResponseWriter, r *http.Request, most int, tooLarge error) (*body, error) {
	if r.ContentLength > int64(most) {
		return nil, tooLarge
	}
	b := bodies.Get().(*body)
	b.hub = a.hub
	err := b.fill(b.patient.reader(w, r, a.hub.Options().BodyTimeout), r, most)
	if err == nil && b.Len() > most {
		err = tooLarge
	}
	if err != nil {
		b.free()
		return nil, readError(w, r, err)
	}
	b.patient.done()
	return b, nil
}

// fill reads the whole body, or one byte more than most.
func (b *body) fill(from io.Reader, r *http.Request, most int) error {
	known := int(r.ContentLength)
	if known < 0 {
		known = hub.SmallBytes
	}
	for _, limit := range []int{hub.FreeBytes, known, most} {
		if limit = min(limit, most); limit < b.Len() {
			continue
		}
		if err := b.take(r, limit); err != nil {
			return err
		}
		if r.ContentLength >= 0 {
			b.Grow(min(limit, int(r.ContentLength)) + 1 - b.Len() + bytes.MinRead)
		}
		b.limited = io.LimitedReader{R: from, N: int64(limit + 1 - b.Len())} // one more byte shows whether the body is longer
		if _, err := b.ReadFrom(&b.limited); err != nil || b.Len() <= limit {
			return err
		}
	}
	return nil
}

// take waits until the hub's budget has n bytes for the body. Up to hub.FreeBytes are not counted.
func (b *body) take(r *http.Request, n int) error {
	if n <= hub.FreeBytes {
		return nil
	}
	if err := b.hub.TakeBody(r.Context(), int64(n)); err != nil {
		return err
	}
	b.hub.GiveBody(b.taken) // the earlier, smaller amount
	b.taken = int64(n)
	b.patient.renew() // the sender could not send while the body waited
	return nil
}

// free returns the body's bytes to the budget, and its buffer to the pool unless it is large.
func (b *body) free() {
	b.hub.GiveBody(b.taken)
	if b.Cap() > maxPooled+bytes.MinRead {
		return
	}
	b.Reset()
	*b = body{Buffer: b.Buffer}
	bodies.Put(b)
}

// progressBytes is the number of bytes that must arrive within the body timeout once the body's memory
// counts. Otherwise a sender could hold that memory for hours by sending a byte now and then.
const progressBytes = hub.SmallBytes

// patient reads a body with a deadline for each piece: patience for each read of the first hub.FreeBytes,
// and then for every progressBytes.
type patient struct {
	conn     http.ResponseController
	timed    bool // the connection supports deadlines
	body     io.Reader
	patience time.Duration

	deadline time.Time // of the current piece
	received int
	counted  int // bytes before the current piece
}

// reader returns a reader of the request's body.
func (p *patient) reader(w http.ResponseWriter, r *http.Request, patience time.Duration) io.Reader {
	*p = patient{conn: *http.NewResponseController(w), body: r.Body, patience: patience, timed: true}
	p.renew()
	return p
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (n int, err error) {
	if p.timed {
		n, err = p.body.Read(b)
	} else {
		n, err = readUntil(p.deadline, p.body, b)
	}
	p.received += n
	if err == nil && (p.received <= hub.FreeBytes || p.received-p.counted >= progressBytes) {
		p.renew()
	}
	return n, err
}

// renew starts a new piece of the body.
func (p *patient) renew() {
	p.deadline, p.counted = time.Now().Add(p.patience), p.received
	p.timed = p.timed && p.conn.SetReadDeadline(p.deadline) == nil
}

// done removes the deadline, because net/http keeps reading to notice a closed connection.
func (p *patient) done() {
	if p.timed {
		_ = p.conn.SetReadDeadline(time.Time{})
	}
}

// abandonedBuffer is the most bytes of a read that may be abandoned.
const abandonedBuffer = 8 << 10

// readUntil reads a body where middleware hides the connection's deadlines. A read that takes too
// long is abandoned: the request ends, while the goroutine of the read and its buffer stay until the
// connection closes.
func readUntil(deadline time.Time, body io.Reader, b []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	own := make([]byte, min(len(b), abandonedBuffer))
	read := make(chan result, 1)
	go func() {
		n, err := body.Read(own)
		read <- result{n, err}
	}()
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	select {
	case r := <-read:
		return copy(b, own[:r.n]), r.err
	case <-late.C:
		return 0, os.ErrDeadlineExceeded
	}
}

// discard reads a short body of a call that takes none. Otherwise net/http would read it without a
// deadline. The connection closes after a longer body.
func (a *api) discard(w http.ResponseWriter, r *http.Request) {
	b, err := a.read(w, r, hub.FreeBytes, errLongBody)
	if err != nil {
		closeAfter(w, r)
		a.hurry(w)
		return
	}
	b.free()
}

// hurry sets a deadline for the rest of a body, some of which net/http reads after the handler.
func (a *api) hurry(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.hub.Options().BodyTimeout))
}

var errLongBody = errors.New("the call expects no body")

// closeAfter makes the connection close after the answer, because the unread rest of the body would
// be taken for the next request. This applies only to HTTP/1.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// readError turns an error of reading a body into the error for the client.
func readError(w http.ResponseWriter, r *http.Request, err error) error {
	if _, ok := errors.AsType[*hub.SizeError](err); ok || errors.Is(err, hub.ErrOverloaded) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && t.Timeout() {
		closeAfter(w, r)
		return &problem{status: http.StatusRequestTimeout, code: "body-timeout",
			detail: "the body paused for too long or arrived too slowly: send it without long pauses"}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok { // middleware has a limit of its own
		return &hub.SizeError{What: "a request", Max: int(tooLarge.Limit)}
	}
	return &problem{status: http.StatusBadRequest, code: "body-invalid", detail: fmt.Sprintf("the body ended early: %v", err)}
}
