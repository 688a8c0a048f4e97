//go:build !windows

// Package logs tests what one log of store/jetstream promises, and several on one stream.
package logs

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/store/storetest"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "10"); err != nil { // each opens a log
		panic(err)
	}
	flag.Parse()
	os.Exit(m.Run())
}

// patience is how long a test waits for one event.
const patience = time.Minute

// streams is how many streams the tests have made, for their names.
var streams atomic.Int64

func newStream() string { return fmt.Sprint("TEST", streams.Add(1)) }

// client is a connection of a test to JetStream, beside those of the hubs.
type client struct {
	js.JetStream
	nc *nats.Conn
}

func connect(t testing.TB, url string, o ...nats.Option) client {
	t.Helper()
	nc, err := nats.Connect(url, append(o, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	j, err := js.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return client{j, nc}
}

// quick are times for tests. But an append waits as long as a test does: on a slow machine, the servers answer late.
var quick = jetstream.Times{
	Beat: 200 * time.Millisecond, Sign: 50 * time.Millisecond, Silent: time.Second, Janitor: 50 * time.Millisecond, Grace: time.Millisecond, Patience: patience,
}

// open opens a log of a stream, and closes it after the test.
func open(t testing.TB, o jetstream.Options) *jetstream.Log {
	t.Helper()
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Times == (jetstream.Times{}) {
		o.Times = quick
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := jetstream.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !holds(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("it did not happen: %s", what)
		}
	}
}

// TestStore runs the suite of all stores. Tests in a bubble of virtual time are skipped: they cannot wait for a server.
func TestStore(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	if _, err := admin.AccountInfo(t.Context()); err != nil { // starts the goroutine that receives answers
		t.Fatal(err)
	}
	dirs := map[string]string{}
	storetest.Run(t, func(t *testing.T, o storetest.Options) store.Store {
		if inBubble() {
			t.Skip("the server does not run in virtual time")
		}
		stream := newStream()
		if o.Dir == "" {
			t.Cleanup(func() { _ = admin.DeleteStream(context.Background(), stream) })
		} else if known := dirs[o.Dir]; known != "" {
			stream = known
		} else {
			dirs[o.Dir] = stream
		}
		return open(t, jetstream.Options{URL: url, Stream: stream, MaxMemory: o.MaxMemory, MaxGroups: o.MaxGroups, Server: o.Server, Times: jetstream.Times{Janitor: 5 * time.Millisecond, Grace: time.Hour, Patience: patience}})
	})
}

// inBubble reports whether the test runs in a synctest bubble, whose clock begins in 2000.
func inBubble() bool { return time.Now().Year() == 2000 }

func text(group, s string) store.Entry {
	m := store.Message{Group: group, Time: time.Now(), Msg: store.AppendQuote(nil, s)}
	return m.Entry(nil)
}

func add(t testing.TB, l store.Log, entries ...store.Entry) store.Seq {
	t.Helper()
	id, err := l.Append(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	return id.Seq
}

// history is what a reader gets of a filter from the beginning: its frames, and its gaps.
type history struct {
	frames string
	gap    store.Seq
	n      int
	next   store.Seq
}

func read(t testing.TB, l *jetstream.Log, filter string, after store.Seq) (h history) {
	t.Helper()
	_, end := l.Bounds()
	q := store.Query{Select: filters(filter), After: after}
	b := &store.Batch{Buf: make([]byte, 0, 256<<10)}
	for q.After < end.Seq {
		if err := l.Read(q, b); err != nil {
			t.Fatal(err)
		}
		for _, g := range b.Gaps {
			h.gap = max(h.gap, g.Evicted)
		}
		h.frames += string(b.Buf)
		h.n += len(b.Frames)
		q.After, q.Reported = b.Next, b.Reported
	}
	h.next = q.After
	return h
}

// lasting returns how many messages a log has of a group, without those that expire.
func lasting(l *jetstream.Log, name string) int {
	page, _ := l.Groups(store.GroupQuery{Prefix: name, Limit: 1})
	if len(page) == 0 || page[0].Group != name {
		return 0
	}
	return int(page[0].Messages)
}

// texts returns how often each text is there.
func (h history) texts() map[string]int {
	seen := map[string]int{}
	for line := range strings.Lines(h.frames) {
		if _, msg, ok := strings.Cut(line, `"msg":"`); ok {
			seen[strings.TrimSuffix(strings.TrimSpace(msg), `"}`)]++
		}
	}
	return seen
}

func (h history) String() string {
	return fmt.Sprintf("%d messages, %d bytes, gap up to %d", h.n, len(h.frames), h.gap)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func end(l *jetstream.Log) (epoch string, last store.Seq) {
	_, newest := l.Bounds()
	return newest.Epoch, newest.Seq
}

// filters parses filters separated by spaces.
func filters(list string) group.Set {
	var set group.Set
	for s := range strings.FieldsSeq(list) {
		f, err := group.ParseFilter(s)
		if err != nil {
			panic(err)
		}
		set = append(set, f)
	}
	return set
}
