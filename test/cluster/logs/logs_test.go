//go:build !windows

// Package logs tests what one log of store/jetstream promises, and several on one stream.
package logs

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// quick are times for tests.
var quick = jetstream.Times{Beat: 200 * time.Millisecond, Sign: 50 * time.Millisecond, Silent: time.Second, Janitor: 50 * time.Millisecond, Grace: time.Millisecond}

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
		return open(t, jetstream.Options{URL: url, Stream: stream, MaxMemory: o.MaxMemory, MaxGroups: o.MaxGroups, Server: o.Server, Times: jetstream.Times{Janitor: 5 * time.Millisecond, Grace: time.Hour}})
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

func TestTwoLogsOfAStreamShowTheSame(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	a, b := open(t, o), open(t, o)
	var all sync.WaitGroup
	for i, l := range []*jetstream.Log{a, b, a, b} {
		all.Go(func() {
			for k := range 100 {
				group := fmt.Sprint("group/", k%3)
				add(t, l, text(group, fmt.Sprint(i, " ", k)))
				if k%25 == 0 {
					add(t, l, text(group, "x"), text("other", "y"), text(group, "z"))
				}
				if i == 1 && k == 50 {
					must(t, l.SetPolicy(filters("group/1")[0], store.Policy{MaxMessages: 20}))
				}
				if i == 2 && k == 70 {
					must(t, l.Purge("group/2"))
				}
			}
		})
	}
	all.Wait()
	c := open(t, o) // it reads everything from the stream
	for _, l := range []*jetstream.Log{a, b, c} {
		eventually(t, "each log has everything", func() bool { return read(t, l, "#", 0).next == read(t, a, "#", 0).next })
	}
	for _, f := range []string{"#", "group/0", "group/1", "group/2", "other"} {
		ha, hb := read(t, a, f, 0), read(t, b, f, 0)
		if ha != hb || ha.n == 0 {
			t.Errorf("%s: %v and %v", f, ha, hb)
		}
		eventually(t, "a log that was opened later shows the same", func() bool { return read(t, c, f, 0) == ha })
	}
	if h := read(t, c, "group/1", 0); h.n != 20 || h.gap == 0 {
		t.Errorf("of group/1, which keeps 20 messages: %v", h)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// TestAPolicyEvictsMessagesThatAreNotInMemory has logs with room for a fifth of the messages.
func TestAPolicyEvictsMessagesThatAreNotInMemory(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), MaxMemory: 1 << 20}
	a, b := open(t, o), open(t, o)
	filler := strings.Repeat("x", 1000)
	for range 40 {
		var list []store.Entry
		for i := range 125 {
			list = append(list, text([]string{"a", "b"}[i%2], filler))
		}
		add(t, a, list...)
	}
	if h := read(t, a, "a", 0); h.n != 40*63 || h.gap != 0 {
		t.Fatalf("of 2520 messages in a: %v", h)
	}
	must(t, b.SetPolicy(filters("a")[0], store.Policy{MaxMessages: 1500}))
	for _, l := range []*jetstream.Log{a, b, open(t, o)} {
		eventually(t, "a keeps 1500 messages", func() bool { h := read(t, l, "a", 0); return h.n == 1500 && h.gap > 0 })
		if h := read(t, l, "b", 0); h.n != 40*62 || h.gap != 0 {
			t.Errorf("of 2480 messages in b: %v", h)
		}
	}
	s, err := connect(t, url).Stream(t.Context(), o.Stream)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "evicted messages are removed from the stream", func() bool {
		info, err := s.Info(t.Context(), js.WithSubjectFilter("wb."+o.Stream+".m.a"))
		return err == nil && info.State.Subjects["wb."+o.Stream+".m.a"] == 1500
	})
}

