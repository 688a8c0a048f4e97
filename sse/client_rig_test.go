package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// server answers each request with the next of its handlers. After the last it answers 204, which ends a
// Client. It records the requests.
type server struct {
	*httptest.Server
	asked chan *http.Request
}

func serve(t *testing.T, handlers ...http.HandlerFunc) *server {
	t.Helper()
	s := unstarted(handlers...)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func unstarted(handlers ...http.HandlerFunc) *server {
	s := &server{asked: make(chan *http.Request, 100)}
	next := make(chan http.HandlerFunc, len(handlers))
	for _, h := range handlers {
		next <- h
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.asked <- r
		select {
		case h := <-next:
			h(w, r)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	return s
}

// stream answers with a stream that ends.
func stream(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		SetHeader(w.Header())
		_, _ = io.WriteString(w, body)
		_ = http.NewResponseController(w).Flush()
	}
}

// hold answers with a stream that stays open and sends no more.
func hold(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		stream(body)(w, r)
		<-r.Context().Done()
	}
}

// cut answers with a stream whose connection breaks.
func cut(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		stream(body)(w, r)
		panic(http.ErrAbortHandler)
	}
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// listener is a Client that records the calls of its callbacks. The race detector checks that one goroutine
// makes them.
type listener struct {
	Client
	calls []string
}

func listen(url string) *listener {
	l := &listener{}
	l.Client = Client{
		URL: url, Retry: time.Millisecond, MaxBackoff: time.Millisecond,
		OnOpen:       func(h http.Header) { l.record("open") },
		OnEvent:      func(ev Event) { l.record("%s %s %s", ev.Type, ev.ID, ev.Data) },
		OnComment:    func(text string) { l.record("comment%s", text) },
		OnError:      func(err error) { l.record("error: %v", err) },
		OnDisconnect: func(err error, _ time.Duration) { l.record("lost: %v", err) },
	}
	return l
}

func (l *listener) record(format string, args ...any) {
	l.calls = append(l.calls, fmt.Sprintf(format, args...))
}

// run runs until the server is out of handlers.
func (l *listener) run(t *testing.T) {
	t.Helper()
	err := l.Run(t.Context())
	if status, ok := errors.AsType[*StatusError](err); !ok || status.Code != http.StatusNoContent {
		t.Errorf("Run: %v, want status 204", err)
	}
}

func (l *listener) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(l.calls, want) {
		t.Errorf("calls\n\t%s\nwant\n\t%s", strings.Join(l.calls, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// wantID fails the test unless the server's next request resumes after id.
func (s *server) wantID(t *testing.T, id string) {
	t.Helper()
	if got := (<-s.asked).Header.Values("Last-Event-ID"); !slices.Equal(got, nonEmpty(id)) {
		t.Errorf("a request resumes after %q, want %q", got, id)
	}
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
