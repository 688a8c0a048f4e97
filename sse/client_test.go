package sse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestClientCallsBackInWireOrder(t *testing.T) {
	leavesNothing(t)
	s := serve(t,
		stream(": hello\nid: 1\ndata: a\n\nevent: e\ndata: b\n: between\ndata: c\n\ndata:\n\n:"+strings.Repeat(":\n\n", 1)),
		stream(": again\nid\ndata: d\n\n"))
	l := listen(s.URL)
	l.run(t)
	l.want(t,
		"open", "comment hello", "message 1 a", "comment between", "e 1 b\nc", "message 1 ", "comment:", "lost: EOF",
		"open", "comment again", "message  d", "lost: EOF")
	s.wantID(t, "")
	s.wantID(t, "1")
	s.wantID(t, "")
}

func TestClientAsksForAStream(t *testing.T) {
	leavesNothing(t)
	s := serve(t)
	listen(s.URL + "/path?a=b").run(t)
	r := <-s.asked
	if r.Method != "GET" || r.RequestURI != "/path?a=b" || r.ContentLength != 0 {
		t.Errorf("%s %s with %d bytes", r.Method, r.RequestURI, r.ContentLength)
	}
	if accept, cache := r.Header.Get("Accept"), r.Header.Get("Cache-Control"); accept != "text/event-stream" || cache != "no-cache" {
		t.Errorf("Accept: %s, Cache-Control: %s", accept, cache)
	}
}

func TestClientSendsItsFields(t *testing.T) {
	leavesNothing(t)
	s := serve(t, stream(""))
	l := listen(s.URL + "/?token=")
	l.Method, l.Body, l.LastEventID = "REPORT", []byte("what"), "41"
	l.Header = http.Header{"Accept": {"text/event-stream, application/problem+json"}, "X-Two": {"1", "2"}}
	attempts := 0
	l.BeforeAttempt = func(r *http.Request) error {
		attempts++
		r.URL.RawQuery += fmt.Sprint(attempts)
		r.Header.Set("Authorization", fmt.Sprint("Bearer ", attempts))
		return nil
	}
	l.run(t)
	for n := range 2 {
		r := <-s.asked
		body, _ := io.ReadAll(r.Body)
		if r.Method != "REPORT" || string(body) != "what" || r.URL.RawQuery != fmt.Sprint("token=", n+1) {
			t.Errorf("%s ?%s with %q", r.Method, r.URL.RawQuery, body)
		}
		for name, want := range map[string][]string{
			"Accept": l.Header["Accept"], "X-Two": {"1", "2"},
			"Last-Event-Id": {"41"}, "Authorization": {fmt.Sprint("Bearer ", n+1)},
		} {
			if got := r.Header[name]; !slices.Equal(got, want) {
				t.Errorf("attempt %d: %s: %q, want %q", n+1, name, got, want)
			}
		}
	}
	if len(l.Header) != 2 {
		t.Errorf("the Client's Header became %v", l.Header)
	}
}

func TestClientKeepsOnlyTheIDsOfCompleteBlocks(t *testing.T) {
	for _, test := range []struct{ promise, body, want string }{
		{"an event's", "id: 1\ndata: a\n\n", "1"},
		{"one without data", "id: 1\ndata: a\n\nid: 2\n\n", "2"},
		{"a heartbeat's", ":\nid: 2\n\n", "2"},
		{"none that was cut short", "id: 1\ndata: a\n\nid: 2\ndata: b\n", "1"},
		{"none that was cut short before its data", "id: 1\n\nid: 2\n", "1"},
		{"none with NUL", "id: 1\n\nid: \x00\ndata: a\n\n", "1"},
		{"the empty one", "id: 1\ndata: a\n\nid:\n\n", ""},
		{"one of an event that was too large", "id: 1\ndata: " + strings.Repeat("x", 200) + "\n\n", "1"},
		{"one that is not ASCII", "id: é€\n\n", "é€"},
	} {
		for how, answer := range map[string]func(string) http.HandlerFunc{"ended": stream, "cut": cut} {
			t.Run(test.promise+"/"+how, func(t *testing.T) {
				leavesNothing(t)
				s := serve(t, answer(test.body))
				l := listen(s.URL)
				l.MaxEventSize = 100
				l.run(t)
				s.wantID(t, "")
				s.wantID(t, test.want)
				if l.LastEventID != test.want {
					t.Errorf("LastEventID is %q, want %q", l.LastEventID, test.want)
				}
			})
		}
	}
}

