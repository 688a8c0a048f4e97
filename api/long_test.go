package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox"
)

// TestMemoryOfUnreadHistoriesIsBounded has several clients that request large messages and do not read them.
// Only one large message is in memory at a time. The next client gets its messages when the first one leaves.
func TestMemoryOfUnreadHistoriesIsBounded(t *testing.T) {
	const (
		memory   = 8 << 20 // a quarter of it for large messages in responses: one at a time here
		messages = 20
		buffers  = 96 << 10
	)
	for _, path := range []string{"/v1/history/%23", "/v1/retained/%23"} {
		s := serve(t, watchbox.WithMaxRequestMemory(memory))
		text := strings.Repeat("x", 1<<20)
		for i := range messages {
			s.post(fmt.Sprintf("/v1/groups/foo/%d?retain=true", i), text)
		}
		ask := func() *socket {
			c := s.dial()
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, s.addr)
			return c
		}
		first := ask()
		eventually(t, "the first holds a message", func() bool { return s.figure("request_bytes") == 2<<20+buffers })
		second, third := ask(), ask()
		eventually(t, "the others hold their buffers", func() bool { return s.figure("request_bytes") == 2<<20+3*buffers })
		_, _ = first.Close(), third.Close()
		resp, err := http.ReadResponse(second.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if n := strings.Count(string(body), `"msg"`); n != messages || err != nil {
			t.Errorf("%s: the second gets %d messages, %v", path, n, err)
		}
		_ = resp.Body.Close()
		eventually(t, "all memory is released", func() bool { return s.figure("request_bytes") == 0 })
	}
}

// unread is a connection whose client does not read.
type unread struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

// SetWriteDeadline is called by http.ResponseController.
func (u *unread) SetWriteDeadline(t time.Time) error {
	u.deadline = t
	return nil
}

func (u *unread) Write([]byte) (int, error) {
	if u.deadline.IsZero() {
		return 0, fmt.Errorf("a write without a deadline")
	}
	time.Sleep(time.Until(u.deadline))
	return 0, os.ErrDeadlineExceeded
}

// TestClientThatDoesNotReadALongResponseIsDisconnected also checks that the memory is released.
func TestClientThatDoesNotReadALongResponseIsDisconnected(t *testing.T) {
	hub := newMemoryHub(t)
	defer func() { _ = hub.Close() }()
	for _, path := range []string{"/v1/history/foo", "/v1/retained/foo", "/v1/sessions", "/v1/presence/foo"} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			defer func() {
				if p := recover(); p != http.ErrAbortHandler || time.Since(begin) != 30*time.Second {
					t.Errorf("%s: after %v the handler ends with %v", path, time.Since(begin), p)
				}
			}()
			hub.ServeHTTP(&unread{ResponseRecorder: httptest.NewRecorder()}, httptest.NewRequest("GET", path, nil))
		})
	}
	w := httptest.NewRecorder()
	hub.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "\nwatchbox_request_bytes 0\n") {
		t.Error("requests that have ended hold memory")
	}
}