// TestMessagesThatWerePurgedByHandDoNotCount purges by hand some of a group's messages that are not in memory. The
// others are within the policy, and stay.
func TestMessagesThatWerePurgedByHandDoNotCount(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), MaxMemory: 1 << 20}
	a, b := open(t, o), open(t, o)
	filler := strings.Repeat("x", 1000)
	var half store.Seq
	for round := range 40 {
		var list []store.Entry
		for i := range 125 {
			list = append(list, text([]string{"a", "b"}[i%2], filler))
		}
		if first := add(t, a, list...); round == 20 {
			half = first
		}
	}
	s, err := connect(t, url).Stream(t.Context(), o.Stream)
	if err != nil {
		t.Fatal(err)
	}
	must(t, s.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.a"), js.WithPurgeSequence(uint64(half))))
	eventually(t, "listeners of a get a gap", func() bool { h := read(t, a, "a", 0); return h.gap > 0 && h.n == 20*63 })
	for _, l := range []*jetstream.Log{a, b, open(t, o)} { // only one of them counts
		eventually(t, "all logs have the same number of messages", func() bool {
			page, _ := l.Groups(store.GroupQuery{Prefix: "a", Limit: 1})
			return len(page) == 1 && page[0].Messages == 20*63
		})
	}
	must(t, a.SetPolicy(filters("a")[0], store.Policy{MaxMessages: 1500}))
	must(t, a.SetPolicy(filters("b")[0], store.Policy{MaxMessages: 1500}))
	eventually(t, "b keeps 1500 messages", func() bool { return read(t, a, "b", 0).n == 1500 })
	if h := read(t, a, "a", 0); h.n != 20*63 {
		t.Errorf("of 1260 messages in a, which may have 1500: %v", h)
	}
}

// TestAPurgeByHandIsAGap purges with a client that has such a name as a hub.
func TestAPurgeByHandIsAGap(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	a, b := open(t, o), open(t, o)
	for i := range 10 {
		add(t, a, text("x/1", fmt.Sprint(i)), text("y", fmt.Sprint(i)))
	}
	s, err := connect(t, url, nats.Name("watchbox "+o.Stream+" somebody")).Stream(t.Context(), o.Stream)
	if err != nil {
		t.Fatal(err)
	}
	must(t, s.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.x.>")))
	for _, l := range []*jetstream.Log{a, b} {
		eventually(t, "listeners of x get a gap", func() bool { h := read(t, l, "x/#", 0); return h.gap > 0 && h.n == 0 })
	}
	c := open(t, o)
	for _, l := range []*jetstream.Log{a, b, c} {
		if h := read(t, l, "x/1", 0); h.gap == 0 || h.n != 0 {
			t.Errorf("x/1 was purged by hand: %v", h)
		}
		if h := read(t, l, "y", 0); h.gap != 0 || h.n != 10 {
			t.Errorf("y was not purged: %v", h)
		}
	}
}

// TestNoReaderSkipsWhatWasPurgedByHand reads groups that are not in memory right after each was purged, before a hub can have
// written a mark.
func TestNoReaderSkipsWhatWasPurgedByHand(t *testing.T) {
	url := servers.ForTest(t, 3).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), MaxMemory: 1 << 20, Replicas: 3}
	a, b := open(t, o), open(t, o)
	const groups, each = 30, 100
	filler := strings.Repeat("x", 1000)
	for g := range groups {
		var list []store.Entry
		for range each {
			list = append(list, text(fmt.Sprint("g", g), filler))
		}
		add(t, a, list...)
	}
	add(t, a, text("last", "1"))
	s, err := connect(t, url).Stream(t.Context(), o.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for g := range groups / 2 { // the others may be in memory
		must(t, s.Purge(t.Context(), js.WithPurgeSubject(fmt.Sprint("wb.", o.Stream, ".m.g", g))))
		for _, l := range []*jetstream.Log{a, b} {
			if h := read(t, l, fmt.Sprint("g", g), 0); h.n < each && h.gap == 0 {
				t.Errorf("group %d was purged: %v", g, h)
			}
			if h := read(t, l, fmt.Sprint("g", groups/2+g), 0); h.n != each {
				t.Errorf("group %d was not purged: %v", groups/2+g, h)
			}
		}
	}
}