// TestClientReconnectsWithoutAnIDThatCannotBeSent uses ids that net/http refuses to send in a header.
func TestClientReconnectsWithoutAnIDThatCannotBeSent(t *testing.T) {
	for _, id := range []string{"\x01", "a\x7f", "a\x1fb"} {
		leavesNothing(t)
		s := serve(t, stream("id: "+id+"\ndata: a\n\n"), stream("data: b\n\n"))
		l := listen(s.URL)
		l.run(t)
		calls := fmt.Sprintf("error: sse: the last event id cannot be sent: %q", id)
		l.want(t, "open", "message "+id+" a", "lost: EOF", calls, "open", "message "+id+" b", "lost: EOF", calls)
		s.wantID(t, "")
		s.wantID(t, "")
	}
}

func TestClientStopsAtFinalErrors(t *testing.T) {
	for code, final := range map[int]bool{
		201: true, 204: true, 205: true, 210: true, 299: true, 300: true, 301: true, 304: true,
		400: true, 401: true, 403: true, 404: true, 405: true, 406: true, 410: true, 415: true, 422: true,
		408: false, 425: false, 429: false, 500: false, 502: false, 503: false, 504: false, 599: false,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			leavesNothing(t)
			s := serve(t, status(code, "X-Why", "because"))
			l := listen(s.URL)
			err := l.Run(t.Context())
			got, ok := errors.AsType[*StatusError](err)
			switch {
			case !ok:
				t.Fatalf("Run: %v, want a StatusError", err)
			case final && (got.Code != code || got.Header.Get("X-Why") != "because"):
				t.Errorf("Run: %v with header %v, want status %d", err, got.Header, code)
			case !final:
				l.want(t, "lost: "+(&StatusError{Code: code}).Error())
			}
		})
	}
}

// TestOnlyTheServersOwnResponsesAreFinalAfterTheFirstStream also has responses that come from a proxy while
// the server is replaced, or from a network that requires a login.
func TestOnlyTheServersOwnResponsesAreFinalAfterTheFirstStream(t *testing.T) {
	problem := []string{"Content-Type", "application/problem+json; charset=utf-8"}
	page := []string{"Content-Type", "text/html"}
	for _, test := range []struct {
		code   int
		header []string
		final  bool
	}{
		{204, nil, true}, {401, page, true}, {403, nil, true}, {404, problem, true}, {400, problem, true}, {410, problem, true},
		{404, page, false}, {400, nil, false}, {405, page, false}, {410, page, false}, {302, nil, false}, {200, page, false},
		{503, problem, false}, {429, problem, false},
	} {
		t.Run(fmt.Sprint(test.code, test.header), func(t *testing.T) {
			leavesNothing(t)
			s := serve(t, stream("id: 1\n\n"), status(test.code, test.header...), stream("id: 2\ndata: back\n\n"))
			l := listen(s.URL)
			err := l.Run(t.Context())
			if back := slices.Contains(l.calls, "message 2 back"); back == test.final {
				t.Errorf("calls %q, Run: %v; want it to be final: %v", l.calls, err, test.final)
			}
		})
	}
}

func TestFinalDecidesWhichErrorsEndTheClient(t *testing.T) {
	leavesNothing(t)
	s := serve(t, status(404), status(204), status(503))
	l := listen(s.URL)
	l.Final = func(err error) bool {
		status, ok := errors.AsType[*StatusError](err)
		return ok && status.Code == 503
	}
	if err := l.Run(t.Context()); err == nil || err.Error() != (&StatusError{Code: 503}).Error() {
		t.Errorf("Run: %v", err)
	}
}

