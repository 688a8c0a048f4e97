package interop_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	r3labs "github.com/r3labs/sse/v2"
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
