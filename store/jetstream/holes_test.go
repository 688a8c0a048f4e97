package jetstream

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// holed is a tail that a test feeds.
type holed struct {
	*testing.T
	*tail
	number int
}

func newHoled(t *testing.T) *holed {
	l := &Log{opts: Options{}.withDefaults()}
	l.opts.Times.Beat = time.Hour // a slow machine explains no hole too late
	l.notes.init()
	l.pending.init()
	l.mem = l.newMemory("e")
	l.tail = newTail(l)
	t.Cleanup(func() { _ = l.mem.Close() })
	return &holed{T: t, tail: l.tail}
}

// feed gives the tail the record with a seq, which is the last one.
func (h *holed) feed(seq int, r record) { h.feedFollowed(seq, r, 0) }

// feedFollowed gives the tail the record with a seq. The consumer says how many follow.
func (h *holed) feedFollowed(seq int, r record, pending int) {
	h.Helper()
	h.number++
	m := &nats.Msg{Reply: fmt.Sprintf("$JS.ACK.S.C.1.%d.%d.0.%d", seq, h.number, pending), Data: r.encode(nil)}
	if err := h.message(m); err != nil {
		h.Fatal(err)
	}
	h.flush()
}

// gaps returns the gaps that a reader gets from the beginning, and what it reads.
func (h *holed) gaps() (gaps int, read string) {
	h.Helper()
	b := &store.Batch{Buf: make([]byte, 0, 1<<16)}
	if err := h.l.mem.Read(store.Query{Select: exactly("g"), After: 1}, b); err != nil {
		h.Fatal(err)
	}
	for _, f := range b.Frames {
		read += fmt.Sprint(f.Seq, " ")
	}
	return len(b.Gaps), strings.TrimSpace(read)
}

func noted(version uint64, prev store.Seq) record {
	return record{flags: isNote, key: "k", value: []byte("x"), version: version, prev: prev, by: appendID{1, version}}
}

func message(number uint64, flags byte) record {
	m := store.Message{Group: "g", Time: time.UnixMilli(1), Msg: []byte("1")}
	return record{flags: flags, entry: m.Entry(nil), by: appendID{2, number}}
}

// TestHolesThatALaterNoteExplains holds that a version of a note that is replaced before the tail reads it is no loss, even if
// the consumer does not count the next version yet when it delivers what lies between.
func TestHolesThatALaterNoteExplains(t *testing.T) {
	h := newHoled(t)
	h.feed(1, noted(1, 0))
	h.feed(3, message(1, 0)) // 2 was the second version
	if _, read := h.gaps(); read != "" {
		t.Errorf("%s can be read before the hole is explained", read)
	}
	h.feed(4, message(2, hasMore))
	last := noted(3, 2)
	last.by, last.index = appendID{2, 2}, 1
	h.feed(5, last)
	if gaps, read := h.gaps(); gaps != 0 || read != "3 4" {
		t.Errorf("%d gaps, read %q", gaps, read)
	}
}

// TestHolesThatAreReadLateAreExplained holds that the same is true if the tail takes long to read what follows a hole.
func TestHolesThatAreReadLateAreExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHoled(t)
		h.feed(1, noted(1, 0))
		h.feedFollowed(3, message(1, 0), 1)
		<-time.After(h.l.opts.Times.Beat)
		h.feed(4, message(2, 0))
		h.feed(5, noted(3, 2))
		if gaps, read := h.gaps(); gaps != 0 || read != "3 4" {
			t.Errorf("%d gaps, read %q", gaps, read)
		}
	})
}

// TestAHoleIsToldThoughWhatFollowsItIsRemoved has most messages removed that the tail wants to read before it tells what is missing.
func TestAHoleIsToldThoughWhatFollowsItIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHoled(t)
		h.feed(1, noted(1, 0))
		h.feedFollowed(3, message(1, 0), 1000)
		h.feed(1000, message(2, 0))
		<-time.After(h.l.opts.Times.Beat)
		h.feed(1001, message(3, 0))
		if gaps, read := h.gaps(); gaps != 1 || read != "3 1000 1001" {
			t.Errorf("%d gaps, read %q", gaps, read)
		}
	})
}

// TestHolesThatAHubHasPurged holds that a note about room that a hub has purged is no loss, even if the note that replaces it comes later,
// and that it explains nothing else.
func TestHolesThatAHubHasPurged(t *testing.T) {
	for purged, gaps := range map[store.Seq]int{3: 0, 1: 1} {
		h := newHoled(t)
		h.l.opts.Times.Beat = 0
		h.feed(2, noted(1, 0))
		h.heardPurge(h.l.subjects.note(reserveKey), purged)
		h.feed(4, message(1, 0))
		if n, read := h.gaps(); n != gaps || read != "4" {
			t.Errorf("%d gaps, read %q", n, read)
		}
	}
}

// marked is a mark that says that somebody else has removed messages of a group.
func marked(t *testing.T, number uint64, group string, through store.Seq) record {
	t.Helper()
	value, err := json.Marshal(mark{Eviction: memory.Eviction{Group: group, Through: through, Unknown: true}, Missing: through})
	if err != nil {
		t.Fatal(err)
	}
	return record{flags: isNote, key: evictKeys + group, value: value, version: 1, by: appendID{3, number}}
}

