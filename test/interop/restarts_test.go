package interop_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	clients  = 100
	restarts = 10
	burst    = 40 // messages from one restart to the next
	patience = 2 * time.Minute
)

// crowd checks that each client of one kind receives 0, 1, 2 and so on, once each.
type crowd struct {
	t *testing.T

	mu    sync.Mutex
	next  []int
	moved chan struct{} // closed when a message has arrived
	bad   int
}

func newCrowd(t *testing.T) *crowd {
	return &crowd{t: t, next: make([]int, clients), moved: make(chan struct{})}
}

// hear checks the data of a message that a client has received.
func (c *crowd) hear(client int, data []byte) {
	var m struct{ Msg *int }
	if err := json.Unmarshal(data, &m); err != nil || m.Msg == nil {
		c.t.Errorf("client %d received %q", client, data)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if *m.Msg != c.next[client] {
		if c.bad++; c.bad <= 5 {
			c.t.Errorf("client %d received %d, want %d", client, *m.Msg, c.next[client])
		}
	}
	c.next[client] = *m.Msg + 1
	close(c.moved)
	c.moved = make(chan struct{})
}

// hearLine is hear for a line with the number of the client before the data.
func (c *crowd) hearLine(line []byte) {
	number, data, _ := bytes.Cut(line, []byte(" "))
	client, err := strconv.Atoi(string(number))
	if err != nil || client < 0 || client >= clients {
		c.t.Errorf("%q does not start with the number of a client", line)
		return
	}
	c.hear(client, data)
}

// await waits until all clients have received n messages.
func (c *crowd) await(n int) {
	c.t.Helper()
	late := time.After(patience)
	for {
		c.mu.Lock()
		behind, moved := 0, c.moved
		for _, next := range c.next {
			if next < n {
				behind++
			}
		}
		c.mu.Unlock()
		if behind == 0 {
			return
		}
		select {
		case <-moved:
		case <-late:
			c.t.Fatalf("%d of %d clients have not received %d messages", behind, clients, n)
		}
	}
}

// survive repeatedly publishes messages to a crowd and restarts the server while they are sent. listen starts the
// clients, which report their messages to the crowd.
func survive(t *testing.T, s *server, listen func(*crowd)) {
	t.Helper()
	c := newCrowd(t)
	s.retain("a", 0) // a client that receives it is connected
	listen(c)
	c.await(1)
	n := 1
	send := func() {
		for range burst / 2 {
			s.publish("a", n)
			n++
		}
	}
	for range restarts {
		var sending sync.WaitGroup
		sending.Go(send)
		if got := s.close(); got < clients {
			t.Errorf("%d connections were cut: not all of the %d clients had reconnected", got, clients)
		}
		sending.Wait()
		send()
		s.open()
		c.await(n)
	}
	s.publish("a", n)
	c.await(n + 1)
}
