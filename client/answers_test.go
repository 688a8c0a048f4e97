package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/client"
)

// pipes is a network in memory, in which blocked goroutines are durably blocked for synctest.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// timed runs a test with synctest's clock, a server with one handler, and a client of it.
func timed(t *testing.T, handler http.HandlerFunc, test func(t *testing.T, c *client.Client), opts ...client.Option) {
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/events" {
				_, _ = io.Copy(io.Discard, r.Body) // otherwise its context does not end with the connection
			}
			handler(w, r)
		})}
		go func() { _ = srv.Serve(network) }()
		h := &http.Client{Transport: &http.Transport{DialContext: network.dial, DisableKeepAlives: true}}
		c, err := client.New("http://pipe", append([]client.Option{client.WithHTTPClient(h)}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		test(t, c)
		_ = c.Close()
		_ = srv.Close()
		time.Sleep(time.Minute) // synctest's clock: the handlers end
		synctest.Wait()
	})
}

const session = "event: session\nid: x-1\ndata: {\"uid\":\"u\",\"heartbeat\":\"15s\"}\n\n"

// write sends a part of a stream.
func write(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, text)
	_ = http.NewResponseController(w).Flush()
}

// stalls are the stages at which an answer may stall before the stream is open.
var stalls = map[string]func(w http.ResponseWriter, r *http.Request){
	"before the header":                func(http.ResponseWriter, *http.Request) {},
	"after the header":                 func(w http.ResponseWriter, _ *http.Request) { write(w, "") },
	"in the middle of the first event": func(w http.ResponseWriter, _ *http.Request) { write(w, session[:len(session)-5]) },
	"with comments and no event": func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			write(w, ":\n\n")
			time.Sleep(time.Second) // synctest's clock
		}
	},
}

func TestJoinRetriesWhenTheAnswerStalls(t *testing.T) {
	for stage, stall := range stalls {
		for _, test := range []struct {
			opts []client.Option
			wait time.Duration
		}{
			{nil, 30 * time.Second},
			{[]client.Option{client.WithAnswerTimeout(7 * time.Second)}, 7 * time.Second},
		} {
			t.Run(fmt.Sprint(stage, " ", test.wait), func(t *testing.T) {
				var attempts atomic.Int32 // each begins with a GET, and may go on with a POST and a poll
				timed(t, func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet && r.URL.Path == "/v1/events" {
						attempts.Add(1)
					}
					switch {
					case r.Method == http.MethodDelete:
						w.WriteHeader(http.StatusNoContent)
						return
					case attempts.Load() <= 2 && r.URL.Path == "/v1/events":
						stall(w, r)
					case attempts.Load() <= 2: // a poll
					default:
						write(w, session)
					}
					<-r.Context().Done()
				}, func(t *testing.T, c *client.Client) {
					began := time.Now()
					if _, err := c.Join(t.Context(), "a", ignore); err != nil {
						t.Fatal(err)
					}
					// Two attempts end by the timeout. Between them are waits of a second and a random part.
					if took := time.Since(began); took < 2*test.wait || took > 2*test.wait+10*time.Second {
						t.Errorf("the join took %v", took)
					}
				}, test.opts...)
			})
		}
	}
}

