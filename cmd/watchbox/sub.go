package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/watchbox-go/watchbox/internal/duration"
	"github.com/watchbox-go/watchbox/sse"
)

// sub prints the messages of groups.
type sub struct {
	Server `embed:""`

	Filters []string `arg:"" help:"Groups or patterns: + matches one level, a final # any number of levels."`

	Since   string        `help:"Where to start: all, a duration such as 10m or 7d, a time, or an id." placeholder:"WHEN"`
	Last    *int          `help:"Start with the newest N messages." placeholder:"N"`
	Count   int           `help:"Exit after N messages." short:"n" placeholder:"N"`
	Timeout time.Duration `help:"Exit with status 1 after this time." placeholder:"DURATION"`
	MaxWait time.Duration `help:"Maximum random wait before a reconnect. The hub's reconnect delay is added." default:"30s"`
	JSON    bool          `help:"Print each message as JSON, with id, group, time and all other members." name:"json"`
	Resume  string        `help:"Keep the position in this file and resume from it, so that no message is repeated or missed." placeholder:"FILE" type:"path"`
	Exec    string        `help:"Run this shell command for each message instead of printing it. The message is its standard input; WATCHBOX_ID, _GROUP, _UID, _TIME and _EVENT are set." placeholder:"COMMAND"`
}

// Run prints messages until --count or --timeout is reached or the process gets a signal. It resumes
// after interruptions.
func (s *sub) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case s.MaxWait <= 0:
		return usageError{errors.New("--max-wait must be above 0")}
	case s.Timeout < 0:
		return usageError{errors.New("--timeout must be 0 or more; 0 means no timeout")}
	case s.Timeout > 0:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.Timeout, fmt.Errorf("timeout after %s", duration.Format(s.Timeout)))
		defer cancel()
	}
	pos, err := openPosition(s.Resume)
	if err != nil {
		return usageError{err}
	}
	defer pos.close()
	p := &printer{take: s.taker(ctx), pos: pos, left: s.Count, counts: s.Count > 0}
	ctx, p.done = context.WithCancelCause(ctx)
	var client *sse.Client
	alive := func(string) { p.reached(client.LastEventID) }
	client = &sse.Client{
		URL: s.stream(), Header: http.Header{"Watchbox-Session": {rand.Text()}}, // the same session after a reconnect
		LastEventID: pos.id, OnEvent: p.event, OnComment: alive, OnError: report, OnDisconnect: disconnected, IdleTimeout: idleTimeout,
		FirstEventTimeout: answerTimeout,
		MaxBackoff:        s.MaxWait,
	}
	p.silence = func(d time.Duration) { client.IdleTimeout = d }
	return s.listen(ctx, client)
}

// errDone ends a run that has printed --count messages.
var errDone = errors.New("done")

// stream returns the URL to subscribe to.
func (s *sub) stream() string {
	q := url.Values{"group": s.Filters}
	if s.Since != "" {
		q.Set("since", s.Since)
	}
	if s.Last != nil {
		q.Set("last", strconv.Itoa(*s.Last))
	}
	return s.url("/v1/events", "") + "?" + q.Encode()
}

// taker returns the function that prints a message or runs the command for it.
func (s *sub) taker(ctx context.Context) func(*message) error {
	switch {
	case s.Exec != "":
		return func(m *message) error { return execute(ctx, s.Exec, m) }
	case s.JSON:
		return func(m *message) error { return printLine(m.data) }
	}
	return func(m *message) error { return printLine(m.payload) }
}

func printLine(b []byte) error {
	_, err := os.Stdout.Write(append(bytes.Clone(b), '\n'))
	return err
}

// printer handles the events of a stream.
type printer struct {
	take   func(*message) error
	pos    *position
	counts bool
	left   int
	ended  bool
	done   context.CancelCauseFunc

	silence func(time.Duration) // sets how long the hub may be silent
}

// answerTimeout is the time for an answer of the hub and for the first event of a stream.
const answerTimeout = 30 * time.Second

// idleTimeout is how long a hub may be silent if its session event does not name a heartbeat.
const idleTimeout = time.Minute

// silence returns how long a hub may be silent, which depends on the heartbeat in its session event.
func silence(session sse.Event) time.Duration {
	var hello struct{ Heartbeat string }
	_ = json.Unmarshal(session.Data, &hello) // other servers may have none
	d, _ := time.ParseDuration(hello.Heartbeat)
	return max(idleTimeout, 2*d)
}

func (p *printer) event(e sse.Event) {
	if p.ended {
		return // received before the end
	}
	switch e.Type {
	case "bye":
		p.end(sessionEnd(e))
		return
	case "gap":
		fmt.Fprintln(os.Stderr, "watchbox: missed messages:", string(e.Data))
		fallthrough
	case "session":
		p.silence(silence(e))
		p.reached(e.ID)
		return
	}
	m, err := parseMessage(e.Data)
	if err == nil {
		err = p.take(m)
	}
	if err == nil {
		err = p.pos.set(e.ID)
	}
	if p.left--; err == nil && p.counts && p.left == 0 {
		err = errDone
	}
	p.end(err)
}

// sessionEnd returns the error for the hub's last event on a stream if it ends the session. After other ends the stream resumes.
func sessionEnd(bye sse.Event) error {
	var end struct{ Reason string }
	_ = json.Unmarshal(bye.Data, &end) // an unreadable reason counts as none
	if end.Reason == "kicked" || end.Reason == "ended" {
		return fmt.Errorf("the hub ended the session (%s)", end.Reason)
	}
	return nil
}

// reached stores a position: all messages up to the id are handled. Heartbeats advance it between messages.
func (p *printer) reached(id string) {
	if !p.ended {
		p.end(p.pos.set(id))
	}
}

// end ends the run if why is not nil.
func (p *printer) end(why error) {
	if why != nil {
		p.ended = true
		p.done(why)
	}
}

func report(err error) { fmt.Fprintln(os.Stderr, "watchbox:", err) }

func disconnected(err error, wait time.Duration) {
	if errors.Is(err, io.EOF) {
		err = errors.New("the hub ended the stream")
	}
	fmt.Fprintf(os.Stderr, "watchbox: %v; reconnecting in %s\n", err, duration.Format(wait.Round(time.Millisecond)))
}
