package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
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
)

// pub sends to a group.
type pub struct {
	Server `embed:""`

	Group   string  `arg:"" help:"Group to send to."`
	Message *string `arg:"" optional:"" help:"What to send; without it, all of standard input is one message."`

	Lines  bool          `help:"Send each line of standard input as a message, as soon as it is there." short:"l"`
	Rate   float64       `help:"With --lines: send at most so many a second." placeholder:"N"`
	JSON   bool          `help:"The message is JSON, and not text." name:"json"`
	Event  string        `help:"Name of the event." placeholder:"NAME"`
	TTL    time.Duration `help:"How long the message is worth being delivered." name:"ttl" placeholder:"DURATION"`
	Retain bool          `help:"Keep the message for listeners that come later; an empty one clears what was kept." short:"r"`
	Print  bool          `help:"Print the id of each message." short:"p"`
}

// Run sends and returns when the hub holds it.
func (p *pub) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // whoever asks twice need not wait
	pause, err := p.pause()
	switch {
	case err != nil:
		return usageError{err}
	case p.Lines && p.Message != nil:
		return usageError{errors.New("--lines reads standard input: leave the message out")}
	case p.Lines:
		var bar *progress
		if !p.Print { // the ids show it
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

// pause returns the time from one line to the next that the rate asks for.
func (p *pub) pause() (time.Duration, error) {
	switch pause := float64(time.Second) / p.Rate; {
	case p.Rate == 0:
		return 0, nil
	case !p.Lines || !(p.Rate > 0) || pause > math.MaxInt64:
		return 0, errors.New("--rate is a number of lines a second, and goes with --lines")
	default:
		return time.Duration(pause), nil
	}
}

// await returns what read does, or an error as soon as the context ends: standard input may be
// silent for ever.
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

// send publishes one message. It tries again for a while when the hub cannot be reached: the key
// keeps that from becoming two messages.
func (p *pub) send(ctx context.Context, body []byte) error {
	key := uuid.NewString()
	wait := 100 * time.Millisecond
	for try := 1; ; try++ {
		again, err := p.post(ctx, key, body)
		if err == nil || !again || try == 6 {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
		wait *= 2
	}
}

// post sends one request. It reports whether another might fare better.
func (p *pub) post(ctx context.Context, key string, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url("/v1/groups/", p.Group)+p.query(), bytes.NewReader(body))
	if err != nil {
		return false, usageError{err}
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	if p.JSON {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Idempotency-Key", key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return true, err
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return true, err
	}
	if res.StatusCode != http.StatusCreated {
		return res.StatusCode >= 500, refusal(res.StatusCode, answer)
	}
	if p.Print {
		var receipt struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(answer, &receipt); err != nil {
			return false, fmt.Errorf("the hub's answer: %w", err)
		}
		fmt.Println(receipt.ID)
	}
	return false, nil
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

// Server is which hub a tool talks to.
type Server struct {
	URL string `help:"Where the hub is." default:"http://127.0.0.1:1234" name:"url"`
}

// url returns the address of a resource. The name's slashes stay slashes.
func (s *Server) url(resource, name string) string {
	if name == "" {
		return strings.TrimSuffix(s.URL, "/") + resource
	}
	levels := strings.Split(name, "/")
	for i, l := range levels {
		levels[i] = url.PathEscape(l)
	}
	return strings.TrimSuffix(s.URL, "/") + resource + strings.Join(levels, "/")
}

// refusal says why the hub refused, in its own words.
func refusal(status int, body []byte) error {
	var p struct{ Code, Detail string }
	if err := json.Unmarshal(body, &p); err != nil || p.Detail == "" {
		return fmt.Errorf("the hub answered %d %s", status, http.StatusText(status))
	}
	return fmt.Errorf("%s (%s)", p.Detail, p.Code)
}
