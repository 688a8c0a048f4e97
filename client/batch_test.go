package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/client"
)

func TestPublishBatchToSeveralGroups(t *testing.T) {
	r := newRig(t)
	c := r.client()
	got := make(chan client.Message, 10)
	if _, err := c.Join(r.timeout(), "#", func(m client.Message) { got <- m }); err != nil {
		t.Fatal(err)
	}
	batch := []client.Draft{
		{Group: "a", Msg: map[string]int{"n": 1}, Event: "tick", TTL: time.Hour},
		{Group: "b/c", Msg: "two"},
		{Group: "b", Msg: []byte{0, 0xff}, Retain: true},
		{Group: "b", Msg: "not \xff UTF-8"},
		{Group: "a", Msg: nil},
	}
	first, last, err := c.PublishBatch(r.timeout(), batch, client.IdempotencyKey("once"))
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := c.PublishBatch(r.timeout(), batch, client.IdempotencyKey("once"))
	if err != nil || again != first {
		t.Errorf("sent again: %q, %v, want %q", again, err, first)
	}
	var list []client.Message
	for range batch {
		list = append(list, <-got)
	}
	if list[0].ID != first || list[4].ID != last || list[0].Event != "tick" || list[0].Expires.IsZero() {
		t.Errorf("%+v, want %s to %s", list, first, last)
	}
	for i, want := range []string{`{"n":1}`, "two", "\x00\xff", "not \xff UTF-8", "null"} {
		if list[i].Text() != want || list[i].Group != batch[i].Group {
			t.Errorf("message %d to %s is %q, want %q", i, list[i].Group, list[i].Text(), want)
		}
	}

	_, _, err = c.PublishBatch(r.timeout(), []client.Draft{{Group: "a", Msg: 1}, {Group: "a/+", Msg: 2}})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusBadRequest {
		t.Errorf("%v", err)
	}
	if n := len(r.history("#")); n != len(batch) {
		t.Errorf("%d messages are in the log, want %d: a batch is appended as a whole or refused", n, len(batch))
	}
	if _, _, err := c.PublishBatch(r.timeout(), []client.Draft{{Group: "a", Msg: func() {}}}); err == nil {
		t.Error("a function is published")
	}
}

func TestRetainedReturnsAllValuesOfManyGroups(t *testing.T) {
	r := newRig(t)
	c := r.client()
	const groups = 250
	for n := range groups {
		if _, err := c.Publish(r.timeout(), fmt.Sprint("many/", n), n, client.Retain()); err != nil {
			t.Fatal(err)
		}
	}
	next := 0
	for m, err := range c.Retained(r.timeout(), "many/+") {
		if err != nil || m.Text() != fmt.Sprint(next) || m.Group != fmt.Sprint("many/", next) || !m.Retained {
			t.Fatalf("message %d: %+v, %v", next, m, err)
		}
		next++
	}
	if next != groups {
		t.Errorf("%d messages, want %d", next, groups)
	}
	for range c.Retained(r.timeout(), "many/+") {
		break
	}
	for m := range c.Retained(r.timeout(), "none") {
		t.Errorf("%+v", m)
	}
	for _, err := range c.Retained(r.timeout(), "a//b") {
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "filter-invalid" {
			t.Errorf("%v", err)
		}
	}
}

func TestWillMayBeRetained(t *testing.T) {
	r := newRig(t, watchbox.WithSessionTimeout(100*time.Millisecond))
	c, watch := r.client(), r.client()
	_, h := r.join(watch, "status")
	r.join(c, "a")
	if err := c.SetWill(r.timeout(), "status", "offline", 0, client.Retain(), client.Event("status"), client.TTL(time.Hour)); err != nil {
		t.Fatal(err)
	}
	r.down()
	for held := r.history("status"); len(held) == 0; held = r.history("status") {
	}
	r.up(t)
	h.want("offline")
	for m, err := range watch.Retained(r.timeout(), "status") {
		if err != nil || m.Text() != "offline" || m.Event != "status" || m.Expires.IsZero() {
			t.Errorf("%+v, %v", m, err)
		}
		return
	}
	t.Error("the will is not retained")
}

