package sse

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener is a network in memory, whose waits are durable to synctest.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// timed runs a Client against a server with these handlers, in a synctest bubble. prepare may change the
// Client's settings. timed returns the times of the requests since the start, without those that were
// answered 204.
func timed(t *testing.T, prepare func(*listener), handlers ...http.HandlerFunc) (asked []time.Duration, l *listener) {
	synctest.Test(t, func(t *testing.T) {
		network := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		start := time.Now()
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if len(asked) == len(handlers) {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			asked = append(asked, time.Since(start))
			handlers[len(asked)-1](w, r)
		})}
		go func() { _ = srv.Serve(network) }()
		l = listen("http://pipe/")
		l.Retry, l.MaxBackoff = 0, 0
		l.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: network.dial, DisableKeepAlives: true}}
		if prepare != nil {
			prepare(l)
		}
		l.run(t)
		_ = srv.Close()
		synctest.Wait()
	})
	return asked, l
}

// within fails the test unless the waits between the times are within the bounds.
func within(t *testing.T, times []time.Duration, bounds ...[2]time.Duration) {
	t.Helper()
	if len(times) != len(bounds)+1 {
		t.Fatalf("%d requests, want %d", len(times), len(bounds)+1)
	}
	for i, b := range bounds {
		if wait := times[i+1] - times[i]; wait < b[0] || wait > b[1] {
			t.Errorf("wait %d is %v, want %v to %v", i+1, wait, b[0], b[1])
		}
	}
}

func TestTheWaitDoublesWithEachFailureAndIsBounded(t *testing.T) {
	var waits []time.Duration
	asked, _ := timed(t, func(l *listener) {
		l.OnDisconnect = func(_ error, wait time.Duration) { waits = append(waits, wait) }
	}, slices.Repeat([]http.HandlerFunc{status(503)}, 40)...)
	bounds := make([][2]time.Duration, len(asked)-1)
	for i := range bounds {
		bounds[i] = [2]time.Duration{time.Second, time.Second + min(time.Second<<min(i, 10), 30*time.Second)}
	}
	within(t, asked, bounds...)
	for i, wait := range waits[:len(asked)-1] {
		if got := asked[i+1] - asked[i]; got != wait {
			t.Errorf("OnDisconnect reports a wait of %v, but it is %v", wait, got)
		}
	}
	if longest := slices.Max(waits); longest < 20*time.Second {
		t.Errorf("the longest wait is %v", longest)
	}
}

func TestRetryIsHonoured(t *testing.T) {
	for _, test := range []struct {
		body           string
		least, longest time.Duration
	}{
		{"retry: 5000\n\n", 5 * time.Second, 10 * time.Second},
		{"retry: 5000\n", 5 * time.Second, 10 * time.Second}, // counts without a block's end
		{"retry: 1\n\n", time.Millisecond, 12 * time.Millisecond},
		{"retry: 0\n\n", 0, 12 * time.Millisecond},
		{"retry: x\n\n", time.Second, 2 * time.Second},
		{"retry: 120000\n\n", 2 * time.Minute, 150 * time.Second},
		{"retry: 99999999999999999999\n\n", 24 * time.Hour, 25 * time.Hour},
	} {
		asked, _ := timed(t, nil, stream(test.body), stream(""))
		within(t, asked, [2]time.Duration{test.least, test.longest})
	}
}

func TestRetryIsKeptAcrossReconnects(t *testing.T) {
	asked, _ := timed(t, nil, stream("retry: 60000\n\n"), status(500), stream(""), stream("retry: 10\n\n"), stream(""))
	minute := [2]time.Duration{time.Minute, 90 * time.Second}
	within(t, asked, minute, minute, minute, [2]time.Duration{10 * time.Millisecond, 30 * time.Second})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	later := func(w http.ResponseWriter, r *http.Request) {
		status(429, "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))(w, r)
	}
	asked, _ := timed(t, nil, status(503, "Retry-After", "100"), later, status(503, "Retry-After", "0"), stream(""))
	within(t, asked,
		[2]time.Duration{100 * time.Second, 130 * time.Second},
		[2]time.Duration{time.Hour - time.Second, time.Hour + 31*time.Second},
		[2]time.Duration{time.Second, 5 * time.Second})
}

// open is a stream that ends after a while.
func open(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		stream(":\n")(w, r)
		time.Sleep(d) // synctest's clock
	}
}

