package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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

func ignore(client.Message) {}

func TestPublishedMessagesAreDelivered(t *testing.T) {
	r := newRig(t)
	c := r.client()
	got := make(chan client.Message, 10)
	if _, err := c.Join(r.soon(), "home/#", func(m client.Message) { got <- m }); err != nil {
		t.Fatal(err)
	}
	id, err := c.Publish(r.soon(), "home/kitchen", map[string]int{"celsius": 93}, client.Event("reading"))
	if err != nil {
		t.Fatal(err)
	}
	m := <-got
	var v struct{ Celsius int }
	if err := m.Decode(&v); err != nil || v.Celsius != 93 || m.ID != id || m.Group != "home/kitchen" || m.UID != c.UID() || m.Event != "reading" || m.Time.IsZero() {
		t.Errorf("%+v, %v", m, err)
	}
	for _, sent := range []any{"text", []byte{0xff, 0}, "", 7} {
		if _, err := c.Publish(r.soon(), "home/kitchen", sent); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint(sent)
		if b, ok := sent.([]byte); ok {
			want = string(b)
		}
		if m := <-got; m.Text() != want {
			t.Errorf("%q, want %q", m.Text(), want)
		}
	}
}

// TestAHundredClientsSurviveTenRestarts cuts all connections ten times and closes the port in between. The hub
// keeps its log.
func TestAHundredClientsSurviveTenRestarts(t *testing.T) {
	r := newRig(t)
	lost, back := new(atomic.Int64), new(atomic.Int64)
	var all []*heard
	for range 100 {
		c := r.client(client.OnDisconnect(func(error) { lost.Add(1) }), client.OnReconnect(func() { back.Add(1) }),
			client.OnGap(func(g client.Gap) { t.Errorf("%+v", g) }))
		_, h := r.join(c, "room/#")
		all = append(all, h)
	}
	ctx, stop := context.WithCancel(r.soon())
	var senders sync.WaitGroup
	var sent [4]int
	for n := range sent {
		c := r.client()
		senders.Go(func() {
			for ; ctx.Err() == nil; sent[n]++ {
				if _, err := c.Publish(r.soon(), fmt.Sprint("room/", n), fmt.Sprint(n, " ", sent[n])); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for restart := range int64(10) {
		r.down()
		r.up(t)
		all[0].until("a restart", func([]string) bool { return back.Load() >= 100*(restart+1) || t.Failed() })
	}
	stop()
	senders.Wait()
	if lost.Load() != 1000 || back.Load() != 1000 {
		t.Errorf("OnDisconnect was called %d times and OnReconnect %d times, want 1000 each", lost.Load(), back.Load())
	}
	var total int
	for n := range sent {
		total += sent[n]
	}
	for _, h := range all {
		list := h.until("all", func(list []string) bool { return len(list) >= total })
		wantInOrder(t, list, sent[:])
	}
	if held := r.history("room/#"); len(held) != total {
		t.Errorf("%d messages are in the log, want %d", len(held), total)
	}
	t.Logf("%d messages", total)
}

// wantInOrder fails unless the list has each sender's messages once and in order.
func wantInOrder(t *testing.T, list []string, sent []int) {
	t.Helper()
	next := make([]int, len(sent))
	for _, text := range list {
		var n, i int
		if _, err := fmt.Sscan(text, &n, &i); err != nil || i != next[n] {
			t.Fatalf("got %q, want message %d of sender %d", text, next[n], n)
		}
		next[n]++
	}
	if !slices.Equal(next, sent) {
		t.Fatalf("got %v messages of each sender, want %v", next, sent)
	}
}

// history returns the stored payloads of a filter's groups.
func (r *rig) history(filter string) (payloads []string) {
	r.Helper()
	var answer struct {
		Messages []struct{ Msg json.RawMessage }
	}
	r.get("/v1/history/"+strings.ReplaceAll(filter, "#", "%23"), &answer)
	for _, m := range answer.Messages {
		payloads = append(payloads, string(m.Msg))
	}
	return payloads
}

func (r *rig) get(path string, to any) {
	r.Helper()
	resp, err := r.srv.Client().Get(r.srv.URL + path)
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(to); err != nil {
		r.Fatal(err)
	}
}

// present is the hub's information about a session.
type present struct {
	Streams int
	Filters []string
	Sent    struct{ Messages int }
}

func (r *rig) session(c *client.Client) (p present) {
	r.Helper()
	r.get("/v1/sessions/"+c.UID(), &p)
	slices.Sort(p.Filters)
	return p
}

func TestAllJoinsShareOneStream(t *testing.T) {
	r := newRig(t)
	states := newHeard(t)
	c := r.client(client.OnState(func(s client.State) { states.note("%v", s) }))
	a, heardA := r.join(c, "a/#")
	again, heardAgain := r.join(c, "a/#")
	_, heardAB := r.join(c, "a/b")
	if got := r.session(c); got.Streams != 1 || !slices.Equal(got.Filters, []string{"a/#", "a/b"}) {
		t.Errorf("%+v", got)
	}
	r.publish("a/b", 1)
	r.publish("a", 2)
	heardA.are("1", "2")
	heardAgain.are("1", "2")
	heardAB.are("1")
	if err := a.Leave(r.soon()); err != nil {
		t.Fatal(err)
	}
	r.publish("a", 3)
	heardAgain.are("1", "2", "3")
	if err := again.Leave(r.soon()); err != nil {
		t.Fatal(err)
	}
	if got := r.session(c); got.Streams != 1 || !slices.Equal(got.Filters, []string{"a/b"}) {
		t.Errorf("%+v", got)
	}
	r.publish("a/b", 4)
	heardAB.are("1", "4")
	heardA.are("1", "2")
	heardAgain.are("1", "2", "3")
	states.are("connecting", "open")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	states.are("connecting", "open", "closed")
	if _, err := c.Join(r.soon(), "x", ignore); !errors.Is(err, client.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := c.Publish(r.soon(), "x", 1); !errors.Is(err, client.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestLastLeaveClosesTheStream(t *testing.T) {
	r := newRig(t)
	states := newHeard(t)
	c := r.client(client.OnState(func(s client.State) { states.note("%v", s) }))
	for range 2 {
		sub, h := r.join(c, "a")
		r.publish("a", 1)
		h.are("1")
		if err := sub.Leave(r.soon()); err != nil {
			t.Fatal(err)
		}
		if err := sub.Leave(r.soon()); err != nil {
			t.Fatal(err)
		}
		r.publish("a", 2)
	}
	states.are("connecting", "open", "idle", "connecting", "open", "idle")
}

// TestJoinOnAnOpenStreamMissesNothing joins and leaves while others publish and the network is cut.
func TestJoinOnAnOpenStreamMissesNothing(t *testing.T) {
	r := newRig(t)
	c := r.client(client.OnGap(func(g client.Gap) { t.Errorf("%+v", g) }))
	_, steady := r.join(c, "steady")
	ctx, stop := context.WithCancel(r.soon())
	var sent atomic.Int64
	var sender sync.WaitGroup
	other := r.client()
	sender.Go(func() {
		for n := int64(1); ctx.Err() == nil; n++ {
			if _, err := other.Publish(r.soon(), "busy", n); err != nil {
				t.Error(err)
				return
			}
			sent.Store(n)
		}
	})
	for round := range 30 {
		if round%3 == 2 {
			r.cut()
		}
		sub, h := r.join(c, "busy")
		from := sent.Load() + 2 // one message may be under way
		h.until("a hundred more", func(list []string) bool {
			return len(list) > 0 && number(t, list[len(list)-1]) >= from+100
		})
		if err := sub.Leave(r.soon()); err != nil {
			t.Fatal(err)
		}
		list, _ := h.all()
		last := int64(0)
		for i, text := range list {
			n := number(t, text)
			// Messages from before the join returned may be incomplete.
			if n <= last || n > from && (i == 0 || n != last+1) {
				t.Fatalf("round %d: %d comes after %d; the join returned at %d", round, n, last, from)
			}
			last = n
		}
	}
	stop()
	sender.Wait()
	r.publish("steady", "end")
	steady.are("end")
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRetainedMessagesAreDeliveredOnce(t *testing.T) {
	r := newRig(t)
	c := r.client()
	set := func(v string) {
		if _, err := c.Publish(r.soon(), "home/temp", v, client.Retain()); err != nil {
			t.Fatal(err)
		}
	}
	set("20")
	_, all := r.join(c, "home/#")
	all.are("20")
	set("21")
	all.are("20", "21")
	_, temp := r.join(c, "home/temp") // live
	temp.are("21")
	_, again := r.join(c, "home/temp")
	again.are("21")
	r.cut()
	set("22")
	temp.are("21", "22")
	again.are("21", "22")
	all.are("20", "21", "22")
}

func TestNewLogIsReportedAsAGap(t *testing.T) {
	r := newRig(t)
	gaps := newHeard(t)
	c := r.client(client.OnGap(func(g client.Gap) { gaps.note("%s %s", g.Filter, g.Reason) }))
	_, a := r.join(c, "a")
	_, b := r.join(c, "b")
	r.publish("a", 1)
	a.are("1")
	r.down()
	r.stop()
	r.start()
	r.publish("b", 2)
	r.leadsTo(r.srv.Listener.Addr().String())
	r.up(t)
	b.are("2")
	gaps.are("a epoch", "b epoch")
	r.publish("a", 3)
	a.are("1", "3")
}

func TestKickClosesTheClient(t *testing.T) {
	r := newRig(t)
	calls := newHeard(t)
	c := r.client(client.OnDisconnect(func(err error) { calls.note("%v", err) }), client.OnState(func(s client.State) { calls.note("%v", s) }))
	r.join(c, "a")
	req, _ := http.NewRequestWithContext(r.soon(), http.MethodDelete, r.srv.URL+"/v1/sessions/"+c.UID(), nil)
	resp, err := r.srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	calls.are("connecting", "open", "watchbox: the hub ended the session (kicked)", "closed")
	_, err = c.Join(r.soon(), "b", ignore)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "kicked" {
		t.Errorf("%v", err)
	}
}

func TestRefusedJoinDoesNotAffectOthers(t *testing.T) {
	r := newRig(t)
	c := r.client()
	refused := func() {
		t.Helper()
		_, err := c.Join(r.soon(), "a//b", func(client.Message) { t.Error("a message") })
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 400 || e.Code != "filter-invalid" || e.Detail == "" {
			t.Errorf("%v", err)
		}
	}
	refused()
	if c.State() != client.StateIdle {
		t.Errorf("%v", c.State())
	}
	_, h := r.join(c, "a")
	refused()
	r.publish("a", 1)
	h.are("1")
	_, err := c.Publish(r.soon(), "a/+", 1)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "group-invalid" {
		t.Errorf("%v", err)
	}
	if _, err := c.Join(r.soon(), "", ignore); err == nil {
		t.Error("a join of an empty filter succeeds")
	}
	if _, err := c.Join(r.soon(), "a", nil); err == nil {
		t.Error("a join without a function succeeds")
	}
}

// TestFinalAnswersCloseTheClient uses servers that are not hubs.
func TestFinalAnswersCloseTheClient(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		media  string
		asked  int64
	}{
		"204": {204, "", 1}, "401": {401, "text/plain", 2}, "403": {403, "text/plain", 1}, "another media type": {200, "text/html", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("Content-Type", c.media)
				w.WriteHeader(c.status)
			}))
			defer srv.Close()
			lost := newHeard(t)
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
			if asked.Load() != c.asked {
				t.Errorf("asked %d times, want %d", asked.Load(), c.asked)
			}
			if c.status != 200 {
				lost.are("lost")
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
	if _, err := c.Publish(r.soon(), "a", "x"); err != nil {
		t.Fatal(err)
	}
	h.are("x")
	valid.Store(2)
	r.cut()
	h.until("a return", func([]string) bool {
		r.publish("a", "y")
		list, _ := h.all()
		return len(list) > 1
	})
}

// TestSlowCallbackPausesTheStream checks that the client stops reading while callbacks are slow.
func TestSlowCallbackPausesTheStream(t *testing.T) {
	r := newRig(t)
	c := r.client(client.OnGap(func(g client.Gap) { t.Errorf("%+v", g) }))
	release, n := make(chan struct{}), 0
	done := make(chan struct{})
	const messages = 3000
	if _, err := c.Join(r.soon(), "a", func(client.Message) {
		<-release
		if n++; n == messages {
			close(done)
		}
	}); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 10_000)
	for range messages {
		r.publish("a", big)
	}
	if sent := r.session(c).Sent.Messages; sent > messages/2 { // half of them are 15 MB
		t.Errorf("%d messages were sent", sent)
	}
	close(release)
	select {
	case <-done:
	case <-time.After(patience):
		t.Errorf("%d messages", n)
	}
}

func TestCallbackMayJoinAndPublish(t *testing.T) {
	r := newRig(t)
	c := r.client()
	inner := newHeard(t)
	if _, err := c.Join(r.soon(), "a", func(m client.Message) {
		if _, err := c.Join(context.Background(), "b", func(m client.Message) { inner.note("%s", m.Text()) }); err != nil {
			t.Error(err)
		}
		if _, err := c.Publish(context.Background(), "b", "from "+m.Text()); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	r.publish("a", 1)
	inner.are("from 1")
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
	h.are("2")
}

func TestLoopOverMessages(t *testing.T) {
	r := newRig(t)
	c, sender := r.client(), r.client()
	ctx, cancel := context.WithCancel(r.soon())
	defer cancel()
	go func() {
		for n := 0; ctx.Err() == nil; n++ {
			_, _ = sender.Publish(ctx, "a", n)
		}
	}()
	last := -1
	for m, err := range c.Messages(ctx, "a") {
		var n int
		if e := m.Decode(&n); err != nil || e != nil || last >= 0 && n != last+1 {
			t.Fatalf("%s comes after %d: %v, %v", m.Text(), last, err, e)
		}
		if last = n; n > 100 {
			break
		}
	}
	for range c.Messages(ctx, "a") {
		cancel()
	}
	for _, err := range c.Messages(r.soon(), "a//b") {
		if _, ok := errors.AsType[*client.Error](err); !ok {
			t.Errorf("%v", err)
		}
	}
	if c.State() != client.StateIdle {
		t.Errorf("%v", c.State())
	}
}

func TestWillIsSentUnlessTheClientIsClosed(t *testing.T) {
	r := newRig(t, watchbox.WithSessionTimeout(100*time.Millisecond))
	watch := r.client()
	_, h := r.join(watch, "wills")
	for _, name := range []string{"closed", "lost"} {
		c := r.client()
		if err := c.SetWill(r.soon(), "wills", name, 0); err != nil { // before it is connected
			t.Fatal(err)
		}
		r.join(c, "a")
		if err := c.SetWill(r.soon(), "wills", "it was "+name, 0); err != nil {
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
	h.are("it was lost")
}

func TestProgramMayReplyToSend(t *testing.T) {
	r := newRig(t)
	r.hub.OnMessage(func(m watchbox.Message) {
		if _, err := m.Reply(context.Background(), "you said "+m.Text()); err != nil {
			t.Error(err)
		}
	})
	direct := newHeard(t)
	c := r.client(client.OnDirect(func(m client.Message) { direct.note("%s", m.Text()) }))
	r.join(c, "a")
	if id, err := c.Send(r.soon(), "hello"); err != nil || id == "" {
		t.Fatal(id, err)
	}
	direct.are("you said hello")
	other := r.client()
	if _, err := other.SendTo(r.soon(), c.UID(), "psst"); err != nil {
		t.Fatal(err)
	}
	direct.are("you said hello", "psst")
}

func TestCloseMayRunDuringOtherCalls(t *testing.T) {
	r := newRig(t)
	for range 30 {
		c := r.client()
		var all sync.WaitGroup
		for n := range 5 {
			all.Go(func() { _, _ = c.Join(r.soon(), fmt.Sprint("a/", n), func(client.Message) {}) })
			all.Go(func() { _, _ = c.Publish(r.soon(), fmt.Sprint("a/", n), n) })
		}
		all.Go(func() {
			for range c.Messages(r.soon(), "a/#") {
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

func TestAddressMayBeAHostAndAPort(t *testing.T) {
	r := newRig(t)
	c, err := client.New(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Publish(r.soon(), "a", 1); err != nil {
		t.Error(err)
	}
}

func TestInvalidAddressesAndOptionsAreRefused(t *testing.T) {
	for _, bad := range []string{"", "localhost", ":1234", "ftp://a", "http://", "http://a?b", "http://a b"} {
		c, err := client.New(bad)
		if err == nil {
			_ = c.Close()
			t.Errorf("the address %q is accepted", bad)
		} else if !strings.Contains(err.Error(), "write HOST:PORT, or a URL such as http://") {
			t.Errorf("%q: the error %q does not say what to write", bad, err)
		}
	}
	for text, bad := range map[string]client.Option{
		"secret":                         client.WithSecret("short"),
		"from 100ms to 1h, not 2h":       client.WithHeartbeat(2 * time.Hour),
		"answer timeout must be above 0": client.WithAnswerTimeout(0),
		"must be above 0, not -1m30s":    client.WithMaxDelay(-90 * time.Second),
	} {
		c, err := client.New("http://a", bad)
		if err == nil {
			_ = c.Close()
			t.Errorf("the option is accepted; the error has to contain %q", text)
		} else if !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %q, want %q", err, text)
		}
	}
}
