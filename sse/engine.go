package sse

import (
	"io"
	"math"
	"net/http"
	"time"

	r3labs "github.com/r3labs/sse/v2"
)

// engine makes one connection with r3labs' client and sends the stream's items to out. That client
// requests the stream and dispatches its events. It has faults: it checks neither status nor media
// type, dispatches an incomplete last event, and drops empty events and comments. RoundTrip and frames
// correct these between the client and the network.
type engine struct {
	client       *http.Client
	req          *http.Request
	idle         *idle
	lastEventID  string
	maxEventSize int

	out    chan item   // closed at the end
	header http.Header // of the response; valid after itemOpen
	err    error       // why the connection ended; valid when out is closed
}

// run returns when the connection has ended and has left nothing behind. Its caller reads out until
// then, and cancels the request's context to end it early.
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
	case e.err != nil: // set by RoundTrip or frames: the cause of err
	case err != nil:
		e.err = err
	default:
		e.err = io.EOF
	}
}

// RoundTrip sends the engine's request with the Client's settings through the user's http.Client, and
// returns the body of the stream as frames.
func (e *engine) RoundTrip(asked *http.Request) (*http.Response, error) {
	req := e.req
	for name, values := range asked.Header {
		if _, set := req.Header[name]; !set {
			req.Header[name] = values
		}
	}
	e.idle.wait()
	resp, err := e.client.Do(req)
	e.idle.endWait()
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
	r := NewReader(timedReader{body, e.idle})
	r.MaxEventSize, r.LastEventID = e.maxEventSize, e.lastEventID
	return &frames{Closer: body, reader: r, failed: func(err error) { e.err = err }}
}

func (e *engine) dispatched(ev *r3labs.Event) {
	e.out <- unframe(ev.Event, ev.ID, ev.Data, ev.Retry)
}

// timedReader reports to idle when it starts and stops waiting for the network.
type timedReader struct {
	src  io.Reader
	idle *idle
}

func (r timedReader) Read(p []byte) (int, error) {
	r.idle.wait()
	defer r.idle.endWait()
	return r.src.Read(p)
}

// sendable reports whether the id is not empty and is valid in a header. net/http refuses requests with
// a control byte in a header, so a client would never connect again.
func sendable(id string) bool {
	for _, c := range []byte(id) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return id != ""
}

// once is the engine's reconnect strategy: it never reconnects. Client.Run does.
type once struct{}

func (once) NextBackOff() time.Duration { return -1 } // backoff.Stop
func (once) Reset()                     {}

func dontFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