func TestOnlyAConnectionThatLastsCountsAsSuccess(t *testing.T) {
	handlers := append(slices.Repeat([]http.HandlerFunc{open(time.Second)}, 60), open(steadyAfter), open(0))
	asked, _ := timed(t, nil, handlers...)
	longest := time.Duration(0)
	for i := range 59 {
		longest = max(longest, asked[i+1]-asked[i])
	}
	if longest < 15*time.Second {
		t.Errorf("the longest wait between connections of one second is %v, want at least 15s", longest)
	}
	if wait := asked[61] - asked[60] - steadyAfter; wait > 2*time.Second {
		t.Errorf("the wait after a connection of %v is %v, want at most 2s", steadyAfter, wait)
	}
}

func TestIdleTimeout(t *testing.T) {
	const timeout = time.Minute
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	beating := func(w http.ResponseWriter, r *http.Request) {
		for range 10 {
			stream(":\n")(w, r)
			time.Sleep(timeout - time.Second)
		}
		<-r.Context().Done()
	}
	bytewise := func(w http.ResponseWriter, r *http.Request) {
		for range 10 {
			stream("x")(w, r)
			time.Sleep(timeout - time.Second)
		}
		<-r.Context().Done()
	}
	for _, test := range []struct {
		promise string
		answer  http.HandlerFunc
		lasts   time.Duration
	}{
		{"no header", silent, timeout},
		{"a header and no more", hold(""), timeout},
		{"an event and no more", hold("data: a\n\n"), timeout},
		{"comments reset the timeout", beating, 9*(timeout-time.Second) + timeout},
		{"each byte resets it", bytewise, 9*(timeout-time.Second) + timeout},
	} {
		t.Run(test.promise, func(t *testing.T) {
			asked, l := timed(t, func(l *listener) { l.IdleTimeout, l.AnswerTimeout = timeout, -1 }, test.answer, stream(""))
			within(t, asked, [2]time.Duration{test.lasts + time.Second, test.lasts + 2*time.Second})
			if !slices.Contains(l.calls, "lost: "+ErrIdle.Error()) {
				t.Errorf("calls %q, want ErrIdle", l.calls)
			}
		})
	}
}

// TestAnAttemptWithoutAnAnswerEnds checks the deadline of each stage of an answer.
func TestAnAttemptWithoutAnAnswerEnds(t *testing.T) {
	never := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	commenting := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			stream(":\n\nid: 1\n\n")(w, r)
			time.Sleep(time.Second)
		}
	}
	for _, test := range []struct {
		promise       string
		answer, first time.Duration
		handler       http.HandlerFunc
		lasts         time.Duration
	}{
		{"the header comes within a minute by default", 0, 0, never, time.Minute},
		{"the header comes within AnswerTimeout", 10 * time.Second, 0, never, 10 * time.Second},
		{"the header comes within FirstEventTimeout", 0, 20 * time.Second, never, 20 * time.Second},
		{"an event follows the header", 0, 20 * time.Second, hold(""), 20 * time.Second},
		{"half an event does not count", 0, 20 * time.Second, hold("id: 1\ndata: ha"), 20 * time.Second},
		{"comments and ids do not count", 0, 20 * time.Second, commenting, 20 * time.Second},
	} {
		t.Run(test.promise, func(t *testing.T) {
			asked, l := timed(t, func(l *listener) {
				l.AnswerTimeout, l.FirstEventTimeout, l.OnComment = test.answer, test.first, nil
			}, test.handler, stream("data: x\n\n"))
			within(t, asked, [2]time.Duration{test.lasts + time.Second, test.lasts + 3*time.Second})
			if !slices.ContainsFunc(l.calls, func(s string) bool { return strings.HasPrefix(s, "lost: "+ErrNoAnswer.Error()) }) {
				t.Errorf("calls %q, want ErrNoAnswer", l.calls)
			}
		})
	}
}