func TestAPurgeOfTheWholeStreamIsAGap(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	for _, running := range []bool{true, false} {
		o := jetstream.Options{URL: url, Stream: newStream()}
		a := open(t, o)
		for i := range 10 {
			add(t, a, text("x", fmt.Sprint(i)))
		}
		epoch, last := end(a)
		if !running {
			must(t, a.Close())
		}
		s, err := connect(t, url).Stream(t.Context(), o.Stream)
		if err != nil {
			t.Fatal(err)
		}
		must(t, s.Purge(t.Context()))
		logs := []*jetstream.Log{open(t, o)}
		if running {
			logs = append(logs, a)
		}
		for i, l := range logs {
			eventually(t, "the gap", func() bool { h := read(t, l, "x", 0); return h.gap >= last && h.n == i })
			if now, _ := end(l); now != epoch {
				t.Errorf("running %v: the epoch was %s and is %s", running, epoch, now)
			}
			if seq := add(t, l, text("x", "later")); seq <= last {
				t.Errorf("the id %d is used again", seq)
			}
		}
	}
}

func end(l *jetstream.Log) (epoch string, last store.Seq) {
	_, newest := l.Bounds()
	return newest.Epoch, newest.Seq
}

func TestAStreamThatIsDeletedBeginsANewEpoch(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream()}
	a, b := open(t, o), open(t, o)
	for i := range 10 {
		add(t, a, text("x", fmt.Sprint(i)))
	}
	before, _ := end(a)
	must(t, admin.DeleteStream(t.Context(), o.Stream))
	for _, l := range []*jetstream.Log{a, b} {
		eventually(t, "a new epoch", func() bool { epoch, _ := end(l); return epoch != before })
	}
	var seq store.Seq
	eventually(t, "messages are taken again", func() bool {
		id, err := b.Append(t.Context(), []store.Entry{text("x", "new")})
		seq = id.Seq
		return err == nil
	})
	eventually(t, "both have the same epoch and message", func() bool {
		ha, hb := read(t, a, "#", 0), read(t, b, "#", 0)
		return ha == hb && ha.n == 1 && ha.next == seq
	})
}

// TestAStreamOfAnOlderBackupBeginsANewEpoch copies the server's files while it is stopped.
func TestAStreamOfAnOlderBackupBeginsANewEpoch(t *testing.T) {
	s := servers.ForTest(t, 1)
	o := jetstream.Options{URL: s.URL(), Stream: newStream()}
	a, b := open(t, o), open(t, o)
	for i := range 10 {
		add(t, a, text("x", fmt.Sprint(i)))
	}
	must(t, s[0].Stop())
	backup := filepath.Join(t.TempDir(), "backup")
	must(t, os.CopyFS(backup, os.DirFS(s[0].Data())))
	must(t, s[0].Restart())
	must(t, s.Ready())
	var last store.Seq
	for i := range 10 {
		eventually(t, "messages are taken again", func() bool {
			id, err := a.Append(t.Context(), []store.Entry{text("x", fmt.Sprint("lost ", i))})
			last = id.Seq
			return err == nil
		})
	}
	before, _ := end(a)
	must(t, s[0].Stop())
	must(t, os.RemoveAll(s[0].Data()))
	must(t, os.CopyFS(s[0].Data(), os.DirFS(backup)))
	must(t, s[0].Restart())
	must(t, s.Ready())
	for _, l := range []*jetstream.Log{a, b} {
		eventually(t, "a new epoch", func() bool { epoch, _ := end(l); return epoch != before })
	}
	eventually(t, "both show the messages of the backup", func() bool {
		ha, hb := read(t, a, "x", 0), read(t, b, "x", 0)
		return ha == hb && ha.n == 10 && ha.next < last
	})
}

