//go:build !windows

package logs

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// removing are limits by which the servers remove what is at the front of a stream. max_age takes a minute at least: see TestANoteIsNearTheFront.
var removing = map[string]func(*js.StreamConfig){
	"max_bytes": func(c *js.StreamConfig) { c.MaxBytes = 1 << 20 },
	"max_msgs":  func(c *js.StreamConfig) { c.MaxMsgs = 1000 },
}

// limit changes the configuration of a stream.
func limit(t *testing.T, c client, stream string, change func(*js.StreamConfig)) js.Stream {
	t.Helper()
	s, err := c.Stream(t.Context(), stream)
	must(t, err)
	config := s.CachedInfo().Config
	change(&config)
	s, err = c.UpdateStream(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func notesOf(t *testing.T, l *jetstream.Log) map[string]store.Note {
	t.Helper()
	all := map[string]store.Note{}
	must(t, l.Notes(func(n store.Note) error {
		all[n.Key] = n
		return nil
	}))
	return all
}

// retains returns the retained messages of a filter.
func retains(t *testing.T, l *jetstream.Log, filter string) string {
	t.Helper()
	b := &store.Batch{Buf: make([]byte, 0, 256<<10)}
	must(t, l.Read(store.Query{Select: filters(filter), Retained: true}, b))
	return string(b.Buf)
}

func retain(group, s string) store.Entry {
	m := store.Message{Group: group, Time: time.Now(), Retain: true, Msg: store.AppendQuote(nil, s)}
	return m.Entry(nil)
}

// TestNotesInForceStayThoughALimitRemovesWhatIsBefore fills a stream several times beyond each limit. At each moment the stream has the notes, so that
// a log that is opened then knows them, and those that were open change them as before.
func TestNotesInForceStayThoughALimitRemovesWhatIsBefore(t *testing.T) {
	for name, change := range removing {
		t.Run(name, func(t *testing.T) {
			url := servers.ForTest(t, 1).URL()
			admin := connect(t, url)
			o := jetstream.Options{URL: url, Stream: newStream()}
			a := open(t, o)
			s := limit(t, admin, o.Stream, change)
			b := open(t, o)
			var told atomic.Int64
			must(t, b.Follow(func(store.Note) { told.Add(1) }))
			id, err := a.AppendNoted(t.Context(), nil, store.Note{Key: "revoked/eve", Value: []byte("1")})
			must(t, err)
			must(t, a.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 3}))
			subject := "wb." + o.Stream + ".n.revoked.eve"
			for n := range 5000 {
				add(t, a, text("fill", strings.Repeat("x", 1000)))
				if n%50 == 0 {
					if _, err := s.GetLastMsgForSubject(t.Context(), subject); err != nil {
						t.Fatalf("after %d messages the note is not in the stream: %v", n, err)
					}
				}
			}
			c := open(t, o)
			for _, l := range []*jetstream.Log{a, b, c} {
				if n := notesOf(t, l)["revoked/eve"]; string(n.Value) != "1" || n.At != id.Seq {
					t.Errorf("the note is %+v, want version %d", n, id.Seq)
				}
				if p := l.Policy(filters("x")[0]); p.MaxMessages != 3 {
					t.Errorf("the policy is %+v", p)
				}
			}
			if n := told.Load(); n != 1 {
				t.Errorf("%d notes were told, want 1", n)
			}
			_, err = b.AppendNoted(t.Context(), nil, store.Note{Key: "revoked/eve", Value: []byte("2"), Guarded: true, At: id.Seq})
			must(t, err)
			must(t, a.Close())
			must(t, b.Close())
			must(t, c.Close())
			if n := notesOf(t, open(t, o))["revoked/eve"]; string(n.Value) != "2" {
				t.Errorf("the note is %+v", n)
			}
		})
	}
}