// gate is a hub that holds back publishes until the gate opens.
type gate struct {
	*rig
	requests atomic.Int32
	batches  atomic.Int32
	arrived  chan bool
	open     chan struct{}
}

func newGate(t *testing.T, fail func(w http.ResponseWriter, r *http.Request) bool, opts ...watchbox.Option) *gate {
	g := &gate{rig: newRig(t, opts...), arrived: make(chan bool, 1000), open: make(chan struct{})}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			g.requests.Add(1)
			if r.URL.Path == "/v1/messages" {
				g.batches.Add(1)
			}
			g.arrived <- true
			<-g.open
			if fail != nil && fail(w, r) {
				return
			}
		}
		g.hub.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	g.leadsTo(srv.Listener.Addr().String())
	return g
}

// crowd publishes n messages concurrently while the gate holds back the first requests, and returns the
// results of the calls.
func (g *gate) crowd(c *client.Client, n int, group func(i int) string) (ids []string, errs []error) {
	g.Helper()
	ids, errs = make([]string, n), make([]error, n)
	var callers sync.WaitGroup
	for i := range n {
		callers.Go(func() { ids[i], errs[i] = c.Publish(g.timeout(), group(i), fmt.Sprint("message ", i)) })
	}
	for range 4 {
		<-g.arrived
	}
	for c.Waiting() < n-4 {
		runtime.Gosched()
	}
	close(g.open)
	callers.Wait()
	return ids, errs
}

// Each of many concurrent calls returns the id of its own message, although they share a few requests.
func TestConcurrentPublishesAreSentTogether(t *testing.T) {
	g := newGate(t, nil)
	c := g.client()
	const n = 200
	ids, errs := g.crowd(c, n, func(i int) string { return fmt.Sprint("g/", i) })
	for i := range n {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		var answer struct {
			Messages []struct{ ID, Msg string }
		}
		g.get(fmt.Sprint("/v1/history/g/", i), &answer)
		if len(answer.Messages) != 1 || answer.Messages[0].ID != ids[i] || answer.Messages[0].Msg != fmt.Sprint("message ", i) {
			t.Errorf("call %d returned %s, and its group has %+v", i, ids[i], answer.Messages)
		}
	}
	if got := g.requests.Load(); got > 10 {
		t.Errorf("%d requests for %d messages: all but 4 should be sent together", got, n)
	}
}

// A batch with more messages than a client may publish in a second would be refused for ever.
func TestMessagesThatWaitTogetherStayWithinThePublishRate(t *testing.T) {
	g := newGate(t, nil, watchbox.WithPublishRate(40))
	_, errs := g.crowd(g.client(), 100, func(int) string { return "a" })
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if n := len(g.history("a")); n != 100 {
		t.Errorf("%d messages are in the log, want 100", n)
	}
	drafts := make([]client.Draft, 41)
	for i := range drafts {
		drafts[i] = client.Draft{Group: "b", Msg: i}
	}
	_, _, err := g.client().PublishBatch(g.timeout(), drafts)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "batch-over-rate" {
		t.Errorf("a batch that is larger than the rate: %v", err)
	}
}

