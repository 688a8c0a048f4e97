package interop_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	r3labs "github.com/r3labs/sse/v2"
	gosse "github.com/tmaxmax/go-sse"

	"github.com/watchbox-go/watchbox/sse"
)

// resumes runs our client with a server that disconnects it after every third event. publish makes the server send an
// event. It returns the received data.
func resumes(t *testing.T, peer http.Handler, publish func(data string), path, behind string) (heard []string) {
	t.Helper()
	srv := httptest.NewServer(peer)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events, opened := make(chan string, 100), make(chan bool, 100)
	c := &sse.Client{URL: srv.URL + path, LastEventID: behind, HTTPClient: srv.Client(), Retry: 10 * time.Millisecond, MaxBackoff: 10 * time.Millisecond}
	c.OnOpen = func(http.Header) { opened <- true }
	c.OnEvent = func(ev sse.Event) { events <- string(ev.Data) }
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	for i := range 30 {
		if i > 0 && i%3 == 0 {
			srv.CloseClientConnections()
		}
		publish(strconv.Itoa(i))
		for {
			data := receive(t, events)
			heard = append(heard, data)
			if data == strconv.Itoa(i) {
				break
			}
		}
	}
	cancel()
	if err := receive(t, ended); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	if len(opened) < 10 {
		t.Errorf("it connected %d times, want 10", len(opened))
	}
	return heard
}

// numbers returns 0 to 29 as strings.
func numbers() (list []string) {
	for i := range 30 {
		list = append(list, strconv.Itoa(i))
	}
	return list
}

// go-sse resumes after the id. The test chooses the ids: with ids of its own, go-sse v0.12.0 sends everything again to
// a client that has the newest one.
func TestOurClientResumesGoSSE(t *testing.T) {
	log, err := gosse.NewFiniteReplayer(100, false)
	if err != nil {
		t.Fatal(err)
	}
	peer := &gosse.Server{Provider: &gosse.Joe{Replayer: log}}
	defer func() {
		if err := peer.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	next := 0
	publish := func(data string) {
		m := &gosse.Message{ID: gosse.ID(strconv.Itoa(next))}
		next++
		m.AppendData(data)
		if err := peer.Publish(m); err != nil {
			t.Error(err)
		}
	}
	publish("before") // it has the id 0
	heard := resumes(t, peer, publish, "/", "0")
	if !slices.Equal(heard, numbers()) {
		t.Errorf("received %v", heard)
	}
}

// r3labs/sse resumes with the event of the id, so the last event is received again.
func TestOurClientResumesR3labs(t *testing.T) {
	peer := r3labs.New()
	defer peer.Close()
	peer.CreateStream("s")
	publish := func(data string) { peer.Publish("s", &r3labs.Event{Data: []byte(data)}) }
	heard := resumes(t, peer, publish, "/?stream=s", "")
	if once := slices.Compact(slices.Clone(heard)); !slices.Equal(once, numbers()) {
		t.Errorf("received %v", heard)
	}
	if len(heard) != 39 {
		t.Errorf("received %d, want each of the 9 before a cut twice: %v", len(heard), heard)
	}
}
