package api_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
)

// oneWay is a dialer. While it is locked, its connections receive nothing. What they send arrives.
type oneWay struct{ sync.RWMutex }

// Dial implements jetstream.Dialer.
func (w *oneWay) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &oneWayConn{c, w}, err
}

type oneWayConn struct {
	net.Conn
	way *oneWay
}

// Read implements net.Conn.
func (c *oneWayConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.way.RLock()
	defer c.way.RUnlock()
	return n, err
}

// heard is what OnMessage was called with.
type heard struct {
	mu   sync.Mutex
	list []string
}

func (s *server) hears() *heard {
	h := &heard{}
	s.hub.OnMessage(func(m watchbox.Message) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.list = append(h.list, fmt.Sprint(m.ID, m.Group, m.UID, m.Event, m.Text()))
	})
	return h
}

func (h *heard) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

// TestOnMessageIsCalledIfAMessageTurnsOutToBeStored has a hub that does not hear what the NATS server answers. All its POSTs are answered
// with unknown-outcome, and their messages are stored. Some are sent again, to this hub and to another one.
func TestOnMessageIsCalledIfAMessageTurnsOutToBeStored(t *testing.T) {
	if storeName != "nats" {
		t.Skip("the outcome is always known")
	}
	stream := newStream(t)
	link := &oneWay{}
	s := serve(t, watchbox.WithStore(func(o watchbox.StoreOptions) (store.Store, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return jetstream.Open(ctx, jetstream.Options{
			URL: natsURL, Stream: stream, Replicas: 1, MaxMemory: o.MaxMemory, MaxGroups: o.MaxGroups, Server: o.Server,
			Dialer: link, Times: jetstream.Times{Patience: time.Second, Beat: 10 * time.Second}, // the connection is kept for as long as nothing arrives
		})
	}))
	other := serve(t, watchbox.WithNATS(watchbox.NATS{URL: natsURL, Stream: stream, Replicas: 1}))
	here, there := s.hears(), other.hears()
	sender := s.listen("/v1/groups/none").proof()

	link.Lock()
	var posts sync.WaitGroup
	for _, c := range []struct {
		call, body string
		header     []string
	}{
		{"POST /v1/groups/one?event=e", "1", nil},
		{"POST /v1/groups/one", "2", sender},
		{"POST /v1/groups/two", "\"3\"\n\"4\"\n", []string{"Content-Type", "application/x-ndjson"}},
		{"POST /v1/messages", `{"group":"one","msg":"5"}` + "\n" + `{"group":"two","msg":"6"}` + "\n", sender},
		{"POST /v1/groups/one", "7", []string{"Idempotency-Key", "k"}},
		{"POST /v1/groups/two", "8", []string{"Idempotency-Key", "k"}},
	} {
		posts.Go(func() { s.wants(503, "unknown-outcome", c.call, c.body, c.header...) })
	}
	posts.Wait()
	repeat := func(s *server, call, body string) {
		s.Helper()
		eventually(s, call+" is answered", func() bool { return s.do(call, body, "Idempotency-Key", "k").status == http.StatusCreated })
	}
	s.wants(503, "unknown-outcome", "POST /v1/groups/one", "7", "Idempotency-Key", "k")
	repeat(other, "POST /v1/groups/one", "7")
	link.Unlock()
	repeat(s, "POST /v1/groups/one", "7")
	repeat(s, "POST /v1/groups/two", "8")
	repeat(other, "POST /v1/groups/two", "8")

	var stored []string
	eventually(t, "the other hub has all messages", func() bool {
		stored = nil
		for _, m := range other.history("%23").Messages {
			stored = append(stored, fmt.Sprint(m.ID, m.Group, m.UID, m.Event, strings.Trim(string(m.Msg), `"`)))
		}
		return len(stored) >= 8
	})
	slices.Sort(stored)
	eventually(t, "the program gets what is stored", func() bool { return len(here.all()) >= len(stored) })
	if got := slices.Sorted(slices.Values(here.all())); !slices.Equal(got, stored) {
		t.Errorf("OnMessage got\n%q, stored are\n%q", got, stored)
	}
	if got := there.all(); len(got) > 0 {
		t.Errorf("OnMessage of the other hub got %q", got)
	}
}