// TestHolesAreToldBeforeWhatIsBehindThem holds that a reader gets the gap that a mark tells not later than the messages between the hole and
// the mark, and that the mark of one group does not explain what another has lost.
func TestHolesAreToldBeforeWhatIsBehindThem(t *testing.T) {
	h := newHoled(t)
	h.l.opts.Times.Beat = 0
	var got []string
	h.l.notes.follow = func(store.Note) { // what a reader would get at this moment
		gaps, read := h.gaps()
		got = append(got, fmt.Sprint(gaps, " ", read))
	}
	h.feed(1, noted(1, 0))
	h.feedFollowed(4, message(1, 0), 3)
	h.feedFollowed(5, marked(t, 1, "other", 3), 2)
	h.feedFollowed(6, noted(2, 1), 1)
	h.feedFollowed(7, marked(t, 2, "g", 3), 0)
	if want := []string{"0 ", "1 4"}; !slices.Equal(got, want) {
		t.Errorf("gaps and messages: %q, want %q", got, want)
	}
	b := &store.Batch{}
	if err := h.l.mem.Read(store.Query{Select: exactly("untouched"), After: 1}, b); err != nil || len(b.Gaps) > 0 {
		t.Errorf("a group that has lost nothing: %v, %v", b.Gaps, err)
	}
}

// TestHolesThatEvictionsCannotExplain holds that an eviction by a policy explains no hole of a hub that was current a moment ago: what is
// evicted stays for longer.
func TestHolesThatEvictionsCannotExplain(t *testing.T) {
	for _, current := range []bool{true, false} {
		h := newHoled(t)
		h.l.opts.Times.Beat = 0
		h.feed(1, noted(1, 0))
		if !current {
			h.current = time.Now().Add(-h.l.opts.Times.Grace)
		}
		m := marked(t, 1, "other", 2)
		m.value = []byte(`{"Through":2}`)
		h.feedFollowed(3, message(1, 0), 1)
		h.feed(4, m)
		if gaps, read := h.gaps(); gaps > 0 != current || read != "3" {
			t.Errorf("current %v: %d gaps, read %q", current, gaps, read)
		}
	}
}

// TestHolesThatNothingExplains holds that messages that are missing are told as a gap.
func TestHolesThatNothingExplains(t *testing.T) {
	h := newHoled(t)
	h.feed(1, noted(1, 0))
	h.l.opts.Times.Beat = 0
	h.feed(3, message(1, 0))
	if gaps, read := h.gaps(); gaps != 1 || read != "3" {
		t.Errorf("%d gaps, read %q", gaps, read)
	}
}

// TestHolesThatAnotherConsumerReads holds that messages do not wait for the number that the consumer before would have reached, but for
// what was in the stream.
func TestHolesThatAnotherConsumerReads(t *testing.T) {
	h := newHoled(t)
	h.l.opts.Times.Beat = 0
	h.feed(1, noted(1, 0))
	h.feedFollowed(3, message(1, 0), 1000)
	h.number, h.last = 0, 0
	h.feedFollowed(4, message(2, 0), 1)
	if _, read := h.gaps(); read != "" {
		t.Errorf("%s can be read before the rest of the stream", read)
	}
	h.feed(5, message(3, 0))
	if gaps, read := h.gaps(); gaps != 1 || read != "3 4 5" {
		t.Errorf("%d gaps, read %q", gaps, read)
	}
}

// acknowledge tells the tail that a server has stored the record with a seq. With more, other acknowledgements follow.
func (h *holed) acknowledge(seq store.Seq, r record, more bool) {
	h.sub = &nats.Subscription{}
	h.heard.Store(time.Now().UnixMilli())
	h.acknowledged(&nats.Msg{Data: r.encode(nil)}, seq, more)
}

// TestAcknowledgedMessagesAreTakenOnceAndInOrder feeds the tail with messages before, after and instead of their acknowledgements.
func TestAcknowledgedMessagesAreTakenOnceAndInOrder(t *testing.T) {
	h := newHoled(t)
	want := func(read string) {
		h.Helper()
		if gaps, got := h.gaps(); gaps != 0 || got != read {
			h.Errorf("%d gaps, read %q, want %q", gaps, got, read)
		}
	}
	h.feed(1, noted(1, 0))
	h.acknowledge(3, message(2, 0), false)
	want("")
	h.acknowledge(2, message(1, 0), false)
	want("2")
	h.feed(2, message(1, 0))
	h.feed(3, message(2, 0))
	h.acknowledge(3, message(2, 0), false)
	want("2 3")
	h.feed(4, message(3, hasMore)) // the beginning of a batch
	h.acknowledge(5, message(4, 0), false)
	want("2 3")
	h.feed(5, message(3, 0))
	want("2 3 4 5")
	h.acknowledge(6, message(5, 0), true)
	want("2 3 4 5")
	h.acknowledge(7, message(6, 0), false)
	want("2 3 4 5 6 7")
}

func TestAcknowledgedMessagesArePlacedBeforeTheyAreTooMany(t *testing.T) {
	h := newHoled(t)
	for seq := range store.Seq(maxUnplaced) {
		h.acknowledge(seq+1, message(uint64(seq), 0), true)
	}
	if n := len(h.placing.entries); n > 0 {
		t.Errorf("%d messages wait", n)
	}
}
