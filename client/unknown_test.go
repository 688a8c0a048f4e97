package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/client"
)

// lagging is a hub that does not know yet of the stream that the client has opened at another one.
type lagging struct {
	mu      sync.Mutex // guards what follows
	unknown int        // so many calls are answered with 404
	calls   []string   // that succeeded
}

func (l *lagging) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isEvents(r) {
		write(w, session)
		<-r.Context().Done()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	what := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if own := what == "will" || isChange(r.Method)(r); own && l.unknown > 0 {
		l.unknown--
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"title":"Not Found","status":404,"code":"session-unknown","detail":"there is no such session"}`)
		return
	} else if own {
		l.calls = append(l.calls, r.Method+" "+what)
	}
	w.WriteHeader(http.StatusNoContent)
}

// after sets how many calls are answered with 404, and returns which calls have succeeded before.
func (l *lagging) after(unknown int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := strings.Join(l.calls, ", ")
	l.unknown, l.calls = unknown, nil
	return got
}

// TestACallIsRepeatedWhileAHubDoesNotKnowTheOpenStream, since the hub may lag behind the one with the stream.
func TestACallIsRepeatedWhileAHubDoesNotKnowTheOpenStream(t *testing.T) {
	l := &lagging{unknown: 4}
	timed(t, l.ServeHTTP, func(t *testing.T, c *client.Client) {
		if err := c.SetWill(t.Context(), "wills", "gone", 0); err != nil {
			t.Fatal(err)
		}
		sub, err := c.Join(t.Context(), "a", ignore)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Join(t.Context(), "b", ignore); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // synctest's clock
		if got := l.after(4); !strings.Contains(got, "PUT will") {
			t.Errorf("with the stream, the client has made the calls %q", got)
		}
		for _, call := range []struct {
			want string
			make func() error
		}{
			{"PUT will", func() error { return c.SetWill(t.Context(), "wills", "gone", 0) }},
			{"DELETE will", func() error { return c.ClearWill(t.Context()) }},
			{"DELETE a", func() error { return sub.Leave(t.Context()) }},
		} {
			if err := call.make(); err != nil {
				t.Errorf("%s: %v", call.want, err)
			}
			if got := l.after(4); got != call.want {
				t.Errorf("the client has made the calls %q, want %q", got, call.want)
			}
		}
	})
}

// TestACallAboutASessionThatIsUnknownForLongFails, and ends with the client.
func TestACallAboutASessionThatIsUnknownForLongFails(t *testing.T) {
	l := &lagging{unknown: 1e6}
	timed(t, l.ServeHTTP, func(t *testing.T, c *client.Client) {
		if _, err := c.Join(t.Context(), "a", ignore); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := c.SetWill(t.Context(), "wills", "gone", 0)
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusNotFound || time.Since(began) > 10*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		answer := make(chan error, 1)
		go func() { answer <- c.SetWill(context.Background(), "wills", "gone", 0) }()
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-answer; !errors.Is(err, client.ErrClosed) {
			t.Errorf("when the client is closed: %v", err)
		}
	})
}
