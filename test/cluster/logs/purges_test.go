//go:build !windows

package logs

import (
	"fmt"
	"strings"
	"testing"

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