func TestUnansweredJoinEndsWithItsContextOrWithClose(t *testing.T) {
	for stage, stall := range stalls {
		t.Run(stage, func(t *testing.T) {
			handler := func(w http.ResponseWriter, r *http.Request) { stall(w, r); <-r.Context().Done() }
			timed(t, handler, func(t *testing.T, c *client.Client) {
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
				defer cancel()
				if _, err := c.Join(ctx, "a", ignore); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 100*time.Second {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				ended := make(chan error, 1)
				go func() {
					_, err := c.Join(t.Context(), "a", ignore)
					ended <- err
				}()
				time.Sleep(40 * time.Second) // synctest's clock
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				if err := <-ended; !errors.Is(err, client.ErrClosed) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestUnansweredCallIsRetried(t *testing.T) {
	var requests atomic.Int32
	timed(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch requests.Add(1) {
		case 1:
			<-r.Context().Done()
		case 2:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"id":`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"id":"x-%d"}`, len(body))
		}
	}, func(t *testing.T, c *client.Client) {
		began := time.Now()
		id, err := c.Publish(t.Context(), "a", "five!")
		if took := time.Since(began); id != "x-5" || err != nil || took < 20*time.Second || took > 25*time.Second {
			t.Errorf("after %v: %q, %v", took, id, err)
		}
	}, client.WithAnswerTimeout(10*time.Second))
}

// A large message on a slow network may take longer than the answer timeout, which restarts with each progress.
func TestSlowUploadDoesNotTimeOut(t *testing.T) {
	var requests atomic.Int32
	const size = 100 << 10
	timed(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		n := 0
		for buf := make([]byte, 4<<10); ; {
			got, err := io.ReadFull(r.Body, buf)
			if n += got; err != nil {
				break
			}
			time.Sleep(2 * time.Second) // synctest's clock
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"id":"x-%d"}`, n)
	}, func(t *testing.T, c *client.Client) {
		id, err := c.Publish(t.Context(), "a", strings.Repeat("x", size))
		if id != fmt.Sprint("x-", size) || err != nil || requests.Load() != 1 {
			t.Errorf("%d requests: %q, %v", requests.Load(), id, err)
		}
	})
}

// front is a proxy in front of the hub. It answers itself while answers holds a handler.
func (r *rig) front(answers *atomic.Pointer[http.HandlerFunc]) *httptest.Server {
	r.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if h := answers.Load(); h != nil {
			(*h)(w, req)
			return
		}
		r.hub.ServeHTTP(w, req)
	}))
	r.Cleanup(srv.Close)
	r.leadsTo(srv.Listener.Addr().String())
	return srv
}

// foreignAnswers are answers that do not come from a hub.
var foreignAnswers = map[string]http.HandlerFunc{
	"404 page": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such site", http.StatusNotFound) },
	"200 page": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>log in")
	},
	"JSON of something else": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"code":"no-such-route"}`)
	},
	"JSON without an id": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"ok":true,"messages":null}`)
	},
	"redirect to another host": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://login.invalid/", http.StatusTemporaryRedirect)
	},
}

// A proxy answers while the hub is replaced, and some networks answer every request with a login page.
func TestForeignAnswersAreTemporaryOnceTheHubHasAnswered(t *testing.T) {
	for name, answer := range foreignAnswers {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			var answers atomic.Pointer[http.HandlerFunc]
			r.front(&answers)
			lost := newRecorder(t)
			c := r.client(client.OnDisconnect(func(err error) { lost.note("lost") }), client.OnReconnect(func() { lost.note("back") }))
			_, h := r.join(c, "a")
			seen := make(chan string, 1000)
			busy := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				select {
				case seen <- req.Method + " " + req.URL.Path:
				default:
				}
				answer(w, req)
			})
			answers.Store(&busy)
			published, joined := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := c.Publish(r.timeout(), "a", "published meanwhile")
				published <- err
			}()
			r.cut()
			go func() {
				_, err := c.Join(r.timeout(), "b", ignore)
				joined <- err
			}()
			counts := map[string]int{}
			for counts["GET /v1/events"] < 2 || counts["POST /v1/groups/a"] < 2 {
				select {
				case s := <-seen:
					counts[s]++
				case <-time.After(testTimeout):
					t.Fatalf("asked %v, want each twice", counts)
				}
			}
			answers.Store(nil)
			for what, done := range map[string]chan error{"Publish": published, "Join": joined} {
				if err := <-done; err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			h.want("published meanwhile")
			lost.want("lost", "back")
		})
	}
}

// Each call is retried until the hub has answered: JSON from something else is not a success.
func TestJSONFromSomethingElseIsNoSuccess(t *testing.T) {
	r := newRig(t)
	var answers atomic.Pointer[http.HandlerFunc]
	r.front(&answers)
	got := make(chan string, 10)
	other := r.client(client.OnDirect(func(m client.Message) { got <- m.Text() }))
	r.join(other, "elsewhere")
	c := r.client()
	sub, _ := r.join(c, "a")
	for _, call := range []struct {
		name string
		make func() error
	}{
		{"Publish", func() error { return named(c.Publish(r.timeout(), "a", 1)) }},
		{"PublishBatch", func() error {
			first, last, err := c.PublishBatch(r.timeout(), []client.Draft{{Group: "a", Msg: 2}})
			return errors.Join(named(first, err), named(last, err))
		}},
		{"SendTo", func() error { return named(c.SendTo(r.timeout(), other.UID(), "direct")) }},
		{"SetWill", func() error { return c.SetWill(r.timeout(), "a", "gone", 0) }},
		{"ClearWill", func() error { return c.ClearWill(r.timeout()) }},
		{"Join", func() error { _, err := c.Join(r.timeout(), "b", ignore); return err }},
		{"Leave", func() error { return sub.Leave(r.timeout()) }},
		{"Retained", func() error {
			for _, err := range c.Retained(r.timeout(), "a") {
				return err
			}
			return nil
		}},
	} {
		var requests atomic.Int32
		page := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if requests.Add(1) == 2 {
				answers.Store(nil)
			}
			foreignAnswers["JSON without an id"](w, req)
		})
		answers.Store(&page)
		if err := call.make(); err != nil {
			t.Errorf("%s: %v", call.name, err)
		}
		if n := requests.Load(); n < 2 {
			t.Errorf("%s accepted the answer", call.name)
			answers.Store(nil)
		}
	}
	if text := <-got; text != "direct" {
		t.Errorf("the other client got %q", text)
	}
	if list := r.history("a"); len(list) != 2 {
		t.Errorf("the log has %q, want two messages", list)
	}
}

// named returns an error if a successful call returned no id.
func named(id string, err error) error {
	if err == nil && id == "" {
		return errors.New("it returned no id")
	}
	return err
}

// Before the first answer of the hub, the address may be wrong, and retries would only hide that.
func TestWrongAddressIsAnImmediateError(t *testing.T) {
	for name, answer := range foreignAnswers {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(answer)
			defer srv.Close()
			c, err := client.New(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			for range 2 {
				_, err = c.Join(t.Context(), "a", ignore)
				if err == nil || c.State() != client.StateIdle {
					t.Errorf("Join: %v, and the state is %v", err, c.State())
				}
				if _, err = c.Publish(t.Context(), "a", 1); err == nil {
					t.Error("Publish succeeds")
				}
			}
			t.Log(err)
		})
	}
}

// A problem+json answer with a code comes from the hub itself, so it is final.
func TestRefusalOfTheHubIsFinalAfterTheStreamWasOpen(t *testing.T) {
	r := newRig(t)
	var answers atomic.Pointer[http.HandlerFunc]
	r.front(&answers)
	lost := newRecorder(t)
	c := r.client(client.OnDisconnect(func(err error) { lost.note("%v", err) }))
	r.join(c, "a")
	gone := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(w, `{"code":"moved-away","detail":"this hub is closed for good"}`)
	})
	answers.Store(&gone)
	r.cut()
	lost.until("the refusal", func(list []string) bool {
		return strings.Contains(strings.Join(list, " "), "watchbox: this hub is closed for good (moved-away)")
	})
	_, err := c.Publish(r.timeout(), "a", 1)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "moved-away" {
		t.Errorf("Publish: %v", err)
	}
}

func TestSecretsAndMessagesAreNotSentToAnotherHostByARedirect(t *testing.T) {
	var reached atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer other.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.Path, code)
		}))
		c, err := client.New(srv.URL, client.WithToken(func(context.Context) (string, error) { return "token", nil }))
		if err != nil {
			t.Fatal(err)
		}
		_, joinErr := c.Join(t.Context(), "a", ignore)
		_, publishErr := c.Publish(t.Context(), "a", 1)
		for what, err := range map[string]error{"Join": joinErr, "Publish": publishErr} {
			if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != code || !strings.Contains(e.Detail, other.URL) {
				t.Errorf("%d: %s: %v", code, what, err)
			}
		}
		_ = c.Close()
		srv.Close()
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
}

func TestRedirectsWithinTheHostAreFollowed(t *testing.T) {
	r := newRig(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if rest, ok := strings.CutPrefix(req.URL.Path, "/new"); ok {
			req.URL.Path, req.URL.RawPath = rest, ""
			r.hub.ServeHTTP(w, req)
			return
		}
		http.Redirect(w, req, (&url.URL{Path: "/new" + req.URL.Path, RawQuery: req.URL.RawQuery}).String(), http.StatusPermanentRedirect)
	}))
	defer srv.Close()
	r.leadsTo(srv.Listener.Addr().String())
	c := r.client()
	_, h := r.join(c, "a")
	if _, err := c.Publish(r.timeout(), "a", "x"); err != nil {
		t.Fatal(err)
	}
	h.want("x")
}

// If a redirect turned the POST into a GET, the client would subscribe to the group.
func TestRedirectDoesNotTurnPublishIntoAGET(t *testing.T) {
	r := newRig(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost {
			http.Redirect(w, req, req.URL.Path, http.StatusMovedPermanently)
			return
		}
		r.hub.ServeHTTP(w, req)
	}))
	defer srv.Close()
	r.leadsTo(srv.Listener.Addr().String())
	_, err := r.client().Publish(r.timeout(), "a", "x")
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusMovedPermanently {
		t.Errorf("%v", err)
	}
}

// The hub ends a stream that has sent no heartbeat for 1.5 times the requested interval.
func TestHeartbeatsAreSentInTime(t *testing.T) {
	const every = 10 * time.Second
	var mu sync.Mutex // guards beats
	var beats []time.Time
	timed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			if strings.HasSuffix(r.URL.Path, "/heartbeat") {
				mu.Lock()
				beats = append(beats, time.Now())
				mu.Unlock()
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if got := r.URL.Query().Get("heartbeat"); got != every.String() {
			t.Errorf("the stream is requested with the heartbeat %q", got)
		}
		write(w, session)
		<-r.Context().Done()
	}, func(t *testing.T, c *client.Client) {
		if _, err := c.Join(t.Context(), "a", ignore); err != nil {
			t.Fatal(err)
		}
		last := time.Now()
		time.Sleep(22 * time.Second) // synctest's clock; later the silence of this hub ends the stream
		mu.Lock()
		defer mu.Unlock()
		if len(beats) < 2 {
			t.Errorf("%d heartbeats in 22 s", len(beats))
		}
		for _, at := range beats {
			if wait := at.Sub(last); wait > every+every/2 {
				t.Errorf("a heartbeat comes %v after the previous one", wait)
			}
			last = at
		}
	}, client.WithHeartbeat(every))
}
