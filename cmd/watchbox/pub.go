package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/watchbox-go/watchbox/internal/remote"
	"github.com/watchbox-go/watchbox/store"
)

// pub publishes messages.
type pub struct {
	Server `embed:""`

	Group   string  `arg:"" optional:"" help:"Group to send to; omit it with --batch."`
	Message *string `arg:"" optional:"" help:"Message to send. Without it, standard input is sent as one message."`

	Lines  bool          `help:"Send each line of standard input as a message, as soon as it is read." short:"l"`
	Batch  bool          `help:"Send standard input to several groups, either all messages or none. Each line is a JSON object {\"group\":…,\"msg\":…} with optional event, meta, ttl and retain." short:"b"`
	Rate   float64       `help:"With --lines: send at most N messages a second." placeholder:"N"`
	JSON   bool          `help:"Send the message as JSON instead of text." name:"json"`
	Event  string        `help:"Event name of the message (SSE event:)." placeholder:"NAME"`
	Meta   []string      `help:"Metadata of the message, a name and a value that receivers get with it. May be repeated." placeholder:"NAME=VALUE" sep:"none"`
	TTL    time.Duration `help:"Time after which the message expires." name:"ttl" placeholder:"DURATION"`
	Retain bool          `help:"Keep the message for later subscribers; an empty message clears it." short:"r"`
	Print  bool          `help:"Print the id of each message." short:"p"`

	answered bool        // the hub has accepted a message
	meta     [][2]string // parsed Meta
}

// Run publishes and returns when the hub has stored the message.
func (p *pub) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	pause, err := p.pause()
	if err == nil {
		p.meta, err = parseMeta(p.Meta)
	}
	switch {
	case err != nil:
		return usageError{err}
	case p.Batch && (p.Group != "" || p.Lines || p.JSON || p.Retain || p.Event != "" || p.TTL != 0 || len(p.Meta) > 0):
		return usageError{errors.New("--batch reads groups and options from standard input: omit all other arguments")}
	case !p.Batch && p.Group == "":
		return usageError{errors.New(`expected "<group>" (see --help)`)}
	case p.Lines && p.Message != nil:
		return usageError{errors.New("--lines reads standard input: omit the message")}
	case p.Lines:
		var bar *progress
		if !p.Print { // printed ids already show the progress
			bar = newProgress("sent", os.Stdin)
			defer bar.wipe()
		}
		return p.sendLines(ctx, os.Stdin, pause, bar)
	case p.Message != nil:
		return p.send(ctx, []byte(*p.Message))
	}
	body, err := await(ctx, func() ([]byte, error) { return io.ReadAll(os.Stdin) })
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	return p.send(ctx, body)
}

// pause returns the time between two lines for --rate.
func (p *pub) pause() (time.Duration, error) {
	switch pause := float64(time.Second) / p.Rate; {
	case p.Rate == 0:
		return 0, nil
	case !p.Lines || !(p.Rate > 0) || pause > math.MaxInt64:
		return 0, errors.New("--rate must be a number of lines a second and needs --lines")
	default:
		return time.Duration(pause), nil
	}
}

// parseMeta parses arguments such as name=value.
func parseMeta(args []string) (meta [][2]string, err error) {
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("--meta %q must be a name and a value, such as room=kitchen", arg)
		}
		meta = append(meta, [2]string{name, value})
	}
	if meta, err = remote.MetaInHeaders(meta); err != nil {
		return nil, fmt.Errorf("--meta: %w", err)
	}
	return meta, nil
}

// await returns the result of read, or an error as soon as the context ends, because a read of standard
// input may never return.
func await(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		b   []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		b, err := read()
		done <- result{b, err}
	}()
	select {
	case r := <-done:
		return r.b, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pub) sendLines(ctx context.Context, in io.Reader, pause time.Duration, bar *progress) error {
	lines := bufio.NewReader(in)
	wait := func() error { return context.Cause(ctx) }
	if pause > 0 {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		wait = func() error {
			select {
			case <-tick.C:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	for {
		line, err := await(ctx, func() ([]byte, error) { return lines.ReadBytes('\n') })
		if text := bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			if err := wait(); err != nil {
				return err
			}
			if err := p.send(ctx, text); err != nil {
				return err
			}
			bar.step(len(line))
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
	}
}

// Retries of a message.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
	tries       = 6 // of a message; unlimited with --lines once the hub has accepted a line
)

// send publishes a message or a batch. It retries when the hub cannot be reached. The idempotency key prevents
// duplicates.
func (p *pub) send(ctx context.Context, body []byte) error {
	key := uuid.NewString()
	wait := firstWait
	for try := 1; ; try++ {
		err := p.post(ctx, key, body)
		endless := p.Lines && p.answered
		if err == nil || ctx.Err() != nil || final(err, p.answered) || try >= tries && !endless {
			return err
		}
		if endless && try >= tries {
			disconnected(err, wait)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
		wait = min(2*wait, longestWait)
	}
}

// post sends one request.
func (p *pub) post(ctx context.Context, key string, body []byte) error {
	url, media := p.url("/v1/groups/", p.Group)+p.query(), "text/plain; charset=utf-8"
	if p.JSON {
		media = "application/json"
	}
	if p.Batch {
		url, media = p.url("/v1/messages", ""), "application/x-ndjson"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return usageError{err}
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("Idempotency-Key", key)
	remote.AddMeta(req.Header, p.meta)
	var answer struct{ ID, First string }
	var first, last store.ID
	if err := p.do(req, &answer, func() bool {
		if !p.Batch {
			answer.First = answer.ID
		}
		var errs [2]error
		first, errs[0] = store.ParseID(answer.First)
		last, errs[1] = store.ParseID(answer.ID)
		return errors.Join(errs[:]...) == nil
	}); err != nil {
		return err
	}
	p.answered = true
	for ; p.Print && first.Seq <= last.Seq; first.Seq++ {
		fmt.Println(first)
	}
	return nil
}

func (p *pub) query() string {
	q := url.Values{}
	if p.Event != "" {
		q.Set("event", p.Event)
	}
	if p.TTL != 0 {
		q.Set("ttl", p.TTL.String())
	}
	if p.Retain {
		q.Set("retain", "true")
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}
