package hub

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/delivery"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/memory"
)

// inResettable runs a test with a hub alone, whose log can begin another epoch.
func inResettable(t *testing.T, test func(t *testing.T, h *Hub, log *renewable)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log := &renewable{Log: memory.New(memory.Options{MaxMemory: 64 << 20})}
		h, err := start(log, Defaults(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		test(t, h, log)
	})
}

// renewable is a log that begins another epoch with one of its reads.
type renewable struct {
	*memory.Log
	reads int
	at    int    // before which read; 0: never
	renew func() // what happens then
}

func (l *renewable) Read(q store.Query, b *store.Batch) error {
	if l.reads++; l.reads == l.at {
		l.renew()
	}
	return l.Log.Read(q, b)
}

// answered is an answer that is written down: the gaps and the payloads.
func answered() (*strings.Builder, Answer) {
	var b strings.Builder
	message := func(f *store.Frame) error {
		_, err := fmt.Fprintf(&b, "%.1s ", strings.Trim(string(f.Payload(nil)), `"`))
		return err
	}
	return &b, Answer{
		Retained: message,
		Message:  message,
		Gap: func(g delivery.Gap) error {
			_, err := fmt.Fprintf(&b, "gap:%s ", g.Reason)
			return err
		},
	}
}

var inFoo = group.Set{group.Exact("foo")}

// TestPollsAreToldOfAnotherEpoch has the log begin another epoch while a poll waits: its answer tells a gap and all of that epoch, however
// far the positions of both have come, and the next poll goes on behind them.
func TestPollsAreToldOfAnotherEpoch(t *testing.T) {
	for _, last := range []store.Seq{0, 1, 2, 3, 100} { // of the next epoch, before its messages are published
		for _, retained := range []bool{false, true} {
			inResettable(t, func(t *testing.T, h *Hub, log *renewable) {
				sayTo(t, h, "foo", "1", false)
				sayTo(t, h, "foo", "2", false)
				from := From{Resume: h.End().String()}
				if retained {
					from = From{}
				}
				poll := func(from From) (got string, next store.ID) {
					p, err := h.Poll(t.Context(), &Subscription{Grant: access.Everything, Filters: inFoo, Secret: "a-secret-of-a-poll", From: from, Retained: retained}, time.Hour)
					if err != nil {
						t.Error(err)
						return "", store.ID{}
					}
					defer p.Close()
					text, to := answered()
					next, err = p.Read(t.Context(), 0, to)
					if err != nil {
						t.Error(err)
					}
					return text.String(), next
				}
				answer := make(chan string)
				var next store.ID
				go func() {
					var got string
					got, next = poll(from)
					answer <- got
				}()
				synctest.Wait()
				log.Reset("another", last)
				sayTo(t, h, "foo", "a", false)
				if got := <-answer; got != "gap:epoch a " && got != "gap:epoch " {
					t.Errorf("behind %d: %q", last, got)
				} else if got == "gap:epoch " {
					if got, next = poll(From{Resume: next.String()}); got != "a " {
						t.Errorf("behind %d, the next poll: %q", last, got)
					}
				}
				sayTo(t, h, "foo", "b", false)
				if got, _ := poll(From{Resume: next.String()}); got != "b " {
					t.Errorf("behind %d, the last poll: %q", last, got)
				}
			})
		}
	}
}

// TestHistoriesAreToldOfAnotherEpoch has the log begin another epoch while an answer is read from it.
func TestHistoriesAreToldOfAnotherEpoch(t *testing.T) {
	large := strings.Repeat("x", 60_000) // one message at a time is read
	for _, last := range []store.Seq{0, 1, 2, 3, 100} {
		for at, want := range map[int]string{1: "gap:epoch a b ", 2: "1 gap:epoch a b ", 3: "1 2 gap:epoch a b "} {
			inResettable(t, func(t *testing.T, h *Hub, log *renewable) {
				for _, text := range []string{"1", "2", "3"} {
					sayTo(t, h, "foo", text+large, false)
				}
				log.reads, log.at = 0, at
				log.renew = func() {
					log.Reset("another", last)
					sayTo(t, h, "foo", "a", false)
					sayTo(t, h, "foo", "b", false)
				}
				got, to := answered()
				if _, err := h.Replay(t.Context(), &History{Filters: inFoo, From: From{All: true}}, to); err != nil || got.String() != want {
					t.Errorf("before read %d, behind %d: %q, %v, want %q", at, last, got, err, want)
				}
			})
		}
	}
}

