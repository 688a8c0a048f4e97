package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/client"
)

func TestAllJoinsShareOneStream(t *testing.T) {
	r := newRig(t)
	states := newRecorder(t)
	c := r.client(client.OnState(func(s client.State) { states.note("%v", s) }))
	a, messagesA := r.join(c, "a/#")
	again, messagesAgain := r.join(c, "a/#")
	_, messagesAB := r.join(c, "a/b")
	if got := r.session(c); got.Streams != 1 || !slices.Equal(got.Filters, []string{"a/#", "a/b"}) {
		t.Errorf("%+v", got)
	}
	r.publish("a/b", 1)
	r.publish("a", 2)
	messagesA.want("1", "2")
	messagesAgain.want("1", "2")
	messagesAB.want("1")
	if err := a.Leave(r.timeout()); err != nil {
		t.Fatal(err)
	}
	r.publish("a", 3)
	messagesAgain.want("1", "2", "3")
	if err := again.Leave(r.timeout()); err != nil {
		t.Fatal(err)
	}
	if got := r.session(c); got.Streams != 1 || !slices.Equal(got.Filters, []string{"a/b"}) {
		t.Errorf("%+v", got)
	}
	r.publish("a/b", 4)
	messagesAB.want("1", "4")
	messagesA.want("1", "2")
	messagesAgain.want("1", "2", "3")
	states.want("connecting", "open")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	states.want("connecting", "open", "closed")
	if _, err := c.Join(r.timeout(), "x", ignore); !errors.Is(err, client.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := c.Publish(r.timeout(), "x", 1); !errors.Is(err, client.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestLastLeaveClosesTheStream(t *testing.T) {
	r := newRig(t)
	states := newRecorder(t)
	c := r.client(client.OnState(func(s client.State) { states.note("%v", s) }))
	for range 2 {
		sub, h := r.join(c, "a")
		r.publish("a", 1)
		h.want("1")
		if err := sub.Leave(r.timeout()); err != nil {
			t.Fatal(err)
		}
		if err := sub.Leave(r.timeout()); err != nil {
			t.Fatal(err)
		}
		r.publish("a", 2)
	}
	states.want("connecting", "open", "idle", "connecting", "open", "idle")
}

// TestJoinOnAnOpenStreamMissesNothing joins and leaves while others publish and the network is cut.
func TestJoinOnAnOpenStreamMissesNothing(t *testing.T) {
	r := newRig(t)
	c := r.client(client.OnGap(func(g client.Gap) { t.Errorf("%+v", g) }))
	_, steady := r.join(c, "steady")
	ctx, stop := context.WithCancel(r.timeout())
	var sent atomic.Int64
	var sender sync.WaitGroup
	other := r.client()
	sender.Go(func() {
		for n := int64(1); ctx.Err() == nil; n++ {
			if _, err := other.Publish(r.timeout(), "busy", n); err != nil {
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
		if err := sub.Leave(r.timeout()); err != nil {
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
	steady.want("end")
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
		if _, err := c.Publish(r.timeout(), "home/temp", v, client.Retain()); err != nil {
			t.Fatal(err)
		}
	}
	set("20")
	_, all := r.join(c, "home/#")
	all.want("20")
	set("21")
	all.want("20", "21")
	_, temp := r.join(c, "home/temp") // live
	temp.want("21")
	_, again := r.join(c, "home/temp")
	again.want("21")
	r.cut()
	set("22")
	temp.want("21", "22")
	again.want("21", "22")
	all.want("20", "21", "22")
}

func TestRefusedJoinDoesNotAffectOthers(t *testing.T) {
	r := newRig(t)
	c := r.client()
	refused := func() {
		t.Helper()
		_, err := c.Join(r.timeout(), "a//b", func(client.Message) { t.Error("a message") })
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
	h.want("1")
	_, err := c.Publish(r.timeout(), "a/+", 1)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "group-invalid" {
		t.Errorf("%v", err)
	}
	if _, err := c.Join(r.timeout(), "", ignore); err == nil {
		t.Error("a join of an empty filter succeeds")
	}
	if _, err := c.Join(r.timeout(), "a", nil); err == nil {
		t.Error("a join without a function succeeds")
	}
}

// TestSlowCallbackPausesTheStream checks that the client stops reading while callbacks are slow.
func TestSlowCallbackPausesTheStream(t *testing.T) {
	r := newRig(t)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(64 << 10) // otherwise the kernel takes up to 32 MiB
		}
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	c := r.client(client.OnGap(func(g client.Gap) { t.Errorf("%+v", g) }), client.WithHTTPClient(&http.Client{Transport: transport}))
	release, n := make(chan struct{}), 0
	done := make(chan struct{})
	const messages = 3000
	if _, err := c.Join(r.timeout(), "a", func(client.Message) {
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
	case <-time.After(testTimeout):
		t.Errorf("%d messages", n)
	}
}

func TestCallbackMayJoinAndPublish(t *testing.T) {
	r := newRig(t)
	c := r.client()
	inner := newRecorder(t)
	if _, err := c.Join(r.timeout(), "a", func(m client.Message) {
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
	inner.want("from 1")
}

func TestLoopOverMessages(t *testing.T) {
	r := newRig(t)
	c, sender := r.client(), r.client()
	ctx, cancel := context.WithCancel(r.timeout())
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
	for _, err := range c.Messages(r.timeout(), "a//b") {
		if _, ok := errors.AsType[*client.Error](err); !ok {
			t.Errorf("%v", err)
		}
	}
	if c.State() != client.StateIdle {
		t.Errorf("%v", c.State())
	}
}
