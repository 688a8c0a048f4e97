package client_test

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/client"
)

// requests are those that a client made to receive messages.
type requests struct {
	mu   sync.Mutex // guards list
	list []string
}

// add adds a request, and not those of other kinds. It returns what kind it is.
func (l *requests) add(r *http.Request) (kind string) {
	switch {
	case r.URL.Path == "/v1/events":
		kind = r.Method
	case r.URL.Path == "/v1/history" && r.URL.Query().Get("wait") == "0s":
		kind = "poll"
	default:
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, kind)
	return kind
}

// take returns the requests since the last call.
func (l *requests) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.list = nil }()
	return l.list
}

// TestWaysAreTriedInOrderAndTheOneThatWorkedIsRemembered: nothing but the named kind of request is answered. After that, its
// connection is cut.
func TestWaysAreTriedInOrderAndTheOneThatWorkedIsRemembered(t *testing.T) {
	order := []string{"GET", "POST", "poll"}
	for i, passes := range order {
		t.Run(passes, func(t *testing.T) {
			var seen requests
			timed(t, func(w http.ResponseWriter, r *http.Request) {
				switch kind := seen.add(r); {
				case r.Method == http.MethodDelete:
					w.WriteHeader(http.StatusNoContent)
				case kind == "poll" && passes == "poll":
					w.Header().Set("Content-Type", "application/json")
					_, _ = io.WriteString(w, `{"messages":[],"next":"x-1","uid":"u"}`)
				case kind == passes:
					write(w, session)
					time.Sleep(10 * time.Second) // synctest's clock
					panic(http.ErrAbortHandler)
				case kind == "" && passes == "poll": // a poll that waits
					time.Sleep(10 * time.Second) // synctest's clock
					w.WriteHeader(http.StatusBadGateway)
				default:
					<-r.Context().Done()
				}
			}, func(t *testing.T, c *client.Client) {
				if _, err := c.Join(t.Context(), "a", ignore); err != nil {
					t.Fatal(err)
				}
				if got := seen.take(); !slices.Equal(got, order[:i+1]) {
					t.Errorf("the first requests are %v, want %v", got, order[:i+1])
				}
				time.Sleep(5 * time.Minute) // synctest's clock
				got := seen.take()
				if len(got) < 3 || slices.ContainsFunc(got, func(kind string) bool { return kind != passes }) {
					t.Errorf("after losses the requests are %v, want several of %s alone", got, passes)
				}
			})
		})
	}
}

// TestAWayOnWhichNoByteFollowsIsFollowedByTheNext: a proxy passes the first bytes of streams and holds the others back.
func TestAWayOnWhichNoByteFollowsIsFollowedByTheNext(t *testing.T) {
	var seen requests
	timed(t, func(w http.ResponseWriter, r *http.Request) {
		switch kind := seen.add(r); {
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
			return
		case kind == "poll":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"messages":[],"next":"x-1","uid":"u"}`)
			return
		case kind != "":
			write(w, session)
		}
		<-r.Context().Done()
	}, func(t *testing.T, c *client.Client) {
		if _, err := c.Join(t.Context(), "a", ignore); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			after time.Duration // a heartbeat is 15s
			want  string
		}{{0, "GET"}, {22 * time.Second, ""}, {4 * time.Second, "POST"}, {18 * time.Second, ""}, {5 * time.Second, "poll"}} {
			time.Sleep(step.after) // synctest's clock
			if got := strings.Join(seen.take(), " "); got != step.want {
				t.Errorf("the requests are %q, want %q", got, step.want)
			}
		}
	}, client.WithMaxDelay(time.Second))
}

// TestProxyThatCutsEveryConnectionAfterFiveSeconds publishes until several streams were cut. How long that takes does not
// matter.
func TestProxyThatCutsEveryConnectionAfterFiveSeconds(t *testing.T) {
	r := newRig(t, watchbox.WithRetry(20*time.Millisecond))
	r.limit(5 * time.Second)
	var cuts atomic.Int32
	gaps := newRecorder(t)
	c := r.client(client.OnDisconnect(func(error) { cuts.Add(1) }), client.OnGap(func(g client.Gap) { gaps.note("%+v", g) }))
	_, got := r.join(c, "a")
	var want []string
	for cuts.Load() < 3 {
		n := strconv.Itoa(len(want))
		if _, err := c.Publish(r.timeout(), "a", n); err != nil { // by connections that are cut, too
			t.Fatal(err)
		}
		want = append(want, n)
		got.until("the last one", func(list []string) bool { return len(list) >= len(want) })
	}
	got.want(want...)
	if list, _ := gaps.all(); len(list) > 0 {
		t.Errorf("gaps: %v", list)
	}
}
