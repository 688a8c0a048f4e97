package sse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestClientTriesAgain(t *testing.T) {
	leavesNothing(t)
	dials := 0
	s := serve(t,
		status(http.StatusServiceUnavailable),
		cut("data: a\n\ndata: lost"),
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	l := listen(s.URL)
	broken := errors.New("broken")
	l.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials++; dials == 1 {
				return nil, broken
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}}}
	l.OnDisconnect = func(err error, _ time.Duration) {
		if errors.Is(err, broken) {
			l.record("cannot dial")
			return
		}
		l.record("lost: %T", err)
	}
	l.run(t)
	l.want(t, "cannot dial", "lost: *sse.StatusError", "open", "message  a", "lost: *errors.errorString", "lost: *url.Error")
}

func TestClientTriesAgainAfterBeforeAttemptFails(t *testing.T) {
	leavesNothing(t)
	s := serve(t, stream(""))
	l := listen(s.URL)
	fails := true
	l.BeforeAttempt = func(*http.Request) error {
		if fails {
			fails = false
			return errors.New("no token")
		}
		return nil
	}
	l.run(t)
	l.want(t, "lost: no token", "open", "lost: EOF")
}

func TestClientFollowsRedirects(t *testing.T) {
	leavesNothing(t)
	target := serve(t, stream("id: 2\ndata: a\n\n"))
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
	})
	l := listen(s.URL)
	l.Method, l.Body, l.LastEventID = "POST", []byte("what"), "1"
	l.run(t)
	l.want(t, "open", "message 2 a", "lost: EOF")
	s.wantID(t, "1")
	s.wantID(t, "2") // each attempt begins with the Client's own URL
	r := <-target.asked
	if body, _ := io.ReadAll(r.Body); r.Method != "POST" || string(body) != "what" || r.Header.Get("Last-Event-ID") != "1" {
		t.Errorf("the target was asked %s with %q and %v", r.Method, body, r.Header)
	}
}

func TestClientReportsInvalidRedirects(t *testing.T) {
	for _, location := range []string{"", "http://a b/", "/loop"} {
		leavesNothing(t)
		again := status(http.StatusFound, "Location", location)
		s := serve(t, slices.Repeat([]http.HandlerFunc{again}, 10)...)
		l := listen(s.URL)
		err := l.Run(t.Context())
		if _, ok := errors.AsType[*StatusError](err); !ok || len(l.calls) > 0 && !strings.Contains(l.calls[0], "lost: ") {
			t.Errorf("Location %q: calls %q, Run: %v", location, l.calls, err)
		}
	}
}

func TestBackoff(t *testing.T) {
	for _, test := range []struct {
		asked    time.Duration
		failures int
		most     time.Duration
		lo, hi   time.Duration
	}{
		{time.Second, 0, 30 * time.Second, time.Second, 2 * time.Second},
		{time.Second, 1, 30 * time.Second, time.Second, 3 * time.Second},
		{time.Second, 3, 30 * time.Second, time.Second, 9 * time.Second},
		{time.Second, 5, 30 * time.Second, time.Second, 31 * time.Second},
		{time.Second, math.MaxInt, 30 * time.Second, time.Second, 31 * time.Second},
		{time.Minute, 0, 30 * time.Second, time.Minute, 90 * time.Second},
		{0, 0, 30 * time.Second, 0, 10 * time.Millisecond},
		{0, 4, 30 * time.Second, 0, 160 * time.Millisecond},
		{-time.Second, 0, 30 * time.Second, 0, 10 * time.Millisecond},
		{time.Second, 9, 0, time.Second, time.Second + 1},
		{time.Second, 9, -1, time.Second, time.Second + 1},
		{math.MaxInt64, math.MaxInt, math.MaxInt64, 24 * time.Hour, 48 * time.Hour},
		{math.MaxInt64, 99, time.Second, 24 * time.Hour, 24*time.Hour + time.Second},
	} {
		least, longest := time.Duration(math.MaxInt64), time.Duration(0)
		for range 1000 {
			wait := backoff(test.asked, test.failures, test.most)
			least, longest = min(least, wait), max(longest, wait)
		}
		if least < test.lo || longest >= test.hi {
			t.Errorf("backoff(%v, %d, %v) is from %v to %v, want %v to %v", test.asked, test.failures, test.most, least, longest, test.lo, test.hi)
		}
		if spread := test.hi - test.lo; longest-least < spread/10*9-1 { // of a thousand clients
			t.Errorf("backoff(%v, %d, %v) spreads over %v, want %v", test.asked, test.failures, test.most, longest-least, spread)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "-1": 0, "1.5": 0, "soon": 0, "99999999999999": 0,
	} {
		err := fmt.Errorf("wrapped: %w", &StatusError{Code: 503, Header: http.Header{"Retry-After": {value}}})
		if got := retryAfter(err); got != want {
			t.Errorf("Retry-After: %s is %v, want %v", value, got, want)
		}
	}
	date := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	got := retryAfter(&StatusError{Header: http.Header{"Retry-After": {date}}})
	if got < 59*time.Minute || got > time.Hour {
		t.Errorf("Retry-After: %s is %v", date, got)
	}
	if got := retryAfter(&url.Error{Err: io.EOF}); got != 0 {
		t.Errorf("the wait after an error without a response is %v, want 0", got)
	}
}