func TestSecretsDoNotFollowARedirectToAnotherHost(t *testing.T) {
	leavesNothing(t)
	other := serve(t, stream("id: 2\n\n"))
	for _, code := range []int{301, 302, 303, 307, 308} {
		elsewhere := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, code) }
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/here", code) }, stream("id: 1\n\n"), elsewhere)
		l := listen(s.URL + "/?token=query")
		l.Method, l.Body = "POST", []byte("what")
		l.Header = http.Header{"Watchbox-Session": {"secret"}, "Authorization": {"secret"}, "Cookie": {"a=secret"}, "Content-Type": {"text/plain"}}
		l.BeforeAttempt = func(r *http.Request) error { r.Header.Set("X-Token", "secret"); return nil }
		_ = l.Run(t.Context()) // ends when one of the two is out of handlers
		<-s.asked
		if h := (<-s.asked).Header; h.Get("X-Token") != "secret" || h.Get("Watchbox-Session") != "secret" || h.Get("Authorization") != "secret" {
			t.Errorf("%d on the same host: %v", code, h)
		}
		h := (<-other.asked).Header
		for name, values := range h {
			if text := strings.Join(values, " "); strings.Contains(text, "secret") || strings.Contains(text, "query") {
				t.Errorf("%d to another host: %s: %s", code, name, text)
			}
		}
		if h.Get("Last-Event-ID") != "1" {
			t.Errorf("%d to another host: %v", code, h)
		}
	}
}