// TestAppendsSurviveARestartOfTheServer appends all the time while the server is killed and started again.
func TestAppendsSurviveARestartOfTheServer(t *testing.T) {
	s := servers.ForTest(t, 1)
	o := jetstream.Options{URL: s.URL(), Stream: newStream(), Times: jetstream.Times{Beat: 200 * time.Millisecond}}
	a, b := open(t, o), open(t, o)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	var mu sync.Mutex
	stored := map[store.Seq]string{}
	unknown := map[string]bool{}
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				word := fmt.Sprint("writer ", w, " message ", i)
				list := []store.Entry{text("x", word)}
				if i%5 == 0 {
					list = append(list, text("y", word))
				}
				id, err := a.Append(context.Background(), list)
				mu.Lock()
				if err == nil {
					stored[id.Seq] = word
				} else {
					unknown[word] = true
				}
				mu.Unlock()
			}
		})
	}
	for range 3 {
		mu.Lock()
		before := len(stored)
		mu.Unlock()
		s.Kill()
		must(t, s[0].Restart())
		must(t, s.Ready())
		eventually(t, "messages are taken again", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(stored) > before+20
		})
	}
	close(stop)
	writers.Wait()
	_, last := end(a)
	for _, l := range []*jetstream.Log{a, b, open(t, o)} {
		eventually(t, "each log has everything", func() bool { _, n := end(l); return n >= last })
		h := read(t, l, "x", 0)
		seen := h.texts()
		for seq, word := range stored {
			if seen[word] != 1 {
				t.Errorf("%q, %d, was stored and is there %d times", word, seq, seen[word])
			}
		}
		for word, n := range seen {
			if n > 1 {
				t.Errorf("%q is there %d times; unknown outcome: %v", word, n, unknown[word])
			}
		}
		if h.gap > 0 {
			t.Errorf("a gap up to %d", h.gap)
		}
	}
}

// valve is a dialer whose connections can be cut.
type valve struct {
	mu     sync.Mutex
	closed bool
	conns  []net.Conn
}

func (v *valve) Dial(network, address string) (net.Conn, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, net.ErrClosed
	}
	c, err := net.Dial(network, address)
	if err == nil {
		v.conns = append(v.conns, c)
	}
	return c, err
}

func (v *valve) set(closed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = closed
	if closed {
		for _, c := range v.conns {
			_ = c.Close()
		}
		v.conns = nil
	}
}

func TestALogThatWasCutOffReadsOnWithoutAGap(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), Times: quick}
	o.Times.Grace = time.Hour
	a := open(t, o)
	v := &valve{}
	o.Dialer = v
	b := open(t, o)
	v.set(true)
	eventually(t, "the log is away", func() bool { return b.Err() != nil })
	var last store.Seq
	for i := range 20 {
		add(t, a, text("x", fmt.Sprint(i)))
		id, err := a.AppendNoted(t.Context(), []store.Entry{text("x", "noted")}, store.Note{Key: "note", Value: []byte{byte(i)}})
		must(t, err)
		last = id.Seq
	}
	must(t, a.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 30}))
	v.set(false)
	eventually(t, "the log is back", func() bool { _, n := end(b); return b.Err() == nil && n >= last })
	eventually(t, "the policy is applied", func() bool { return read(t, b, "x", 0).n == 30 })
	if ha, hb := read(t, a, "#", last-10), read(t, b, "#", last-10); ha != hb || ha.gap != 0 {
		t.Errorf("%v and %v", ha, hb)
	}
}