func TestRefusedMessageDoesNotFailOthersInItsBatch(t *testing.T) {
	g := newGate(t, nil)
	bad := func(i int) bool { return i%10 == 7 }
	_, errs := g.crowd(g.client(), 50, func(i int) string {
		if bad(i) {
			return "a/+"
		}
		return "a"
	})
	for i, err := range errs {
		if e, refused := errors.AsType[*client.Error](err); refused != bad(i) || refused && e.Code != "group-invalid" || !refused && err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if n := len(g.history("a")); n != 45 {
		t.Errorf("%d messages are in the log, want 45", n)
	}
	if g.batches.Load() == 0 {
		t.Error("nothing was sent together")
	}
}

// A proxy with a small size limit may refuse a batch but accept each of its messages.
func TestMessagesAreSentSeparatelyIfAProxyRefusesTheBatchAsTooLarge(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/messages" {
			return false
		}
		http.Error(w, "<h1>413 Request Entity Too Large</h1>", http.StatusRequestEntityTooLarge)
		return true
	})
	_, errs := g.crowd(g.client(), 20, func(int) string { return "a" })
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if n := len(g.history("a")); n != 20 || g.batches.Load() == 0 {
		t.Errorf("%d messages are in the log, want 20; %d batches", n, g.batches.Load())
	}
}

// The hub refuses a batch as a whole, so the client has to find the refused message.
func TestRefusedMessageIsFoundByHalvingTheBatch(t *testing.T) {
	g := newGate(t, nil)
	c := g.client()
	const waiting, bad = 64, 7
	_, errs := g.crowd(c, 4+waiting, func(i int) string {
		if i != bad {
			return "a"
		}
		for c.Waiting() < waiting-1 { // the first four messages are sent alone
			runtime.Gosched()
		}
		return "a/+"
	})
	for i, err := range errs {
		if (err != nil) != (i == bad) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if n := len(g.history("a")); n != 4+waiting-1 {
		t.Errorf("%d messages are in the log, want %d", n, 4+waiting-1)
	}
	if got, limit := g.requests.Load(), int32(4+1+2*6); got > limit {
		t.Errorf("%d requests, want at most %d: two for each of the 6 times that %d is halved", got, limit, waiting)
	}
}

// Some proxies allow only known paths, methods or media types.
func TestMessagesAreSentSeparatelyBehindAProxyThatBlocksBatches(t *testing.T) {
	for _, status := range []int{400, 403, 404, 405, 415, 501} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v1/messages" {
					return false
				}
				http.Error(w, "<h1>blocked</h1>", status)
				return true
			})
			ids, errs := g.crowd(g.client(), 40, func(i int) string { return fmt.Sprint("g/", i) })
			for i := range ids {
				var answer struct{ Messages []struct{ ID string } }
				g.get(fmt.Sprint("/v1/history/g/", i), &answer)
				if errs[i] != nil || len(answer.Messages) != 1 || answer.Messages[0].ID != ids[i] {
					t.Errorf("call %d returned %q, %v, and its group has %+v", i, ids[i], errs[i], answer.Messages)
				}
			}
			if n := g.batches.Load(); n < 1 || n > 4 {
				t.Errorf("%d batches, want 1 to 4", n)
			}
		})
	}
}

