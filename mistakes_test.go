package watchbox_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
)

func TestInvalidOptionsAreErrors(t *testing.T) {
	policy := func(p watchbox.Policy) watchbox.Option { return watchbox.WithPolicy("foo", p) }
	for name, c := range map[string]struct {
		option watchbox.Option
		want   string
	}{
		"nil option":     {nil, "option 2 of New is nil"},
		"nil logger":     {watchbox.WithLogger(nil), "logger"},
		"nil listening":  {watchbox.WithListening(nil), "listening"},
		"nil store":      {watchbox.WithStore(nil), "store"},
		"filter":         {watchbox.WithPolicy("a//b", watchbox.Policy{}), "policy"},
		"max messages":   {policy(watchbox.Policy{MaxMessages: -2}), "max_messages"},
		"max bytes":      {policy(watchbox.Policy{MaxBytes: -5}), "max_bytes"},
		"max age":        {policy(watchbox.Policy{MaxAge: -time.Second}), "max_age"},
		"coalesce":       {policy(watchbox.Policy{Coalesce: -time.Second}), "coalesce"},
		"store":          {policy(watchbox.Policy{Store: "tape"}), "tape"},
		"no disk":        {policy(watchbox.Policy{Store: watchbox.StoreDisk}), "disk"},
		"slow":           {policy(watchbox.Policy{Slow: "wait"}), "wait"},
		"compress":       {policy(watchbox.Policy{Compress: 7}), "compress"},
		"fsync":          {watchbox.WithFsync(-5), "fsync"},
		"drain delay":    {watchbox.WithDrainDelay(-1), "drain-delay"},
		"idle timeout":   {watchbox.WithIdleTimeout(0), "idle-timeout"},
		"ignored param":  {watchbox.WithIgnoreParam(""), "ignore-param"},
		"profile":        {watchbox.WithProfile("fast"), "fast"},
		"no data folder": {watchbox.WithDataDir(""), "data-dir"},
		"no NATS server": {watchbox.WithNATS(watchbox.NATS{}), "nats"},
	} {
		hub, err := watchbox.New(watchbox.WithMaxGroups(10), c.option)
		if err == nil {
			t.Errorf("%s: New accepts it", name)
			_ = hub.Close()
			continue
		}
		if !strings.HasPrefix(err.Error(), "watchbox: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not name %q", name, err, c.want)
		}
	}
}

func TestNilCallbacksAreLoggedAndRefusedByRun(t *testing.T) {
	var log safeBuffer
	hub, err := watchbox.New(watchbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hub.Close() }()
	hub.OnConnect(nil)
	hub.OnJoin(nil)
	hub.OnLeave(nil)
	hub.OnMessage(nil)
	hub.OnReconnect(nil)
	hub.OnDisconnect(nil)
	hub.BeforePublish(nil)
	other, err := watchbox.New() // without nil callbacks
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	err = hub.Run(t.Context(), "127.0.0.1:0", nil)
	for _, name := range []string{"OnConnect", "OnJoin", "OnLeave", "OnMessage", "OnReconnect", "OnDisconnect", "BeforePublish"} {
		if want := name + " was given a nil function"; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(log.String(), want) {
			t.Errorf("%s: Run returns %v, the log is %s", name, err, log.String())
		}
	}
	var none context.Context
	if _, err := hub.Publish(none, "foo", "x"); err == nil || !strings.Contains(err.Error(), "context is nil") {
		t.Errorf("Publish with a nil context: %v", err)
	}
	if err := other.Run(none, "127.0.0.1:0", nil); err == nil || !strings.Contains(err.Error(), "context is nil") {
		t.Errorf("Run with a nil context: %v", err)
	}
	if _, err := (watchbox.Message{}).Reply(t.Context(), "x"); err == nil {
		t.Error("a reply to a message from no hub succeeds")
	}
}

