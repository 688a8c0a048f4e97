package fallback

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// pollTime is how long a poll waits. Proxies often end a request after 30 seconds. If one does so earlier, the next
	// polls wait for half of that time, but not for less than minPollTime.
	pollTime    = 25 * time.Second
	minPollTime = time.Second

	// pollMessages is the most messages in one answer.
	pollMessages = 1000
)

// poller turns long polls into a stream. Its goroutine, which serve starts, polls and writes events to a pipe.
type poller struct {
	t      *Transport
	r      *http.Request // of the stream
	ctx    context.Context
	cancel context.CancelFunc
	first  *answer
	out    *io.PipeWriter
	done   chan struct{} // closed when the goroutine has ended
	wake   chan struct{} // holds one: there are changes

	mu      sync.Mutex // guards what follows
	filters []string
	joins   []*join

	// Used by the goroutine alone.
	at   string        // the position
	wait time.Duration // of a poll
}

// join is a filter to add. Its answer is that of the request that adds it.
type join struct {
	filter string
	answer chan joined
	gaveUp <-chan struct{} // closed when nobody takes the answer any more
}

// reply answers the request.
func (j *join) reply(resp *http.Response, err error) {
	select {
	case j.answer <- joined{resp, err}:
	case <-j.gaveUp:
		closeBody(resp)
	}
}

type joined struct {
	resp *http.Response
	err  error
}

// answer is the answer to a poll.
type answer struct {
	Messages, Gaps []json.RawMessage
	Next, UID      string
}

// openPoll makes the first poll of a stream, which does not wait. Unless the answer is a success, it returns that
// answer instead of a poller.
func (t *Transport) openPoll(r *http.Request) (*poller, *http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	q := r.URL.Query()
	p := &poller{t: t, r: r, ctx: ctx, cancel: cancel, filters: q["group"], wait: pollTime, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	since := url.Values{"last": {"0"}, "retained": {"true"}}
	p.at = r.Header.Get("Last-Event-ID")
	switch {
	case p.at != "":
		since = url.Values{"since": {p.at}}
	case q.Has("since"):
		since = url.Values{"since": q["since"]}
	case q.Has("last"):
		since = url.Values{"last": q["last"]}
	}
	var resp *http.Response
	var err error
	p.first, resp, err = p.poll(ctx, p.filters, since, 0)
	switch {
	case err != nil:
		cancel()
		return nil, nil, err
	case p.first == nil:
		resp.Body = &cancelingBody{resp.Body, cancel}
		return nil, resp, nil
	}
	return p, nil, nil
}

// cancelingBody ends the context of a request when the body of its answer is closed.
type cancelingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *cancelingBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// stop ends a poller that does not serve.
func (p *poller) stop() { p.cancel() }

// serve starts the stream and returns its response.
func (p *poller) serve() *http.Response {
	in, out := io.Pipe()
	p.out = out
	p.t.mu.Lock()
	p.t.poller = p
	p.t.mu.Unlock()
	go p.run()
	resp := p.response(http.StatusOK)
	resp.Header.Set("Content-Type", "text/event-stream")
	resp.Body = &pollBody{in, p}
	return resp
}

// pollBody is the body of a stream that polls. When Close returns, the poller has ended.
type pollBody struct {
	*io.PipeReader
	p *poller
}

func (b *pollBody) Close() error {
	b.p.cancel()
	_ = b.PipeReader.Close() // makes a write fail
	<-b.p.done
	return nil
}

func (p *poller) response(status int) *http.Response {
	return &http.Response{
		StatusCode: status, Status: strconv.Itoa(status) + " " + http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: p.r,
	}
}

func (p *poller) run() {
	defer close(p.done)
	defer p.cancel()
	err := p.hello()
	for err == nil {
		if err = p.join(); err == nil {
			err = p.next()
		}
	}
	p.t.mu.Lock()
	if p.t.poller == p {
		p.t.poller = nil
	}
	p.t.mu.Unlock()
	p.mu.Lock()
	waiting := p.joins
	p.joins, p.filters = nil, nil
	p.mu.Unlock()
	for _, j := range waiting {
		j.reply(nil, err)
	}
	_ = p.out.CloseWithError(err)
}

// hello writes the session event and what the first poll brought.
func (p *poller) hello() error {
	id := ""
	if p.at != "" {
		id = "id: " + p.at + "\n"
	}
	if _, err := fmt.Fprintf(p.out, "event: session\n%sdata: {\"uid\":%q,\"heartbeat\":%q}\n\n", id, p.first.UID, pollTime); err != nil {
		return err
	}
	err := p.write(p.first)
	p.first = nil
	return err
}

// next polls once, and writes what came. A change of the filters ends the poll early.
func (p *poller) next() error {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-p.wake:
			cancel()
		case <-ctx.Done():
		}
	}()
	p.mu.Lock()
	filters := slices.Clone(p.filters)
	p.mu.Unlock()
	var a *answer
	var resp *http.Response
	var err error
	begun := time.Now()
	if len(filters) == 0 {
		<-ctx.Done()
	} else {
		a, resp, err = p.poll(ctx, filters, url.Values{"since": {p.at}}, p.wait)
	}
	waited := time.Since(begun)
	interrupted := ctx.Err() != nil && p.ctx.Err() == nil
	cancel()
	<-over
	switch {
	case a != nil:
		return p.write(a)
	case resp != nil && resp.StatusCode == http.StatusGone: // the hub may say so only once
		return p.refused(resp)
	case interrupted:
		closeBody(resp)
		return nil
	case p.ctx.Err() != nil:
		closeBody(resp)
		return p.ctx.Err()
	case waited/2 >= minPollTime && (err != nil || resp.StatusCode == http.StatusGatewayTimeout): // a proxy has cut it off
		closeBody(resp)
		p.wait = min(p.wait, waited) / 2
		return nil
	case err != nil:
		return err
	}
	return p.refused(resp)
}

