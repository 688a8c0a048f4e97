package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/client"
)

func TestKickClosesTheClient(t *testing.T) {
	r := newRig(t)
	calls := newRecorder(t)
	c := r.client(client.OnDisconnect(func(err error) { calls.note("%v", err) }), client.OnState(func(s client.State) { calls.note("%v", s) }))
	r.join(c, "a")
	req, _ := http.NewRequestWithContext(r.timeout(), http.MethodDelete, r.srv.URL+"/v1/sessions/"+c.UID(), nil)
	resp, err := r.srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	calls.want("connecting", "open", "watchbox: the hub ended the session (kicked)", "closed")
	_, err = c.Join(r.timeout(), "b", ignore)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "kicked" {
		t.Errorf("%v", err)
	}
}

// TestFinalAnswersCloseTheClient uses servers that are not hubs.
func TestFinalAnswersCloseTheClient(t *testing.T) {
	for name, c := range map[string]struct {
		status   int
		media    string
		requests int64
	}{
		"204": {204, "", 1}, "401": {401, "text/plain", 2}, "403": {403, "text/plain", 1}, "another media type": {200, "text/html", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("Content-Type", c.media)
				w.WriteHeader(c.status)
			}))
			defer srv.Close()
			lost := newRecorder(t)
			cl, err := client.New(srv.URL, client.OnDisconnect(func(error) { lost.note("lost") }),
				client.WithToken(func(context.Context) (string, error) { return "token", nil }))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cl.Close() }()
			_, err = cl.Join(t.Context(), "a", ignore)
			if e, ok := errors.AsType[*client.Error](err); c.status != 200 && (!ok || e.Status != c.status) || err == nil {
				t.Errorf("%v", err)
			}
			if requests.Load() != c.requests {
				t.Errorf("%d requests, want %d", requests.Load(), c.requests)
			}
			if c.status != 200 {
				lost.want("lost")
				if cl.State() != client.StateClosed {
					t.Errorf("%v", cl.State())
				}
			}
		})
	}
}

func TestRefusedTokenIsRenewed(t *testing.T) {
	r := newRig(t)
	var valid atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != fmt.Sprint("Bearer ", valid.Load()) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.hub.ServeHTTP(w, req)
	}))
	defer srv.Close()
	r.leadsTo(srv.Listener.Addr().String())
	token := int64(-1) // the first token is out of date
	c := r.client(client.WithToken(func(context.Context) (string, error) {
		defer func() { token = valid.Load() }()
		return fmt.Sprint(token), nil
	}))
	_, h := r.join(c, "a")
	valid.Store(1)
	if _, err := c.Publish(r.timeout(), "a", "x"); err != nil {
		t.Fatal(err)
	}
	h.want("x")
	valid.Store(2)
	r.cut()
	h.until("a return", func([]string) bool {
		r.publish("a", "y")
		list, _ := h.all()
		return len(list) > 1
	})
}

func TestCallsEndWithTheirContext(t *testing.T) {
	r := newRig(t)
	c := r.client()
	r.down()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Join(ctx, "a", ignore); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := c.Publish(ctx, "a", 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	r.up(t)
	_, h := r.join(c, "a")
	r.publish("a", 2)
	h.want("2")
}

func TestWillIsSentUnlessTheClientIsClosed(t *testing.T) {
	r := newRig(t, watchbox.WithSessionTimeout(100*time.Millisecond))
	watch := r.client()
	_, h := r.join(watch, "wills")
	for _, name := range []string{"closed", "lost"} {
		c := r.client()
		if err := c.SetWill(r.timeout(), "wills", name, 0); err != nil { // before it is connected
			t.Fatal(err)
		}
		r.join(c, "a")
		if err := c.SetWill(r.timeout(), "wills", "it was "+name, 0); err != nil {
			t.Fatal(err)
		}
		if name == "closed" {
			_ = c.Close()
		} else {
			r.down()
		}
	}
	for len(r.history("wills")) == 0 && !t.Failed() {
	}
	if held := r.history("wills"); !slices.Equal(held, []string{`"it was lost"`}) {
		t.Errorf("%q", held)
	}
	r.up(t)
	h.want("it was lost")
}

func TestCloseMayRunDuringOtherCalls(t *testing.T) {
	r := newRig(t)
	for range 30 {
		c := r.client()
		var all sync.WaitGroup
		for n := range 5 {
			all.Go(func() { _, _ = c.Join(r.timeout(), fmt.Sprint("a/", n), func(client.Message) {}) })
			all.Go(func() { _, _ = c.Publish(r.timeout(), fmt.Sprint("a/", n), n) })
		}
		all.Go(func() {
			for range c.Messages(r.timeout(), "a/#") {
				return
			}
		})
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
