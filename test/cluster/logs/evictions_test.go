//go:build !windows

package logs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

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

// TestEvictedMessagesOfABusyGroupAreRemovedFromTheStream: those of a group that messages come to all the time, too.
func TestEvictedMessagesOfABusyGroupAreRemovedFromTheStream(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream(), Times: quick}
	o.Times.Grace = time.Second
	a, b := open(t, o), open(t, o)
	must(t, a.SetPolicy(filters("a")[0], store.Policy{MaxMessages: 2}))
	s, err := connect(t, url).Stream(t.Context(), o.Stream)
	if err != nil {
		t.Fatal(err)
	}
	first := add(t, a, text("a", "first"))
	eventually(t, "the first of them is removed", func() bool {
		add(t, a, text("a", "x"), text("a", "y"), text("a", "z"))
		_, err := s.GetMsg(t.Context(), uint64(first))
		return errors.Is(err, js.ErrMsgNotFound)
	})
	add(t, a, text("a", "one"), text("a", "two"))
	for _, l := range []*jetstream.Log{a, b, open(t, o)} {
		eventually(t, "the last two are left", func() bool {
			h := read(t, l, "a", 0)
			return h.n == 2 && h.texts()["one"] == 1 && h.texts()["two"] == 1 && h.gap > 0
		})
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