// After a proxy has blocked a batch, the client tries batches again a minute later.
func TestBlockedBatchesAreNotRetriedForAMinute(t *testing.T) {
	var blocked atomic.Bool
	var batches, seq atomic.Int64
	timed(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n := int64(1)
		if r.URL.Path == "/v1/messages" {
			batches.Add(1)
			if blocked.Load() {
				http.NotFound(w, r)
				return
			}
			n = int64(strings.Count(string(body), "\n"))
		}
		time.Sleep(time.Second) // synctest's clock: other calls wait meanwhile
		last := seq.Add(n)
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"id":"x-%d","first":"x-%d"}`, last, last-n+1)
	}, func(t *testing.T, c *client.Client) {
		publish := func() int64 {
			before := batches.Load()
			var callers sync.WaitGroup
			for range 20 {
				callers.Go(func() {
					if _, err := c.Publish(t.Context(), "a", "x"); err != nil {
						t.Error(err)
					}
				})
			}
			callers.Wait()
			return batches.Load() - before
		}
		blocked.Store(true)
		if n := publish(); n < 1 {
			t.Error("no batch is sent")
		}
		if n := publish(); n != 0 {
			t.Errorf("%d batches are sent although they are blocked", n)
		}
		blocked.Store(false)
		time.Sleep(time.Minute) // synctest's clock
		if n := publish(); n < 1 {
			t.Error("batches are never tried again")
		}
		if n := seq.Load(); n != 60 {
			t.Errorf("%d messages arrived, want 60", n)
		}
	})
}

// While the hub is replaced, a proxy may refuse a batch that the hub has already appended but whose answer was
// lost.
func TestMessagesOfABatchThatMayBeInTheLogAreNotSentSeparately(t *testing.T) {
	for _, status := range []int{403, 404, 405, 501} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			var attempts atomic.Int32
			var g *gate
			g = newGate(t, func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v1/messages" {
					return false
				}
				switch attempts.Add(1) {
				case 1:
					g.hub.ServeHTTP(httptest.NewRecorder(), r)
					panic(http.ErrAbortHandler)
				case 2:
					http.Error(w, "<h1>blocked</h1>", status)
					return true
				}
				return false
			})
			_, errs := g.crowd(g.client(), 20, func(int) string { return "a" })
			if err := errors.Join(errs...); (err != nil) != (status == http.StatusForbidden) { // 403 is final, even from a proxy
				t.Error(err)
			}
			if n := len(g.history("a")); n != 20 {
				t.Errorf("%d messages are in the log after %d batches, want 20", n, attempts.Load())
			}
		})
	}
}

// After a lost answer, the batch is sent again under the same key.
func TestBatchWithLostAnswerIsAppendedOnce(t *testing.T) {
	var lost atomic.Int32
	var g *gate
	g = newGate(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/messages" || lost.Add(1) > 2 {
			return false
		}
		g.hub.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
	_, errs := g.crowd(g.client(), 60, func(int) string { return "a" })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	held := g.history("a")
	slices.Sort(held)
	if n := len(slices.Compact(held)); n != 60 || len(g.history("a")) != 60 {
		t.Errorf("%d different messages of %d, want 60", n, len(g.history("a")))
	}
	if lost.Load() < 3 {
		t.Error("no answer was lost")
	}
}

func TestWaitingPublishEndsWithItsContextOrWithClose(t *testing.T) {
	g := newGate(t, nil)
	c := g.client()
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() { _, _ = c.Publish(g.timeout(), "a", "first") })
		<-g.arrived
	}
	ctx, cancel := context.WithCancel(g.timeout())
	ended := make(chan error, 2)
	publish := func(ctx context.Context) {
		_, err := c.Publish(ctx, "a", "waits")
		ended <- err
	}
	go publish(ctx)
	for c.Waiting() < 1 {
		runtime.Gosched()
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if n := c.Waiting(); n != 0 {
		t.Errorf("%d messages still wait after their calls have ended", n)
	}
	go publish(g.timeout())
	for c.Waiting() < 1 {
		runtime.Gosched()
	}
	_ = c.Close()
	if err := <-ended; !errors.Is(err, client.ErrClosed) {
		t.Errorf("%v", err)
	}
	close(g.open)
	callers.Wait()
	if strings.Contains(strings.Join(g.history("a"), " "), "waits") {
		t.Error("a message was sent after its call had ended")
	}
}

// The order holds while other callers publish.
func TestMessagesOfEachCallerStayInOrder(t *testing.T) {
	r := newRig(t)
	c := r.client()
	var callers sync.WaitGroup
	const n, each = 32, 20
	for caller := range n {
		callers.Go(func() {
			for i := range each {
				if _, err := c.Publish(r.timeout(), fmt.Sprint("c/", caller), i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	for caller := range n {
		for i, got := range r.history(fmt.Sprint("c/", caller)) {
			if got != fmt.Sprint(i) {
				t.Fatalf("message %d of caller %d is %s", i, caller, got)
			}
		}
	}
}