func TestWhatIsPurgedWhileALogIsCutOffIsAGapThere(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	v := &valve{}
	o.Dialer = v
	b := open(t, o)
	o.Dialer = nil
	a := open(t, o)
	add(t, a, text("x", "before"))
	_, before := end(a)
	eventually(t, "both have it", func() bool { _, n := end(b); return n == before })
	v.set(true)
	eventually(t, "the log is away", func() bool { return b.Err() != nil })
	add(t, a, text("x", "purged"))
	last := add(t, a, text("y", "stays"))
	s, err := connect(t, url).Stream(t.Context(), o.Stream)
	if err != nil {
		t.Fatal(err)
	}
	must(t, a.Close())
	must(t, s.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.x")))
	v.set(false)
	eventually(t, "the log is back", func() bool { _, n := end(b); return n >= last })
	if h := read(t, b, "x", before); h.gap == 0 {
		t.Errorf("a message was purged that this log had not read: %v", h)
	}
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

func TestAMessageThatNoHubWroteIsAGap(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	a := open(t, o)
	before := add(t, a, text("x", "before"))
	ack, err := connect(t, url).Publish(t.Context(), "wb."+o.Stream+".m.x", []byte("damaged"))
	if err != nil {
		t.Fatal(err)
	}
	add(t, a, text("x", "behind"))
	for _, l := range []*jetstream.Log{a, open(t, o)} {
		if h := read(t, l, "x", before); h.n != 1 || h.gap != store.Seq(ack.Sequence) {
			t.Errorf("message %d is damaged: %v", ack.Sequence, h)
		}
	}
}

func TestALogWaitsForAPositionOfAnother(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	a := open(t, o)
	v := &valve{}
	o.Dialer = v
	b := open(t, o)
	v.set(true)
	eventually(t, "the log is away", func() bool { return b.Err() != nil })
	pos := add(t, a, text("x", "1"))
	v.set(false)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	eventually(t, "the log is back", func() bool { return b.Err() == nil })
	if !b.Reach(ctx, pos) || read(t, b, "x", pos-1).n != 1 {
		t.Errorf("the log does not have %d", pos)
	}
	if b.Reach(ctx, pos+1000) { // hubs write notes, too
		t.Error("the log has a position that does not exist")
	}
}

// TestAppendsGoOnWithoutTheLeader kills the leader of the stream, or pauses it, while two hubs append.
func TestAppendsGoOnWithoutTheLeader(t *testing.T) {
	s := servers.ForTest(t, 3)
	o := jetstream.Options{URL: s.URL(), Stream: newStream(), Replicas: 3, Times: jetstream.Times{Grace: time.Hour}}
	a, b := open(t, o), open(t, o)
	var mu sync.Mutex
	stored := map[store.Seq]string{}
	longest, last := time.Duration(0), time.Now()
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w, l := range []*jetstream.Log{a, b, a, b} {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				word := fmt.Sprint("writer ", w, " message ", i)
				id, err := l.Append(context.Background(), []store.Entry{text("x", word)})
				mu.Lock()
				if err == nil {
					stored[id.Seq] = word
					longest, last = max(longest, time.Since(last)), time.Now()
				}
				mu.Unlock()
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(stored)
	}
	for _, pause := range []bool{false, true, false} {
		leader, err := s.Leader(t.Context(), o.Stream)
		if err != nil {
			t.Fatal(err)
		}
		before := count()
		if pause {
			leader.Pause()
		} else {
			leader.Kill()
		}
		eventually(t, "messages are taken without the leader", func() bool { return count() > before+50 })
		if pause {
			leader.Continue()
		} else {
			must(t, leader.Restart())
		}
		must(t, s.Ready())
		mu.Lock()
		t.Logf("paused %v: no message was taken for at most %v", pause, longest)
		longest = 0
		mu.Unlock()
	}
	close(stop)
	writers.Wait()
	_, end := end(a)
	for _, l := range []*jetstream.Log{a, b, open(t, o)} {
		eventually(t, "each log has everything", func() bool { _, n := l.Bounds(); return n.Seq >= end })
		h := read(t, l, "x", 0)
		seen := h.texts()
		for seq, word := range stored {
			if seen[word] != 1 {
				t.Errorf("%q, %d, was stored and is there %d times", word, seq, seen[word])
			}
		}
		if h.gap > 0 {
			t.Errorf("a gap up to %d", h.gap)
		}
	}
}

func TestTheNumberOfMarksIsBounded(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), MaxMarks: 5}
	a := open(t, o)
	var last store.Seq
	for i := range 20 {
		group := fmt.Sprint("g/", i)
		last = add(t, a, text(group, "x"))
		must(t, a.Purge(group))
	}
	s, err := connect(t, url).Stream(t.Context(), o.Stream)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "five marks are left", func() bool {
		info, err := s.Info(t.Context(), js.WithSubjectFilter("wb."+o.Stream+".n.evict.>"))
		marks := 0
		for subject := range info.State.Subjects {
			m, err := s.GetLastMsgForSubject(t.Context(), subject)
			if err != nil || m.Header.Get("Nats-TTL") == "" {
				marks++
			}
		}
		return err == nil && marks == 5
	})
	for _, l := range []*jetstream.Log{a, open(t, o)} {
		eventually(t, "a reader of a purged group gets a gap", func() bool { return read(t, l, "g/3", 0).gap > 0 })
		if h := read(t, l, "g/#", last); h.gap > 0 {
			t.Errorf("a gap after the last loss: %v", h)
		}
		if h := read(t, l, "g/19", 0); h.gap != last {
			t.Errorf("of the last group: %v, want a gap up to %d", h, last)
		}
	}
}