// TestNotesThatALimitHasRemovedAreStoredAgain lowers a limit, so that the servers remove notes at once. The hub that starts first afterwards
// may be the one with the lowest id, which has never seen them.
func TestNotesThatALimitHasRemovedAreStoredAgain(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream()}
	a, b := open(t, o), open(t, o)
	id, err := a.AppendNoted(t.Context(), nil, store.Note{Key: "note", Value: []byte("1")})
	must(t, err)
	must(t, a.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 3}))
	for i := range 100 {
		add(t, a, text("fill", fmt.Sprint(i)))
	}
	s := limit(t, admin, o.Stream, func(c *js.StreamConfig) { c.MaxMsgs = 50 })
	c := open(t, o)
	for _, l := range []*jetstream.Log{a, b, c} {
		eventually(t, "the log has the notes", func() bool {
			n := notesOf(t, l)["note"]
			return string(n.Value) == "1" && n.At == id.Seq && l.Policy(filters("x")[0]).MaxMessages == 3
		})
	}
	eventually(t, "the stream has the note", func() bool {
		_, err := s.GetLastMsgForSubject(t.Context(), "wb."+o.Stream+".n.note")
		return err == nil
	})
	_, err = c.AppendNoted(t.Context(), nil, store.Note{Key: "note", Value: []byte("2"), Guarded: true, At: id.Seq})
	must(t, err)
	limit(t, admin, o.Stream, func(c *js.StreamConfig) { c.MaxMsgs = 40 })
	for i := range 100 {
		add(t, b, text("fill", fmt.Sprint(i)))
		_, err := b.AppendNoted(t.Context(), nil, store.Note{Key: "other", Value: []byte(fmt.Sprint(i))})
		must(t, err)
	}
	for _, l := range []*jetstream.Log{a, b, c, open(t, o)} {
		if all := notesOf(t, l); string(all["note"].Value) != "2" || string(all["other"].Value) != "99" {
			t.Errorf("the notes are %v", all)
		}
	}
}

// TestARetainedMessageThatALimitHasRemovedIsGoneAtAllHubs removes one of two.
func TestARetainedMessageThatALimitHasRemovedIsGoneAtAllHubs(t *testing.T) {
	for name, change := range removing {
		t.Run(name, func(t *testing.T) {
			url := servers.ForTest(t, 1).URL()
			o := jetstream.Options{URL: url, Stream: newStream()}
			a := open(t, o)
			add(t, a, retain("r/old", "old"))
			s := limit(t, connect(t, url), o.Stream, change)
			b := open(t, o)
			eventually(t, "the message is removed", func() bool {
				add(t, a, text("fill", strings.Repeat("x", 10_000)), retain("r/new", "new"))
				_, err := s.GetLastMsgForSubject(t.Context(), "wb."+o.Stream+".r.r.old")
				return err != nil
			})
			for _, l := range []*jetstream.Log{a, b, open(t, o)} {
				eventually(t, "only the new one is retained", func() bool {
					r := retains(t, l, "r/#")
					return !strings.Contains(r, "old") && strings.Contains(r, "new")
				})
			}
		})
	}
}

// TestNotesThatExceedTheLimitAreNotStoredForEver stores more notes than a stream can have.
func TestNotesThatExceedTheLimitAreNotStoredForEver(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	log := &logText{}
	o.Logger = log.logger()
	a := open(t, o)
	s := limit(t, connect(t, url), o.Stream, func(c *js.StreamConfig) { c.MaxBytes = 200 << 10 })
	const why = "raise max_bytes"
	for i := 0; i < 300 || !log.has(why); i++ {
		_, err := a.AppendNoted(t.Context(), nil, store.Note{Key: fmt.Sprint("note/", i), Value: make([]byte, 1000)})
		must(t, err)
	}
	last := uint64(0)
	tick := time.NewTicker(20 * quick.Janitor)
	defer tick.Stop()
	eventually(t, "the stream does not grow any more", func() bool {
		<-tick.C
		info, err := s.Info(t.Context())
		must(t, err)
		before := last
		last = info.State.LastSeq
		return last == before
	})
	if n := strings.Count(log.String(), why); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, log)
	}
}
