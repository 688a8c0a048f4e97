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

// body is a request's body as it is read: within the memory that the hub grants, and with a
// deadline for each read. It is good until free is called.
type body struct {
	bytes.Buffer
	hub     *hub.Hub
	taken   int64 // of the hub's memory
	limited io.LimitedReader
	patient patient
}

// maxPooled is how large, in bytes, a body may be whose buffer is used again.
const maxPooled = hub.SmallBytes

var bodies = sync.Pool{New: func() any { return new(body) }}

// read returns the body of a request that may have most bytes, or tooLarge. A body that says that it
// is larger is refused before it is read.
//
// The first bytes are free. A body that has more takes room for all that it may have.
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

// fill reads all of the body, but no more than one byte beyond most.
func (b *body) fill(from io.Reader, r *http.Request, most int) error {
	for _, limit := range []int{hub.FreeBytes, int(r.ContentLength), most} {
		limit = min(limit, most)
		if limit < b.Len() || limit < 0 {
			continue
		}
		if err := b.take(r, limit); err != nil {
			return err
		}
		if r.ContentLength >= 0 {
			b.Grow(min(limit, int(r.ContentLength)) + 1 - b.Len() + bytes.MinRead)
		}
		b.limited = io.LimitedReader{R: from, N: int64(limit + 1 - b.Len())} // one more, to see the end
		if _, err := b.ReadFrom(&b.limited); err != nil || b.Len() <= limit {
			return err
		}
	}
	return nil
}

// take waits until the body may take the memory of n bytes, the first of which are free.
func (b *body) take(r *http.Request, n int) error {
	if n <= hub.FreeBytes {
		return nil
	}
	if err := b.hub.TakeBody(r.Context(), int64(n)); err != nil {
		return err
	}
	b.hub.GiveBody(b.taken) // of a body that has more than its Content-Length
	b.taken = int64(n)
	return nil
}

// free gives back what the body takes. A large buffer is not kept.
func (b *body) free() {
	b.hub.GiveBody(b.taken)
	if b.Cap() > maxPooled+bytes.MinRead {
		return
	}
	b.Reset()
	*b = body{Buffer: b.Buffer}
	bodies.Put(b)
}

// patient reads a body whose sender may pause, but not for longer than the patience: the deadline
// moves on with each read.
type patient struct {
	conn     http.ResponseController
	timed    bool // the connection has deadlines
	body     io.Reader
	patience time.Duration
}

// reader returns a reader of the request's body.
func (p *patient) reader(w http.ResponseWriter, r *http.Request, patience time.Duration) io.Reader {
	*p = patient{conn: *http.NewResponseController(w), body: r.Body, patience: patience}
	p.timed = p.conn.SetReadDeadline(time.Now().Add(patience)) == nil
	if !p.timed {
		return abandoned{r.Body, patience}
	}
	return p
}

// Read implements io.Reader. The deadline of the first read is set already.
func (p *patient) Read(b []byte) (int, error) {
	n, err := p.body.Read(b)
	if err == nil {
		_ = p.conn.SetReadDeadline(time.Now().Add(p.patience)) // it could be set before
	}
	return n, err
}

// done drops the deadline: net/http goes on reading, to hear that the client has left.
func (p *patient) done() {
	if p.timed {
		_ = p.conn.SetReadDeadline(time.Time{})
	}
}

// abandoned reads where middleware hides the connection's deadlines. A read that takes too long is
// left behind: its goroutine and its buffer stay until the connection closes, and the request is
// over.
type abandoned struct {
	body     io.Reader
	patience time.Duration
}

const abandonedBuffer = 8 << 10

// Read implements io.Reader.
func (a abandoned) Read(b []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	own := make([]byte, min(len(b), abandonedBuffer))
	read := make(chan result, 1)
	go func() {
		n, err := a.body.Read(own)
		read <- result{n, err}
	}()
	late := time.NewTimer(a.patience)
	defer late.Stop()
	select {
	case r := <-read:
		return copy(b, own[:r.n]), r.err
	case <-late.C:
		return 0, os.ErrDeadlineExceeded
	}
}

// discard reads a short body that nobody expects, and for which net/http would wait without a
// deadline. With a longer one, the connection closes after the answer.
func (a *api) discard(w http.ResponseWriter, r *http.Request) {
	b, err := a.read(w, r, hub.FreeBytes, errLongBody)
	if err != nil {
		closeAfter(w, r)
		a.hurry(w)
		return
	}
	b.free()
}

// hurry sets a deadline for a body that is left unread: net/http waits for some of it.
func (a *api) hurry(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.hub.Options().BodyTimeout))
}

var errLongBody = errors.New("a body where none is expected")

// closeAfter has the connection close after the answer: what it has unread would be taken for the
// next request. HTTP/2 has no such connections.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// readError says why a body could not be read.
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
			detail: "the body did not go on in time: send it without long pauses"}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok { // what is mounted around us has bounds of its own
		return &hub.SizeError{What: "a request", Max: int(tooLarge.Limit)}
	}
	return &problem{status: http.StatusBadRequest, code: "body-invalid", detail: fmt.Sprintf("the body ended early: %v", err)}
}