func TestStatusErrorHasTheBody(t *testing.T) {
	leavesNothing(t)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"code":"forbidden"}`+strings.Repeat(" ", 1<<20))
	})
	err := listen(s.URL).Run(t.Context())
	got, ok := errors.AsType[*StatusError](err)
	if !ok || !bytes.HasPrefix(got.Body, []byte(`{"code":"forbidden"} `)) || len(got.Body) != errorBody {
		t.Fatalf("Run: %v with %d bytes", err, len(got.Body))
	}
	if got.Header.Get("Content-Type") != "application/problem+json" || err.Error() != "sse: the server answered 403 Forbidden" {
		t.Errorf("%v with header %v", err, got.Header)
	}
}

func TestClientAcceptsOnlyEventStreams(t *testing.T) {
	for given, want := range map[string]bool{
		"text/event-stream": true, "text/event-stream;": true, "text/event-stream; charset=windows-1251": true,
		"Text/Event-Stream ;x": true, " text/event-stream": true,
		"text/x-bogus": false, "text/html": false, "text/event-streams": false, "text/event-stream, text/html": false, "": false,
	} {
		t.Run(given, func(t *testing.T) {
			leavesNothing(t)
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{given}
				_, _ = io.WriteString(w, "data: ä\n\n")
			})
			l := listen(s.URL)
			err := l.Run(t.Context())
			if got := !errors.Is(err, ErrMediaType); got != want {
				t.Errorf("Run: %v", err)
			}
			if want {
				l.want(t, "open", "message  ä", "lost: EOF") // the charset is ignored
			}
		})
	}
}

func TestClientRefusesInvalidRequests(t *testing.T) {
	for _, c := range []*Client{
		{}, {URL: "/path"}, {URL: "127.0.0.1:1234"}, {URL: "ftp://host/"}, {URL: "http://"}, {URL: "http://a b/"},
		{URL: "http://host/", Method: "a b"},
	} {
		if err := c.Run(t.Context()); !errors.Is(err, ErrRequest) {
			t.Errorf("%q %q: %v, want ErrRequest", c.Method, c.URL, err)
		}
	}
}

func TestClientDoesNotChangeTheHTTPClient(t *testing.T) {
	leavesNothing(t)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		stream("data: a\n\n")(w, r)
		<-r.Context().Done() // the Client leaves when it has been there for longer than the timeout
	})
	ctx, cancel := context.WithCancel(t.Context())
	l := listen(s.URL)
	l.HTTPClient = &http.Client{Timeout: time.Nanosecond, Transport: &http.Transport{}}
	l.OnEvent = func(Event) { cancel() }
	if err := l.Run(ctx); err != context.Canceled {
		t.Errorf("Run: %v", err)
	}
	if l.HTTPClient.Timeout != time.Nanosecond {
		t.Error("the Timeout was changed")
	}
}

func TestClientSkipsEventsThatAreTooLarge(t *testing.T) {
	leavesNothing(t)
	s := serve(t, stream("id: 1\nevent: e\ndata: "+strings.Repeat("x", 1<<20)+"\n\ndata: b\n\n"))
	l := listen(s.URL)
	l.MaxEventSize = 1 << 10
	l.run(t)
	l.want(t, "open", `error: sse: the event is too large: over 1024 bytes (type "e", id "1")`, "message 1 b", "lost: EOF")
}

func TestClientReceivesLargeEvents(t *testing.T) {
	for name, data := range map[string]string{
		"long line": strings.Repeat("é", 1<<20), "many lines": strings.Repeat("a\n", 1<<17), "line ends only": strings.Repeat("\n", 1<<17),
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			s := serve(t, stream(string(AppendEvent(nil, "", "1", []byte(data)))))
			l := listen(s.URL)
			got := ""
			l.OnEvent = func(ev Event) { got = string(ev.Data) }
			l.run(t)
			if got != data {
				t.Errorf("%d bytes become %d", len(data), len(got))
			}
		})
	}
}

func TestClientStopsWithItsContext(t *testing.T) {
	stopped := errors.New("stopped")
	never := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for where, prepare := range map[string]func(t *testing.T, l *listener, stop func()){
		"before it begins": func(t *testing.T, l *listener, stop func()) { stop() },
		"in BeforeAttempt": func(t *testing.T, l *listener, stop func()) {
			l.BeforeAttempt = func(*http.Request) error { stop(); return nil }
		},
		"while it dials": func(t *testing.T, l *listener, stop func()) {
			l.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				stop()
				<-ctx.Done()
				return nil, ctx.Err()
			}}}
		},
		"while it waits for the header": func(t *testing.T, l *listener, stop func()) {
			l.URL = serve(t, func(w http.ResponseWriter, r *http.Request) { stop(); never(w, r) }).URL
		},
		"in OnOpen": func(t *testing.T, l *listener, stop func()) {
			l.URL = serve(t, hold("data: a\n\n")).URL
			l.OnOpen = func(http.Header) { stop() }
		},
		"in OnEvent": func(t *testing.T, l *listener, stop func()) {
			l.URL = serve(t, hold(strings.Repeat("data: a\n\n", 1000))).URL
			l.OnOpen = nil
			l.OnEvent = func(Event) { l.record("event"); stop() }
		},
		"while it waits for events": func(t *testing.T, l *listener, stop func()) {
			l.URL = serve(t, func(w http.ResponseWriter, r *http.Request) { stream(":\n")(w, r); stop(); never(w, r) }).URL
			l.OnOpen, l.OnComment = nil, nil
		},
		"in OnDisconnect": func(t *testing.T, l *listener, stop func()) {
			l.URL = serve(t, status(http.StatusServiceUnavailable, "Retry-After", "3600")).URL
			l.OnDisconnect = func(error, time.Duration) { stop() }
		},
		"while it waits for the next attempt": func(t *testing.T, l *listener, stop func()) {
			l.URL = serve(t, status(http.StatusServiceUnavailable, "Retry-After", "3600")).URL
			l.OnDisconnect = func(error, time.Duration) { go stop() }
		},
	} {
		t.Run(where, func(t *testing.T) {
			leavesNothing(t)
			l := listen("http://127.0.0.1:1/")
			ctx, cancel := context.WithCancelCause(t.Context())
			prepare(t, l, func() { cancel(stopped) })
			if err := l.Run(ctx); err != stopped {
				t.Errorf("Run: %v, want the context's cause", err)
			}
			if l.HTTPClient != nil {
				l.HTTPClient.CloseIdleConnections() // it keeps on dialling for other requests
			}
			if len(l.calls) > 1 {
				t.Errorf("callbacks after the stop: %q", l.calls)
			}
		})
	}
}

func TestAnEventWhoseCallbackStopsTheClientCountsAsReceived(t *testing.T) {
	leavesNothing(t)
	s := serve(t, hold("id: 1\ndata: a\n\nid: 2\ndata: b\n\n"), hold("id: 2\ndata: b\n\n"))
	l := listen(s.URL)
	for _, want := range []string{"1", "2"} {
		ctx, cancel := context.WithCancel(t.Context())
		l.OnEvent = func(Event) { cancel() }
		_ = l.Run(ctx)
		if l.LastEventID != want {
			t.Errorf("LastEventID is %q, want %q", l.LastEventID, want)
		}
	}
	s.wantID(t, "")
	s.wantID(t, "1") // another Run goes on where the first ended
}

func TestAPanickingCallbackLeavesNoGoroutine(t *testing.T) {
	body := strings.Repeat(":c\nid: 1\ndata: a\n\n", 100)
	for name, set := range map[string]func(*listener, func()){
		"BeforeAttempt": func(l *listener, f func()) { l.BeforeAttempt = func(*http.Request) error { f(); return nil } },
		"OnOpen":        func(l *listener, f func()) { l.OnOpen = func(http.Header) { f() } },
		"OnEvent":       func(l *listener, f func()) { l.OnEvent = func(Event) { f() } },
		"OnComment":     func(l *listener, f func()) { l.OnComment = func(string) { f() } },
	} {
		for how, end := range map[string]func(){"panic": func() { panic("callback") }, "Goexit": runtime.Goexit} {
			t.Run(name+"/"+how, func(t *testing.T) {
				leavesNothing(t)
				l := listen(serve(t, hold(body)).URL)
				set(l, end)
				left := make(chan any)
				go func() {
					defer func() { left <- recover() }()
					_ = l.Run(t.Context())
				}()
				if p := <-left; how == "panic" && p != "callback" {
					t.Errorf("recovered %v", p)
				}
				if l.LastEventID != "" && name == "OnEvent" {
					t.Error("the event counts as received")
				}
			})
		}
	}
}

func TestRestartConnectsAtOnce(t *testing.T) {
	leavesNothing(t)
	s := serve(t,
		hold("id: 1\ndata: a\n\n"),
		status(http.StatusServiceUnavailable, "Retry-After", "3600"),
		hold("data: b\n\n"))
	l := listen(s.URL)
	l.Restart() // nothing runs yet: nothing happens
	l.OnEvent = func(ev Event) { l.record("message %s", ev.Data); go l.Restart() }
	l.OnDisconnect = func(err error, wait time.Duration) {
		l.record("lost: %v", err)
		if errors.Is(err, ErrRestarted) != (wait == 0) {
			t.Errorf("after %v the wait is %v", err, wait)
		}
		if wait > time.Hour {
			go l.Restart() // it does not wait
		}
	}
	l.run(t)
	l.want(t, "open", "message a", "lost: sse: restarted",
		"lost: sse: the server answered 503 Service Unavailable",
		"open", "message b", "lost: sse: restarted")
	s.wantID(t, "")
	s.wantID(t, "1")
	l.Restart()
}

func TestCallbacksMayChangeFields(t *testing.T) {
	leavesNothing(t)
	s := serve(t, stream("id: 1\ndata: a\n\n"))
	other := serve(t, hold("id: 7\ndata: b\n\n"))
	l := listen(s.URL)
	l.OnDisconnect = func(err error, _ time.Duration) {
		l.record("lost: %v", err)
		l.URL, l.LastEventID, l.Header, l.IdleTimeout = other.URL, "6", http.Header{"X-New": {"1"}}, 0
	}
	seen := l.OnEvent
	l.OnEvent = func(ev Event) {
		seen(ev)
		if ev.ID == "7" {
			l.IdleTimeout = time.Millisecond // for the wait that is under way by now
		}
	}
	l.run(t)
	l.want(t, "open", "message 1 a", "lost: EOF", "open", "message 7 b", "lost: sse: the stream was silent for too long")
	if r := <-other.asked; r.Header.Get("Last-Event-ID") != "6" || r.Header.Get("X-New") != "1" {
		t.Errorf("the header is %v", r.Header)
	}
}

func TestClientOverHTTP2(t *testing.T) {
	leavesNothing(t)
	s := unstarted(stream("id: 1\ndata: a\n\n"), cut("id: 2\ndata: b\n\nid: 3\n"))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	l := listen(s.URL)
	l.HTTPClient = s.Client()
	l.OnDisconnect = func(error, time.Duration) { l.record("lost") }
	l.run(t)
	l.want(t, "open", "message 1 a", "lost", "open", "message 2 b", "lost")
	for _, id := range []string{"", "1", "2"} {
		if r := <-s.asked; r.ProtoMajor != 2 || r.Header.Get("Last-Event-ID") != id {
			t.Errorf("asked by %s after %q, want HTTP/2 after %q", r.Proto, r.Header.Get("Last-Event-ID"), id)
		}
	}
}

func TestClientReportsAReset(t *testing.T) {
	leavesNothing(t)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\ndata: b")
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	})
	l := listen(s.URL)
	l.OnDisconnect = func(err error, _ time.Duration) { l.record("lost") }
	l.run(t)
	if last := l.calls[len(l.calls)-1]; last != "lost" {
		t.Errorf("calls %q, want the loss of the connection last", l.calls)
	}
}
