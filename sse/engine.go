package sse

import (
	"io"
	"math"
	"net/http"
	"time"

	r3labs "github.com/r3labs/sse/v2"
)

// engine makes one connection with r3labs' client and sends to out what the stream says. That
// client asks for the stream and dispatches its events; what it would get wrong (it knows neither
// statuses nor media types, dispatches what the stream's end cuts short, drops empty events and
// comments, and more) is put right between it and the network, in RoundTrip and frames.
type engine struct {
	client       *http.Client
	req          *http.Request
	idle         *idle
	lastEventID  string
	maxEventSize int

	out    chan item   // closed at the end: what follows is valid then,
	header http.Header // or after itemOpen: the response's
	err    error       // why it ended
}

// run returns when the connection has ended and nothing of it is left. Out has to be read until
// then; cancelling the request's context makes that soon.
func (e *engine) run() {
	defer close(e.out)
	c := r3labs.NewClient(e.req.URL.String(), r3labs.ClientMaxBufferSize(math.MaxInt)) // Reader bounds it
	c.ReconnectStrategy = once{}
	c.Connection = &http.Client{Transport: e, CheckRedirect: dontFollow}
	if sendable(e.lastEventID) {
		c.LastEventID.Store([]byte(e.lastEventID))
	}
	err := c.SubscribeRawWithContext(e.req.Context(), e.dispatched)
	switch {
	case e.err != nil: // the cause of the engine's error
	case err != nil:
		e.err = err
	default:
		e.err = io.EOF
	}
}

// RoundTrip sends what the engine asks for as the Client was told to, through the user's
// http.Client, and returns a stream's body as frames.
func (e *engine) RoundTrip(asked *http.Request) (*http.Response, error) {
	req := e.req
	for name, values := range asked.Header {
		if _, set := req.Header[name]; !set {
			req.Header[name] = values
		}
	}
	e.idle.wait()
	resp, err := e.client.Do(req)
	e.idle.heard()
	if err == nil {
		err = check(resp)
	}
	if err != nil {
		e.err = err
		return nil, err
	}
	e.header = resp.Header
	e.out <- item{kind: itemOpen}
	resp.Body = e.frames(resp.Body)
	return resp, nil
}

func (e *engine) frames(body io.ReadCloser) io.ReadCloser {
	r := NewReader(heardReader{body, e.idle})
	r.MaxEventSize, r.LastEventID = e.maxEventSize, e.lastEventID
	return &frames{Closer: body, reader: r, failed: func(err error) { e.err = err }}
}

func (e *engine) dispatched(ev *r3labs.Event) {
	e.out <- unframe(ev.Event, ev.ID, ev.Data, ev.Retry)
}

// heardReader tells idle when it waits for the network.
type heardReader struct {
	src  io.Reader
	idle *idle
}

func (r heardReader) Read(p []byte) (int, error) {
	r.idle.wait()
	defer r.idle.heard()
	return r.src.Read(p)
}

// sendable reports whether there is an id to send, and a header may have it: net/http refuses a
// request with a control byte in one, and would refuse it for ever.
func sendable(id string) bool {
	for _, c := range []byte(id) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return id != ""
}

// once is the engine's strategy for reconnecting: not at all. Deciding that is Run's.
type once struct{}

func (once) NextBackOff() time.Duration { return -1 } // backoff.Stop
func (once) Reset()                     {}

func dontFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