// TestAHistoryThatBeginsLateDoesSoInAnotherEpoch has the log begin another epoch while the newest messages are read, or those since a
// time. A restored backup brings messages from before that time.
func TestAHistoryThatBeginsLateDoesSoInAnotherEpoch(t *testing.T) {
	large := strings.Repeat("x", 60_000) // one message at a time is read
	for _, last := range []store.Seq{0, 1, 3, 100} {
		for at, want := range map[int][2]string{
			1: {"gap:epoch b c ", "gap:epoch b c "}, 2: {"2 gap:epoch c ", "1 gap:epoch b c "}, 3: {"2 3 ", "1 2 gap:epoch b c "},
		} {
			for i, want := range want {
				inResettable(t, func(t *testing.T, h *Hub, log *renewable) {
					for _, text := range []string{"1", "2", "3"} {
						sayTo(t, h, "foo", text+large, false)
					}
					two, begin := 2, time.Now()
					from := []From{{Last: &two}, {Since: begin}}[i]
					log.reads, log.at = 0, at
					log.renew = func() {
						log.Reset("another", last)
						old := store.Message{Group: "foo", Msg: []byte(`"a"`), Time: begin.Add(-time.Hour)}
						if _, err := log.Append(t.Context(), []store.Entry{old.Entry(nil)}); err != nil {
							t.Error(err)
						}
						sayTo(t, h, "bar", "x", false)
						sayTo(t, h, "foo", "b", false)
						sayTo(t, h, "foo", "c", false)
					}
					got, to := answered()
					if _, err := h.Replay(t.Context(), &History{Filters: inFoo, From: from}, to); err != nil || got.String() != want {
						t.Errorf("from %+v, before read %d, behind %d: %q, %v, want %q", from, at, last, got, err, want)
					}
				})
			}
		}
	}
}

// TestRetainedMessagesOfAnotherEpochAreAllRead: the log begins it while an answer is read.
func TestRetainedMessagesOfAnotherEpochAreAllRead(t *testing.T) {
	large := strings.Repeat("x", 60_000)
	for _, last := range []store.Seq{0, 1, 100} {
		for at, want := range map[int]string{1: "a b ", 2: "1 a b ", 3: "1 2 a b "} {
			inResettable(t, func(t *testing.T, h *Hub, log *renewable) {
				for i, text := range []string{"1", "2", "3"} {
					sayTo(t, h, fmt.Sprint("foo/", i), text+large, true)
				}
				log.reads, log.at = 0, at
				log.renew = func() {
					log.Reset("another", last)
					sayTo(t, h, "foo/1", "a", true)
					sayTo(t, h, "foo/2", "b", true)
				}
				got, to := answered()
				if _, err := h.Retained(t.Context(), &Retained{Filters: everything(t)}, to.Retained); err != nil || got.String() != want {
					t.Errorf("before read %d, behind %d: %q, %v, want %q", at, last, got, err, want)
				}
			})
		}
	}
}

// TestASessionThatWasLostInAnEarlierEpochGetsAllMessagesToItself: the position that it had reached says nothing of this one.
func TestASessionThatWasLostInAnEarlierEpochGetsAllMessagesToItself(t *testing.T) {
	for _, last := range []store.Seq{0, 1, 100} {
		inResettable(t, func(t *testing.T, h *Hub, log *renewable) {
			uid := session.ClientUID("mqtt", access.Everything.Subject, "device")
			own := delivery.SessionPrefix + uid
			l, c, _ := openDevice(t, h, &Subscription{Grant: access.Everything, Filters: inFoo})
			for range 5 {
				sayTo(t, h, own, "1", false)
			}
			synctest.Wait()
			l.End(delivery.Reason(session.Closed))
			synctest.Wait()
			if got := c.text(); got != "1 1 1 1 1 bye:closed" {
				t.Fatalf("%q", got)
			}
			log.Reset("another", last)
			sayTo(t, h, own, "a", false)
			_, c, _ = openDevice(t, h, &Subscription{Grant: access.Everything, Filters: inFoo})
			sayTo(t, h, own, "b", false)
			synctest.Wait()
			if got := c.text(); got != "a b " {
				t.Errorf("behind %d, it gets %q", last, got)
			}
		})
	}
}

// everything returns the filter that all groups match.
func everything(t *testing.T) group.Set {
	f, err := group.ParseFilter("#")
	if err != nil {
		t.Fatal(err)
	}
	return group.Set{f}
}