func TestSecondRunIsAnError(t *testing.T) {
	p, _, _ := run(t, nil)
	if err := p.Hub.Run(t.Context(), "127.0.0.1:0", nil); err == nil || !strings.Contains(err.Error(), "Run was called before") {
		t.Errorf("%v", err)
	}
	if got := p.call("GET /readyz", "", ""); !strings.HasPrefix(got, "200 ") {
		t.Errorf("the first Run: %s", got)
	}
}

// fieldError is an error whose Error method panics for a nil pointer.
type fieldError struct{ field string }

func (e *fieldError) Error() string { return e.field }

// TestPanicInBeforePublishIsAFinalError: the clients for Go and browsers do not retry it.
func TestPanicInBeforePublishIsAFinalError(t *testing.T) {
	var log safeBuffer
	hub, addr := serve(t, watchbox.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	p := at(t, addr)
	hub.BeforePublish(func(_ context.Context, m *watchbox.Message) error {
		if m.Text() == "panic" {
			panic("a mistake")
		}
		if m.Text() == "nil pointer" {
			var none *fieldError
			return none // not a nil error
		}
		return nil
	})
	for range 2 { // the failed request has freed the key
		p.refused(500, "program-failed", "POST /v1/groups/foo", "panic", "Idempotency-Key", "a-key")
	}
	resp, err := p.try(t.Context(), "POST /v1/groups/foo", "panic")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.Header.Get("Retry-After") != "" || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the header is %v", resp.Header)
	}
	p.refused(500, "program-failed", "POST /v1/groups/foo", "1\n\"panic\"\n2", "Content-Type", "application/x-ndjson")
	p.refused(500, "program-failed", "POST /v1/groups/foo", "nil pointer", "Idempotency-Key", "a-key")
	p.wants(201, "POST /v1/groups/foo", "fine", "Idempotency-Key", "a-key")
	for _, want := range []string{"BeforePublish panicked", "a mistake", "mistakes_test.go", "code=program-failed", "route=/v1/groups/*"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, log.String())
		}
	}
}

// TestCloseFromACallbackIsAnError: otherwise Close and the callback would wait for each other.
func TestCloseFromACallbackIsAnError(t *testing.T) {
	hub, addr := serve(t)
	p := at(t, addr)
	results := make(chan error, 10)
	hub.OnConnect(func(watchbox.Session) { results <- hub.Close() })
	hub.OnMessage(func(watchbox.Message) {
		results <- hub.Close()
		other, err := watchbox.New()
		if err == nil {
			err = other.Close() // another hub than the caller's
		}
		results <- err
		done := make(chan error)
		go func() { done <- nil }()
		results <- <-done
	})
	hub.BeforePublish(func(context.Context, *watchbox.Message) error { results <- hub.Close(); return nil })
	next := func(want error) {
		t.Helper()
		select {
		case err := <-results:
			if !errors.Is(err, want) {
				t.Errorf("Close returns %v, want %v", err, want)
			}
		case <-time.After(patience):
			t.Fatal("Close does not return")
		}
	}
	p.listen("/v1/groups/foo", "")
	next(watchbox.ErrCallback)
	p.wants(201, "POST /v1/groups/foo", "x")
	next(watchbox.ErrCallback)
	next(watchbox.ErrCallback)
	next(nil)
	next(nil)
	p.wants(200, "GET /readyz", "")
}

// TestCallbackMayCloseFromAnotherGoroutine: Close waits until the callback has returned.
func TestCallbackMayCloseFromAnotherGoroutine(t *testing.T) {
	hub, addr := serve(t)
	p := at(t, addr)
	closed := make(chan error, 1)
	hub.OnConnect(func(watchbox.Session) { go func() { closed <- hub.Close() }() })
	l := p.listen("/v1/groups/foo", "")
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if ev := l.next(); ev.Type != "bye" {
		t.Errorf("the stream has %s", ev.Type)
	}
}
