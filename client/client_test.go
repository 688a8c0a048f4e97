package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
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
	if _, err := c.Join(r.timeout(), "home/#", func(m client.Message) { got <- m }); err != nil {
		t.Fatal(err)
	}
	id, err := c.Publish(r.timeout(), "home/kitchen", map[string]int{"celsius": 93}, client.Event("reading"))
	if err != nil {
		t.Fatal(err)
	}
	m := <-got
	var v struct{ Celsius int }
	if err := m.Decode(&v); err != nil || v.Celsius != 93 || m.ID != id || m.Group != "home/kitchen" || m.UID != c.UID() || m.Event != "reading" || m.Time.IsZero() {
		t.Errorf("%+v, %v", m, err)
	}
	for _, sent := range []any{"text", []byte{0xff, 0}, "", 7} {
		if _, err := c.Publish(r.timeout(), "home/kitchen", sent); err != nil {
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
	var all []*recorder
	for range 100 {
		c := r.client(client.OnDisconnect(func(error) { lost.Add(1) }), client.OnReconnect(func() { back.Add(1) }),
			client.OnGap(func(g client.Gap) { t.Errorf("%+v", g) }))
		_, h := r.join(c, "room/#")
		all = append(all, h)
	}
	ctx, stop := context.WithCancel(r.timeout())
	var senders sync.WaitGroup
	var sent [4]int
	for n := range sent {
		c := r.client()
		senders.Go(func() {
			for ; ctx.Err() == nil; sent[n]++ {
				if _, err := c.Publish(r.timeout(), fmt.Sprint("room/", n), fmt.Sprint(n, " ", sent[n])); err != nil {
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

func TestNewLogIsReportedAsAGap(t *testing.T) {
	r := newRig(t)
	gaps := newRecorder(t)
	c := r.client(client.OnGap(func(g client.Gap) { gaps.note("%s %s", g.Filter, g.Reason) }))
	_, a := r.join(c, "a")
	_, b := r.join(c, "b")
	r.publish("a", 1)
	a.want("1")
	r.down()
	r.stop()
	r.start()
	r.publish("b", 2)
	r.leadsTo(r.srv.Listener.Addr().String())
	r.up(t)
	b.want("2")
	gaps.want("a epoch", "b epoch")
	r.publish("a", 3)
	a.want("1", "3")
}

func TestProgramMayReplyToSend(t *testing.T) {
	r := newRig(t)
	r.hub.OnMessage(func(m watchbox.Message) {
		if _, err := m.Reply(context.Background(), "you said "+m.Text()); err != nil {
			t.Error(err)
		}
	})
	direct := newRecorder(t)
	c := r.client(client.OnDirect(func(m client.Message) { direct.note("%s", m.Text()) }))
	r.join(c, "a")
	if id, err := c.Send(r.timeout(), "hello"); err != nil || id == "" {
		t.Fatal(id, err)
	}
	direct.want("you said hello")
	other := r.client()
	if _, err := other.SendTo(r.timeout(), c.UID(), "psst"); err != nil {
		t.Fatal(err)
	}
	direct.want("you said hello", "psst")
}

func TestAddressMayBeAHostAndAPort(t *testing.T) {
	r := newRig(t)
	c, err := client.New(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Publish(r.timeout(), "a", 1); err != nil {
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
