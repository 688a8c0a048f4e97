//go:build !windows

package mqtt_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// crowd is a sender and a listener of each QoS, who reconnect until everything has arrived.
type crowd struct {
	t         *testing.T
	b         *broker
	senders   []*sender
	listeners []*listener
	cuts      int // one packet in so many breaks a connection; 0 for none

	mu         sync.Mutex // guards what follows
	acked      int
	milestones []int // numbers of acknowledgements at which reached is sent to
	reached    chan struct{}
}

// numbers is how many messages each sender sends.
const numbers = 2000

// newCrowd returns a crowd whose milestones are n random moments of the run.
func newCrowd(t *testing.T, b *broker, cuts, n int) *crowd {
	c := &crowd{t: t, b: b, cuts: cuts, reached: make(chan struct{}, n)}
	for range n {
		c.milestones = append(c.milestones, 1+rand.IntN(2*numbers-1))
	}
	slices.Sort(c.milestones)
	topics := []string{"numbers/1", "numbers/2"}
	window := uint16(16)
	if reference {
		window = 60_000 // mosquitto 2.0.11 sends new messages before those that wait for a place in the window
	}
	for i, topic := range topics {
		qos := byte(i + 1)
		c.senders = append(c.senders, &sender{id: fmt.Sprint("sender ", qos), topic: topic, qos: qos, n: numbers, window: 20,
			acks: c.acks, breaks: c.breaks})
		c.listeners = append(c.listeners, &listener{id: fmt.Sprint("listener ", qos), filter: "numbers/+", qos: qos, window: window,
			topics: topics, n: numbers, breaks: c.breaks})
	}
	return c
}

func (c *crowd) acks() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked++
	for len(c.milestones) > 0 && c.acked >= c.milestones[0] {
		c.milestones = c.milestones[1:]
		c.reached <- struct{}{}
	}
}

func (c *crowd) breaks() bool { return c.cuts > 0 && rand.IntN(c.cuts) == 0 }

// run runs all, and calls disturb at each milestone.
func (c *crowd) run(disturb func()) {
	c.t.Helper()
	n := len(c.milestones)
	// The listeners subscribe before the first number is sent.
	for _, l := range c.listeners {
		conn := c.b.dial()
		if err := l.begin(conn); err != nil {
			c.t.Fatal(err)
		}
		_ = conn.Close()
	}
	var running sync.WaitGroup
	ctx, fail := context.WithTimeout(context.Background(), 2*patience)
	defer fail()
	for _, l := range c.listeners {
		running.Go(func() { c.reconnect(ctx, fail, l.id, l.run) })
	}
	for _, s := range c.senders {
		running.Go(func() { c.reconnect(ctx, fail, s.id, s.run) })
	}
	ended := make(chan struct{})
	go func() { running.Wait(); close(ended) }()
	for range n {
		select {
		case <-c.reached:
			disturb()
		case <-ended: // all milestones are reached before, unless there was a fault
		}
	}
	<-ended
}

// reconnect runs a device on one connection after the other. It calls fail if the broker is at fault, which ends all.
func (c *crowd) reconnect(ctx context.Context, fail func(), id string, run func(net.Conn) error) {
	for {
		conn, err := net.Dial("tcp", c.b.addr)
		if err != nil {
			<-time.After(10 * time.Millisecond) // until the broker is there again
		} else {
			stop := context.AfterFunc(ctx, closer(conn))
			if err = run(conn); errors.Is(err, errBroken) && rand.IntN(4) > 0 {
				drain(conn)
			}
			stop()
			_ = conn.Close()
		}
		var f fault
		switch {
		case err == nil:
			return
		case errors.As(err, &f):
			c.t.Errorf("%s: %v", id, err)
			fail()
			return
		case ctx.Err() != nil:
			return // the judge sees what is missing
		}
	}
}

// drain closes a connection so that the broker has noticed it afterwards.
func drain(c net.Conn) {
	_ = c.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, c)
}

// judge judges what the broker's log has and what the listeners received. QoS 2 must be exactly once in the log and, with
// once, also for the listeners.
func (c *crowd) judge(once bool) {
	c.t.Helper()
	again := 0
	for _, s := range c.senders {
		if again += s.again; s.acked != numbers {
			c.t.Errorf("%s: %d of %d are acknowledged", s.id, s.acked, numbers)
		}
		if c.b.url != "" {
			verdict(c.t, "the log of "+s.topic, numbers, history(c.t, c.b, s.topic), s.qos == 1)
		}
		for _, l := range c.listeners {
			verdict(c.t, l.id+" of "+s.topic, numbers, l.got[s.topic], !once || s.qos == 1 || l.qos == 1)
		}
	}
	if again == 0 {
		c.t.Error("nothing was sent again: the test proves nothing")
	}
	c.t.Logf("%d numbers were sent again", again)
}

// history returns the numbers that a hub's log has in a group.
func history(t *testing.T, b *broker, group string) (got []int) {
	t.Helper()
	answer, err := http.Get(b.url + "/v1/history/" + group)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var page struct {
		Messages []struct{ Msg json.RawMessage }
		Gap      any
	}
	if err := json.NewDecoder(answer.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Messages {
		n, err := strconv.Atoi(string(m.Msg))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	return got
}

// TestKillsLoseNothing kills the hub (SIGKILL) at random moments. Each acknowledged message must arrive, in order. QoS 2 is
// exactly once in the log. A listener may get again what it acknowledged in the second before the kill.
func TestKillsLoseNothing(t *testing.T) {
	b := hub(t, "--data-dir", t.TempDir())
	c := newCrowd(t, b, 0, 8)
	c.run(func() { b.Kill(); b.start() })
	c.judge(false)
}

// TestBrokenConnectionsAndRestarts breaks connections at random packets, and restarts the broker in an orderly way.
// Then QoS 2 is exactly once for listeners, too.
func TestBrokenConnectionsAndRestarts(t *testing.T) {
	b := serve(t, "--data-dir", t.TempDir())
	restarts := 3
	if reference {
		restarts = 0 // mosquitto 2.0.11 forgets which QoS 2 messages were received
	}
	c := newCrowd(t, b, 300, restarts)
	c.run(b.restart)
	c.judge(true)
}