func TestAnAnsweredStreamHasNoDeadline(t *testing.T) {
	late := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(1000 * time.Hour) // synctest's clock
		stream("data: late\n\n")(w, r)
	}
	_, l := timed(t, func(l *listener) { l.AnswerTimeout = -1 }, late)
	l.want(t, "open", "message  late", "lost: EOF")
	asked, _ := timed(t, func(l *listener) { l.AnswerTimeout, l.FirstEventTimeout = time.Second, time.Second },
		func(w http.ResponseWriter, r *http.Request) {
			stream("data: x\n\n")(w, r)
			time.Sleep(1000 * time.Hour)
		}, stream(""))
	within(t, asked, [2]time.Duration{1000 * time.Hour, 1000*time.Hour + 2*time.Second})
}

func TestABeforeAttemptThatHangsDoesNotBlockTheClient(t *testing.T) {
	hangs := true
	_, l := timed(t, func(l *listener) {
		l.AnswerTimeout = 90 * time.Second
		l.BeforeAttempt = func(r *http.Request) error {
			if hangs {
				hangs = false
				<-r.Context().Done()
				return r.Context().Err()
			}
			return nil
		}
	}, stream("data: x\n\n"))
	l.want(t, "lost: "+ErrNoAnswer.Error()+": no response header within 1m30s", "open", "message  x", "lost: EOF")
}

func TestWithoutIdleTimeoutAStreamMayBeSilent(t *testing.T) {
	asked, _ := timed(t, nil, open(1000*time.Hour), stream(""))
	within(t, asked, [2]time.Duration{1000 * time.Hour, 1000*time.Hour + 2*time.Second})
}

func TestTheTimeInCallbacksDoesNotCountAsIdle(t *testing.T) {
	_, l := timed(t, func(l *listener) {
		l.IdleTimeout = time.Minute
		calls := l.OnEvent
		l.OnEvent = func(ev Event) { calls(ev); time.Sleep(time.Hour) }
	}, stream("data: a\n\ndata: b\n\ndata: c\n\ndata: d\n\n"))
	l.want(t, "open", "message  a", "message  b", "message  c", "message  d", "lost: EOF")
}

func TestIdleTimeoutLosesNoReceivedEvent(t *testing.T) {
	_, l := timed(t, func(l *listener) {
		l.IdleTimeout = time.Minute
		calls := l.OnEvent
		l.OnEvent = func(ev Event) { calls(ev); time.Sleep(time.Hour) }
	}, hold("data: a\n\ndata: b\n\ndata: c\n\n"))
	l.want(t, "open", "message  a", "message  b", "message  c", "lost: "+ErrIdle.Error())
}

func TestAnErrorResponseWithAStalledBodyDoesNotBlockTheClient(t *testing.T) {
	asked, l := timed(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(errorBody))
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "part")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, stream(""))
	within(t, asked, [2]time.Duration{errorWait + time.Second, errorWait + 2*time.Second})
	l.want(t, "lost: sse: the server answered 502 Bad Gateway", "open", "lost: EOF")
}

func TestTheContextEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopped := errors.New("stopped")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 90*time.Minute, stopped)
		defer cancel()
		l := listen("http://pipe/")
		l.BeforeAttempt = func(*http.Request) error {
			return &StatusError{Code: 503, Header: http.Header{"Retry-After": {"3600"}}}
		}
		start := time.Now()
		if err := l.Run(ctx); err != stopped || time.Since(start) != 90*time.Minute || len(l.calls) != 2 {
			t.Errorf("after %v and %d attempts: %v", time.Since(start), len(l.calls), err)
		}
	})
}
