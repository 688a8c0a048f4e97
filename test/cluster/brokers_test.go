//go:build !windows

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/test/cluster/hubs"
	"github.com/watchbox-go/watchbox/test/cluster/judge"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// brokers are three hubs that serve MQTT.
type brokers struct {
	*testing.T
	*system
	client *http.Client
}

// eachCluster runs a test with three hubs on one server, and on three servers.
func eachCluster(t *testing.T, run func(b *brokers)) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d servers", n), func(t *testing.T) {
			t.Parallel()
			s := &system{servers: servers.ForTest(t, n)}
			s.hubs = hubs.ForTest(t, program, 3, settings("--nats", s.servers.URL(), "--nats-replicas", fmt.Sprint(n), "--mqtt", "{mqtt}")...)
			b := &brokers{T: t, system: s, client: &http.Client{Transport: &http.Transport{}}}
			t.Cleanup(b.client.CloseIdleConnections)
			run(b)
		})
	}
}

// sub runs a part of the test.
func (b *brokers) sub(name string, run func(b *brokers)) {
	b.T.Run(name, func(t *testing.T) { run(&brokers{t, b.system, b.client}) })
}

// ask returns a request to a hub.
func (b *brokers) ask(hub int, method, path, body string) func() (string, error) {
	return func() (string, error) { return call(b.client, method, b.hubs[hub], path, "", body) }
}

func (b *brokers) must(request func() (string, error)) string {
	b.Helper()
	answer, err := request()
	if err != nil {
		b.Fatal(err)
	}
	return answer
}

// history waits until all hubs have the same texts in a group's history, and returns them.
func (b *brokers) history(group string) (texts []string) {
	b.Helper()
	eventually(b.T, "the same", func() (string, error) {
		for i := range b.hubs {
			here := b.historyAt(i, group)
			if i > 0 && !slices.Equal(here, texts) {
				return fmt.Sprintf("%q at %s, and %q", here, b.hubs[i].Name, texts), nil
			}
			texts = here
		}
		return "the same", nil
	})
	return texts
}

// historyAt returns the texts in a group's history at a hub.
func (b *brokers) historyAt(hub int, group string) (texts []string) {
	b.Helper()
	var list struct{ Messages []struct{ Msg any } }
	if err := json.Unmarshal([]byte(b.must(b.ask(hub, http.MethodGet, "/v1/history/"+group+"?last=1000", ""))), &list); err != nil {
		b.Fatal(err)
	}
	for _, m := range list.Messages {
		texts = append(texts, fmt.Sprint(m.Msg))
	}
	return texts
}

// gone waits until the session of a client id is gone at each hub, or only its position is kept.
func (b *brokers) gone(id string) {
	b.Helper()
	for i := range b.hubs {
		eventually(b.T, "gone", func() (string, error) {
			answer, err := b.ask(i, http.MethodGet, "/v1/sessions/"+deviceUID(id), "")()
			if err != nil && strings.Contains(err.Error(), ": 404 ") || strings.Contains(answer, `"state":"away"`) {
				return "gone", nil
			}
			return fmt.Sprintf("at %s: %s %v", b.hubs[i].Name, answer, err), nil
		})
	}
}

// kill kills a hub. The function that it returns starts it again.
func (b *brokers) kill(hub int) (restart func()) {
	b.hubs[hub].Kill()
	return func() {
		b.Helper()
		if err := b.hubs[hub].Restart(); err != nil {
			b.Fatal(err)
		}
	}
}

// stream calls f with the hubs' stream.
func (b *brokers) stream(f func(s jetstream.Stream)) {
	b.Helper()
	js, done, err := b.servers.Connect()
	if err != nil {
		b.Fatal(err)
	}
	defer done()
	stream, err := js.Stream(b.Context(), "WATCHBOX")
	if err != nil {
		b.Fatal(err)
	}
	f(stream)
}

// version returns the version of the position of a client in the stream; 0: there is none.
func (b *brokers) version(id string) (version uint64) {
	b.Helper()
	b.stream(func(s jetstream.Stream) {
		m, err := s.GetLastMsgForSubject(b.Context(), "wb.WATCHBOX.n.cursor.mqtt."+deviceUID(id))
		if err == nil && len(m.Data) > 0 {
			version = m.Sequence
		}
	})
	return version
}

// stored does something, and waits until another version of the position of a client is in the stream.
func (b *brokers) stored(id string, change func()) {
	b.Helper()
	before := b.version(id)
	change()
	eventually(b.T, "changed", func() (string, error) {
		if b.version(id) != before {
			return "changed", nil
		}
		return "the same", nil
	})
}

// follow follows a group over HTTP at a hub until the test ends.
func (b *brokers) follow(hub int, filter string) *listener {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	l := newListener("listener", filter, b.hubs[hub:hub+1])
	var following sync.WaitGroup
	b.Cleanup(func() { cancel(); following.Wait() })
	following.Go(func() { l.run(ctx, rand.New(rand.NewPCG(1, 1)), func() int { return 1 << 30 }) })
	if !l.until(ctx, func(seen []judge.Event) bool { return len(seen) > 0 }) {
		b.Fatal("the listener has no stream")
	}
	return l
}

// bodies waits for a number of messages and returns their texts.
func (l *listener) bodies(t *testing.T, n int) (texts []string) {
	t.Helper()
	ok := l.until(t.Context(), func(seen []judge.Event) bool {
		texts = nil
		for _, e := range seen {
			if e.Kind == judge.Delivery {
				texts = append(texts, e.Body)
			}
		}
		return len(texts) >= n
	})
	if !ok {
		t.Fatalf("the listener got %d messages of %d", len(texts), n)
	}
	return texts
}

// numbered returns the texts prefix-first to prefix-last.
func numbered(prefix string, first, last int) (texts []string) {
	for i := first; i <= last; i++ {
		texts = append(texts, fmt.Sprint(prefix, i))
	}
	return texts
}

func (b *brokers) hubIsDown(hub int) bool {
	select {
	case <-b.hubs[hub].Done():
		return true
	default:
		return false
	}
}
