//go:build !windows

package logs

import (
	"bytes"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// TestMessagesThatWerePurgedByHandDoNotCount purges by hand some of a group's messages that are not in memory. The
// others are within the policy, and stay.
func TestMessagesThatWerePurgedByHandDoNotCount(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), MaxMemory: 1 << 20, Times: quick}
	o.Times.Patience = patience // for large appends
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
		eventually(t, "all logs have the same number of messages", func() bool { return lasting(l, "a") == 20*63 })
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

// TestAServerThatDoesNotKnowOfAPurgeIsNotBelieved purges a stream while no hub is running. When a hub asks for what is left, a server answers
// first that has led the stream before.
func TestAServerThatDoesNotKnowOfAPurgeIsNotBelieved(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream()}
	a := open(t, o)
	for i := range 10 {
		add(t, a, text("x", fmt.Sprint(i)))
	}
	_, last := end(a)
	must(t, a.Close())
	bucket, err := admin.Stream(t.Context(), "KV_"+o.Stream+"_hubs")
	must(t, err)
	must(t, bucket.Purge(t.Context(), js.WithPurgeSubject("$KV."+o.Stream+"_hubs.counts"))) // they would tell the loss, too
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	must(t, stream.Purge(t.Context()))
	d := &deposed{stream: o.Stream}
	o.Dialer = d
	if h := read(t, open(t, o), "x", 0); h.gap < last || d.state.Load() != deposedAnswered {
		t.Errorf("all messages up to %d are lost: %v", last, h)
	}
}

// deposed is a dialer with a server that led a stream when it had one message. It answers when its hub, which reads the stream
// already, asks how long the stream is.
type deposed struct {
	stream string
	state  atomic.Int32
}

// States of deposed.
const (
	deposedReads = 1 + iota // the hub reads the stream
	deposedAsked
	deposedAnswered
)

// Dial implements jetstream.Dialer.
func (d *deposed) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &deposedConn{c, d}, err
}

type deposedConn struct {
	net.Conn
	*deposed
}

// Write implements net.Conn.
func (c *deposedConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(".CONSUMER.CREATE."+c.stream+".")) {
		c.state.CompareAndSwap(0, deposedReads)
	}
	if bytes.Contains(b, []byte(".STREAM.INFO."+c.stream+" ")) {
		c.state.CompareAndSwap(deposedReads, deposedAsked)
	}
	return c.Conn.Write(b)
}

var ends = regexp.MustCompile(`"(first|last)_seq":\d+`)

// Read implements net.Conn.
func (c *deposedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if ends.Match(b[:n]) && c.state.CompareAndSwap(deposedAsked, deposedAnswered) {
		copy(b, ends.ReplaceAllFunc(b[:n], func(m []byte) []byte {
			key, _, _ := bytes.Cut(m, []byte(":"))
			return fmt.Appendf(nil, "%s:%*d", key, len(m)-len(key)-1, 1)
		}))
	}
	return n, err
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

// TestAPurgeIsToldThoughAnotherHasRemovedNothing purges a subject that does not exist and then, on three servers, which do not say what they
// have purged, one that does. The groups that only the refused requests name have lost nothing.
func TestAPurgeIsToldThoughAnotherHasRemovedNothing(t *testing.T) {
	url := servers.ForTest(t, 3).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), Replicas: 3}
	a, b := open(t, o), open(t, o)
	s, err := connect(t, url).Stream(t.Context(), o.Stream)
	must(t, err)
	for round := range 15 {
		name := fmt.Sprint("g", round)
		for i := range 4 {
			add(t, a, text(name+"/a", fmt.Sprint(i)), text(name+"/kept", fmt.Sprint(i)))
		}
		must(t, s.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m."+name)))
		must(t, s.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m."+name+".kept"), js.WithPurgeSequence(2)))
		must(t, s.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m."+name+".a")))
		for _, l := range []*jetstream.Log{a, b} {
			eventually(t, "the purge is told", func() bool { h := read(t, l, name+"/a", 0); return h.gap > 0 && h.n == 0 })
		}
	}
	for _, l := range []*jetstream.Log{a, b, open(t, o)} {
		for round := range 15 {
			if h := read(t, l, fmt.Sprintf("g%d/a", round), 0); h.gap == 0 || h.n != 0 {
				t.Errorf("group %d was purged: %v", round, h)
			}
			if h := read(t, l, fmt.Sprintf("g%d/kept", round), 0); h.gap > 0 || h.n != 4 {
				t.Errorf("group %d was not purged: %v", round, h)
			}
		}
	}
}

// TestAPurgeOfOneKindLeavesTheOthers purges the messages of groups that expire, those that do not, or those that are retained. All hubs
// have what the stream has, also after they have cleaned up.
func TestAPurgeOfOneKindLeavesTheOthers(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	a, b := open(t, o), open(t, o)
	s, err := connect(t, url).Stream(t.Context(), o.Stream)
	must(t, err)
	left := map[string]string{"m": "r1 t1 r2 t2", "r": "m1 t1 m2 t2", "t": "m1 r1 m2 r2", "s": "m1 r1 t1 m2 r2 t2"}
	for kind := range left {
		for _, msg := range []string{"m1", "r1", "t1", "m2", "r2", "t2"} {
			m := store.Message{Group: kind, Time: time.Now(), Msg: store.AppendQuote(nil, msg), Retain: msg[0] == 'r'}
			if msg[0] == 't' {
				m.Expires = time.Now().Add(time.Hour)
			}
			add(t, a, m.Entry(nil))
		}
		must(t, s.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+"."+kind+"."+kind)))
	}
	has := func(l *jetstream.Log, kind string) string {
		h := read(t, l, kind, 0)
		var list []string
		for line := range strings.Lines(h.frames) {
			if _, msg, ok := strings.Cut(line, `"msg":"`); ok {
				list = append(list, msg[:2])
			}
		}
		b := &store.Batch{Buf: make([]byte, 0, 1<<10)}
		must(t, l.Read(store.Query{Select: filters(kind), Retained: true}, b))
		page, _ := l.Groups(store.GroupQuery{Prefix: kind, Limit: 1})
		counted := len(page) == 1 && page[0].Retained == (kind != "r")
		return fmt.Sprint(strings.Join(list, " "), ", retained ", len(b.Frames), ", counted ", counted, ", gap ", h.gap > 0)
	}
	want := func(kind string) string {
		return fmt.Sprint(left[kind], ", retained ", map[bool]int{true: 1}[kind != "r"], ", counted true, gap ", kind != "s")
	}
	for _, l := range []*jetstream.Log{a, b} {
		for kind := range left {
			got := ""
			defer func() {
				if t.Failed() {
					t.Logf("%s: %s, want %s", kind, got, want(kind))
				}
			}()
			eventually(t, "the hubs have what is left of "+kind, func() bool { got = has(l, kind); return got == want(kind) })
		}
	}
	policy := store.Policy{MaxMessages: 1}
	must(t, a.SetPolicy(filters("other")[0], policy))
	add(t, a, text("other", "1"), text("other", "2"))
	subject := "wb." + o.Stream + ".m.other"
	eventually(t, "the hubs clean up", func() bool {
		info, err := s.Info(t.Context(), js.WithSubjectFilter(subject))
		return err == nil && info.State.Subjects[subject] == 1
	})
	for i, l := range []*jetstream.Log{a, b, open(t, o)} {
		for kind := range left {
			if got := has(l, kind); got != want(kind) {
				t.Errorf("hub %d: %s: %s, want %s", i, kind, got, want(kind))
			}
		}
	}
}