// drain writes all that there is now.
func (p *poller) drain() error {
	p.mu.Lock()
	filters := slices.Clone(p.filters)
	p.mu.Unlock()
	for len(filters) > 0 {
		a, resp, err := p.poll(p.ctx, filters, url.Values{"since": {p.at}}, 0)
		switch {
		case err != nil:
			return err
		case a == nil:
			return p.refused(resp)
		}
		if err := p.write(a); err != nil || len(a.Messages) < pollMessages {
			return err
		}
	}
	return nil
}

// refused ends the stream because a poll was refused. A hub that has ended the session says so with a last event.
func (p *poller) refused(resp *http.Response) error {
	defer closeBody(resp)
	if resp.StatusCode == http.StatusGone {
		_, err := io.WriteString(p.out, "event: bye\ndata: {\"reason\":\"kicked\"}\n\n")
		return errors.Join(err, io.EOF)
	}
	return fmt.Errorf("a poll was refused: %s", resp.Status)
}

// poll makes one request. On an answer that is not a success it returns that.
func (p *poller) poll(ctx context.Context, filters []string, q url.Values, wait time.Duration) (*answer, *http.Response, error) {
	r := p.r.Clone(ctx)
	r.Header.Del("Last-Event-ID")
	r.Header.Set("Accept", "application/json")
	q.Set("wait", wait.String())
	q.Set("limit", strconv.Itoa(pollMessages))
	if echo := p.r.URL.Query().Get("echo"); echo != "" {
		q.Set("echo", echo)
	}
	q["group"] = filters
	r.URL.Path, r.URL.RawPath = strings.TrimSuffix(r.URL.Path, eventsPath)+historyPath, ""
	r.URL.RawQuery = q.Encode()
	if p.t.Authorize != nil {
		if err := p.t.Authorize(r); err != nil {
			return nil, nil, err
		}
	}
	resp, err := p.t.base().RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK || media(resp) != "application/json" {
		return nil, resp, err
	}
	defer closeBody(resp)
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil, nil, fmt.Errorf("the answer to a poll was cut short: %w", err)
	}
	return &a, nil, nil
}

// write writes an answer as events, and moves to its position.
func (p *poller) write(a *answer) error {
	var b bytes.Buffer
	for _, g := range a.Gaps {
		fmt.Fprintf(&b, "event: gap\ndata: %s\n\n", g)
	}
	for _, raw := range a.Messages {
		if err := appendMessage(&b, raw); err != nil {
			return err
		}
	}
	fmt.Fprintf(&b, ":\nid: %s\n\n", a.Next)
	if _, err := p.out.Write(b.Bytes()); err != nil {
		return err
	}
	p.at = a.Next
	return nil
}

// appendMessage appends a message as an event. As on a stream, a retained message has no id.
func appendMessage(b *bytes.Buffer, raw json.RawMessage) error {
	var m struct {
		ID, Event string
		Retained  bool
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("a poll returned something other than messages: %w", err)
	}
	if !m.Retained {
		b.WriteString("id: " + m.ID + "\n")
	}
	if m.Event != "" {
		b.WriteString("event: " + m.Event + "\n")
	}
	fmt.Fprintf(b, "data: %s\n\n", raw)
	return nil
}
