package interop_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/launchdarkly/eventsource"
	r3labs "github.com/r3labs/sse/v2"
	gosse "github.com/tmaxmax/go-sse"

	"github.com/watchbox-go/watchbox/sse"
)

// each runs all clients of a crowd. They end with the test.
func each(t *testing.T, run func(ctx context.Context, client int)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() { run(ctx, i) })
	}
	t.Cleanup(func() { cancel(); running.Wait() })
}

// transport returns a transport whose connections are closed at the end of the test.
func transport(t *testing.T) *http.Transport {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// r3labs/sse ends the subscription when the stream ends, and delivers a block that was cut off. The loop
// therefore subscribes again, after the id of the last complete block.
func TestR3labsSurvivesRestartsInALoopThatKeepsTheID(t *testing.T) {
	s := serve(t)
	tr := transport(t)
	survive(t, s, func(c *crowd) {
		each(t, func(ctx context.Context, i int) {
			client := r3labs.NewClient(s.url("/v1/events?since=all"), r3labs.ClientMaxBufferSize(1<<20))
			client.Connection = &http.Client{Transport: tr}
			client.ReconnectStrategy = once{}
			var last []byte
			for ctx.Err() == nil {
				_ = client.SubscribeWithContext(ctx, "a", func(ev *r3labs.Event) {
					if !json.Valid(ev.Data) {
						return
					}
					last = ev.ID
					if len(ev.Event) == 0 {
						c.hear(i, ev.Data)
					}
				})
				if last != nil {
					client.LastEventID.Store(last)
				}
				pause(ctx)
			}
		})
	})
}

// once is a reconnect strategy with one attempt.
type once struct{}

func (once) NextBackOff() time.Duration { return -1 }
func (once) Reset()                     {}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

func TestR3labsAloneStopsWhenTheServerEndsTheStream(t *testing.T) {
	s := serve(t)
	client := r3labs.NewClient(s.url("/v1/events"))
	client.Connection = &http.Client{Transport: transport(t)}
	heard, ended := make(chan string, 10), make(chan error, 1)
	go func() {
		ended <- client.Subscribe("a", func(ev *r3labs.Event) { heard <- string(ev.Event) })
	}()
	if got := receive(t, heard); got != "session" {
		t.Errorf("the first event is %q", got)
	}
	s.close()
	s.open()
	if err := receive(t, ended); err != nil {
		t.Errorf("the error is %v", err)
	}
}

func TestR3labsDeliversABlockThatWasCutOffAndKeepsItsID(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("id: 1\ndata: {}\n\nid: 2\ndata: {\"cut\""))
	}))
	defer srv.Close()
	client := r3labs.NewClient(srv.URL)
	client.Connection = srv.Client()
	var heard []string
	err := client.SubscribeRaw(func(ev *r3labs.Event) { heard = append(heard, string(ev.ID)+" "+string(ev.Data)) })
	if err != nil || !slices.Equal(heard, []string{"1 {}", `2 {"cut"`}) {
		t.Errorf("received %q, %v", heard, err)
	}
	if id, _ := client.LastEventID.Load().([]byte); string(id) != "2" {
		t.Errorf("it would continue after %q", id)
	}
}

func TestOurClientSurvivesRestarts(t *testing.T) {
	s := serve(t)
	client := &http.Client{Transport: transport(t)}
	survive(t, s, func(c *crowd) {
		each(t, func(ctx context.Context, i int) {
			own := &sse.Client{URL: s.url("/v1/groups/a?since=all"), HTTPClient: client, MaxBackoff: 100 * time.Millisecond}
			own.OnEvent = func(ev sse.Event) {
				if ev.Type == "message" {
					c.hear(i, ev.Data)
				}
			}
			if err := own.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("it ends with %v", err)
			}
		})
	})
}

func TestGoSSESurvivesRestarts(t *testing.T) {
	s := serve(t)
	client := &gosse.Client{HTTPClient: &http.Client{Transport: transport(t)}, Backoff: gosse.Backoff{MaxInterval: 100 * time.Millisecond}}
	survive(t, s, func(c *crowd) {
		each(t, func(ctx context.Context, i int) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url("/v1/groups/a?since=all"), nil)
			if err != nil {
				t.Error(err)
				return
			}
			conn := client.NewConnection(req)
			conn.SubscribeMessages(func(ev gosse.Event) { c.hear(i, []byte(ev.Data)) })
			if err := conn.Connect(); !errors.Is(err, context.Canceled) {
				t.Errorf("it ends with %v", err)
			}
		})
	})
}

func TestLaunchDarklySurvivesRestarts(t *testing.T) {
	s := serve(t)
	client := &http.Client{Transport: transport(t)}
	survive(t, s, func(c *crowd) {
		each(t, func(ctx context.Context, i int) {
			stream, err := eventsource.SubscribeWithURL(s.url("/v1/groups/a?since=all"),
				eventsource.StreamOptionHTTPClient(client),
				eventsource.StreamOptionErrorHandler(func(error) (r eventsource.StreamErrorHandlerResult) { return r }))
			if err != nil {
				t.Error(err)
				return
			}
			defer context.AfterFunc(ctx, stream.Close)()
			for ev := range stream.Events {
				if ev.Event() == "" && ev.Data() != "" {
					c.hear(i, []byte(ev.Data()))
				}
			}
		})
	})
}

// receive waits for a value.
func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("timed out")
	}
	return v
}
