//go:build !windows

package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// TestWhatIsPurgedWhileNoHubIsRunningIsAGap purges a stream in each way while no log is open. The readers of groups that
// have lost messages get a gap at the next log, from each position before the last loss, and those of other groups none.
func TestWhatIsPurgedWhileNoHubIsRunningIsAGap(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	const messages = 10 // in x, x/1, y and z each, in turn; each third of z is retained
	for name, test := range map[string]struct {
		options []js.StreamPurgeOpt
		lost    string // filters that have lost messages
		kept    string
		left    int // messages of x
	}{
		"nothing":                  {nil, "", "x x/1 y z #", messages},
		"a group":                  {[]js.StreamPurgeOpt{js.WithPurgeSubject("m.x")}, "x # x/#", "x/1 y z", 0},
		"groups with a wildcard":   {[]js.StreamPurgeOpt{js.WithPurgeSubject("m.x.>")}, "x/1 #", "x y z", messages},
		"messages, not retained":   {[]js.StreamPurgeOpt{js.WithPurgeSubject("m.z")}, "z #", "x x/1 y", messages},
		"retained messages":        {[]js.StreamPurgeOpt{js.WithPurgeSubject("r.z")}, "z #", "x x/1 y", messages},
		"the beginning of a group": {[]js.StreamPurgeOpt{js.WithPurgeSubject("m.x"), js.WithPurgeSequence(20)}, "x #", "x/1 y z", 6},
		"all but two of a group":   {[]js.StreamPurgeOpt{js.WithPurgeSubject("m.x"), js.WithPurgeKeep(2)}, "x #", "x/1 y z", 2},
		"one message of a group":   {[]js.StreamPurgeOpt{js.WithPurgeSubject("m.x"), js.WithPurgeKeep(messages - 1)}, "x #", "x/1 y z", messages - 1},
		"the beginning":            {[]js.StreamPurgeOpt{js.WithPurgeSequence(20)}, "x x/1 y z #", "", 6},
		"everything":               {[]js.StreamPurgeOpt{}, "x x/1 y z #", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := jetstream.Options{URL: url, Stream: newStream(), Times: jetstream.Times{Janitor: 50 * time.Millisecond}}
			v, crash := &valve{}, len(name)%2 == 0
			o.Dialer = v
			a := open(t, o)
			o.Dialer = nil
			first := map[string]store.Seq{}
			for i := range messages {
				for _, g := range []string{"x", "x/1", "y", "z"} {
					e := text(g, fmt.Sprint(i))
					e.Retain = g == "z" && i%3 == 0
					if seq := add(t, a, e); first[g] == 0 {
						first[g] = seq
					}
				}
				e := text("expiring", "x")
				e.Expires = time.Now().Add(time.Second)
				add(t, a, e)
			}
			must(t, a.SetPolicy(filters("y")[0], store.Policy{MaxMessages: messages}))
			stream, err := admin.Stream(t.Context(), o.Stream)
			must(t, err)
			if crash {
				counted(t, admin, o.Stream, store.Seq(stream.CachedInfo().State.LastSeq))
				v.set(true)
			}
			must(t, a.Close())
			info, err := stream.Info(t.Context())
			must(t, err)
			end := store.Seq(info.State.LastSeq)
			if test.options != nil {
				options := []js.StreamPurgeOpt{func(r *js.StreamPurgeRequest) error {
					for _, set := range test.options {
						if err := set(r); err != nil {
							return err
						}
					}
					if r.Subject != "" {
						r.Subject = "wb." + o.Stream + "." + r.Subject
					}
					return nil
				}}
				must(t, stream.Purge(t.Context(), options...))
			}
			if err := stream.DeleteMsg(t.Context(), uint64(first["y"])); err == nil {
				t.Error("the stream lets a single message be deleted")
			}
			for range 2 { // the second one is told by the first
				b := open(t, o)
				for _, f := range strings.Fields(test.lost) {
					from := store.Seq(0)
					if group := f; first[group] > 0 {
						from = first[group] - 1
					}
					if h := read(t, b, f, from); h.gap == 0 || h.gap > end {
						t.Errorf("%s has lost messages: %v", f, h)
					}
				}
				for _, f := range strings.Fields(test.kept) {
					if h := read(t, b, f, max(first[f], 1)-1); h.gap > 0 {
						t.Errorf("%s has lost nothing: %v", f, h)
					}
				}
				if h := read(t, b, "x", 0); h.n != test.left {
					t.Errorf("of %d messages of x that are left: %v", test.left, h)
				}
				if h := read(t, b, "#", end); h.gap > 0 {
					t.Errorf("a gap behind all messages: %v", h)
				}
				must(t, b.Close())
			}
		})
	}
}

// TestALogStartsAfterManyGroupsHaveLostMessages purges messages of so many groups while no log is open that the marks cannot be written in
// one attempt.
func TestALogStartsAfterManyGroupsHaveLostMessages(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream(), Times: quick}
	a := open(t, o)
	const groups = 5000
	addToMany(t, a, groups)
	second, _ := addToMany(t, a, groups)
	kept := add(t, a, text("kept", "x"))
	must(t, a.Close())
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	must(t, stream.Purge(t.Context(), js.WithPurgeSequence(uint64(second))))
	b := open(t, o)
	for _, name := range []string{"many/0", fmt.Sprint("many/", groups/2)} {
		if h := read(t, b, name, 0); h.gap == 0 || h.n != 1 {
			t.Errorf("%s has lost its first message: %v", name, h)
		}
	}
	if h := read(t, b, "kept", kept-1); h.gap > 0 || h.n != 1 {
		t.Errorf("kept has lost nothing: %v", h)
	}
}

// counted waits until the messages up to a seq are counted.
func counted(t *testing.T, admin client, stream string, seq store.Seq) {
	t.Helper()
	bucket, err := admin.KeyValue(t.Context(), stream+"_hubs")
	must(t, err)
	eventually(t, "the messages are counted", func() bool {
		var c struct{ At store.Seq }
		e, err := bucket.Get(t.Context(), "counts")
		return err == nil && json.Unmarshal(e.Value(), &c) == nil && c.At >= seq
	})
}

// TestAMessageThatArrivesWhileALogIsClosedIsCounted holds a message of another hub back until the log is being closed, and then
// purges it.
func TestAMessageThatArrivesWhileALogIsClosedIsCounted(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream(), Times: quick}
	o.Times.Beat = 10 * time.Second // the log does not miss its consumer
	a := open(t, o)
	counted(t, admin, o.Stream, 1) // the log has nothing to write then
	closing := make(chan struct{})
	a.Pace(func(context.Context) { <-closing })
	counted(t, admin, o.Stream, add(t, a, text("x", "held back is what follows")))
	v := &valve{}
	o.Dialer, o.Times.Janitor = v, time.Hour
	other := open(t, o)
	add(t, other, text("z", "purged"))
	v.set(true)
	must(t, other.Close())
	eventually(t, "the other log is given up", func() bool { return len(a.Hubs().List()) == 1 })
	closed := make(chan error, 1)
	go func() { closed <- a.Close() }()
	eventually(t, "the log is being closed", func() bool { return errors.Is(a.Err(), store.ErrClosed) })
	close(closing)
	must(t, <-closed)

	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.z")))
	o.Dialer, o.Times = nil, quick
	if h := read(t, open(t, o), "z", 0); h.gap == 0 {
		t.Errorf("z has lost a message: %v", h)
	}
}

// TestWhatHubsRemoveIsNotMissing opens and closes logs while messages are evicted, expire and are purged, and are removed
// from the stream.
func TestWhatHubsRemoveIsNotMissing(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, log := connect(t, url), &logText{}
	times := quick
	times.Sign, times.Janitor = 20*time.Millisecond, time.Second // a log knows the others before it cleans up
	o := jetstream.Options{URL: url, Stream: newStream(), Server: store.Policy{MaxMessages: 20}, Logger: log.logger(), MaxMarks: 5, Times: times}
	stays := open(t, o)
	for round := range 10 {
		v := &valve{}
		o.Dialer = v
		a := open(t, o)
		for i := range 100 {
			list := []store.Entry{text(fmt.Sprint("g/", i%20), "x"), text("busy", "y")}
			list[0].Retain = i%3 == 0
			if i%4 == 0 {
				list[1].Expires = time.Now().Add(time.Second)
			}
			add(t, []*jetstream.Log{a, stays}[i%2], list...)
		}
		must(t, a.Purge(fmt.Sprint("g/", round)))
		if round == 5 {
			must(t, stays.Close())
			stays = a
		}
		counted(t, admin, o.Stream, 1) // evicted messages were removed
		if round%2 == 1 {
			v.set(true)
		}
		must(t, a.Close())
		if round >= 5 { // no other is open
			must(t, stays.Close())
			o.Dialer = nil
			stays = open(t, o)
		}
	}
	if log.has("while no hub was running") {
		t.Errorf("the hubs miss what they have removed themselves: %s", log)
	}
}

// TestAPurgeThatKeepsMessagesEvictsTheOthers purges all but three messages of a group while a log is open.
func TestAPurgeThatKeepsMessagesEvictsTheOthers(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	o := jetstream.Options{URL: url, Stream: newStream()}
	a := open(t, o)
	for i := range 10 {
		add(t, a, text("x", fmt.Sprint(i)))
	}
	s, err := connect(t, url).Stream(t.Context(), o.Stream)
	must(t, err)
	must(t, s.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.x"), js.WithPurgeKeep(3)))
	for _, l := range []*jetstream.Log{a, open(t, o)} {
		eventually(t, "readers get a gap, and the three messages", func() bool { h := read(t, l, "x", 0); return h.gap > 0 && h.n == 3 })
	}
}

// TestARemovalThatThereWasNoRoomToAnnounceIsNotMissed has a bucket without room for the announcement of a removal. The log is cut off
// before it counts again. Later logs count again.
func TestARemovalThatThereWasNoRoomToAnnounceIsNotMissed(t *testing.T) {
	url := servers.ForTest(t, 1, account(documented(t))).URL()
	admin, log, v := connect(t, as("admin", url)), &logText{}, &valve{}
	o := jetstream.Options{URL: as("hub", url), Stream: jetstream.DefaultStream, Logger: log.logger(), Dialer: v, Times: quick}
	a := open(t, o)
	for i := range 20 {
		add(t, a, text("x", fmt.Sprint(i)), text("y", fmt.Sprint(i)))
	}
	must(t, a.SetPolicy(filters("y")[0], store.Policy{MaxMessages: 100}))
	_, last := end(a)
	counted(t, admin, o.Stream, last)
	bucket, err := admin.Stream(t.Context(), "KV_"+o.Stream+"_hubs")
	must(t, err)
	info, err := bucket.Info(t.Context())
	must(t, err)
	config := info.Config
	config.MaxBytes = int64(info.State.Bytes) + 10
	_, err = admin.UpdateStream(t.Context(), config)
	must(t, err)
	removed, err := admin.nc.Subscribe("$JS.API.STREAM.PURGE."+o.Stream, func(*nats.Msg) { v.set(true) })
	must(t, err)
	must(t, a.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 5}))
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	eventually(t, "messages are removed", func() bool {
		info, err := stream.Info(t.Context(), js.WithSubjectFilter("wb."+o.Stream+".m.x"))
		return err == nil && info.State.Subjects["wb."+o.Stream+".m.x"] == 5
	})
	must(t, removed.Unsubscribe())
	must(t, a.Close())

	config.MaxBytes = -1
	_, err = admin.UpdateStream(t.Context(), config)
	must(t, err)
	v.set(false)
	b := open(t, o)
	if log.has("while no hub was running") {
		t.Errorf("what the log has removed is missing: %s", log)
	}
	_, last = end(b)
	counted(t, admin, o.Stream, last)
	must(t, b.Close())
	must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.y")))
	if h := read(t, open(t, o), "y", 0); h.gap == 0 {
		t.Errorf("y has lost all messages: %v", h)
	}
}

// TestALogThatIsNotTheFirstAnyMoreSaysThatItsRemovalHasEnded has a log remove an evicted message. Before it has counted again, another one takes its
// place. Without a word from it, no purge by hand of a group that is counted together with the evicted message would be told for minutes.
func TestALogThatIsNotTheFirstAnyMoreSaysThatItsRemovalHasEnded(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, v := connect(t, url), &tapped{}
	o := jetstream.Options{URL: url, Stream: newStream(), Dialer: v, Times: quick}
	o.Times.Silent = time.Hour
	a := open(t, o)
	var removes atomic.Bool
	asked := v.lose(func(b []byte) bool {
		if bytes.Contains(b, []byte("STREAM.PURGE."+o.Stream)) {
			removes.Store(true)
		}
		return removes.Load() && asksForCounts(b)
	})
	add(t, a, text("x", "evicted"), text("x", "kept"))
	must(t, a.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 1}))
	<-asked
	bucket, err := admin.KeyValue(t.Context(), o.Stream+"_hubs")
	must(t, err)
	goesOn := func() (announced, goesOn bool) {
		var c struct {
			Removals map[uint64]struct{ Until time.Time }
		}
		e, err := bucket.Get(t.Context(), "counts")
		must(t, err)
		must(t, json.Unmarshal(e.Value(), &c))
		for _, r := range c.Removals {
			announced, goesOn = true, goesOn || !r.Until.IsZero()
		}
		return announced, goesOn
	}
	if _, yes := goesOn(); !yes {
		t.Error("the removal is not announced")
	}
	must(t, admin.nc.Publish("wb."+o.Stream+".hub", []byte(`{"ID":"0","Name":"another"}`)))
	eventually(t, "the log takes another one for the first", func() bool { return a.Hubs().List()[0].ID == "0" })
	whileAway(t, a, &v.valve, v.loseNothing)
	eventually(t, "the removal has ended", func() bool { announced, yes := goesOn(); return announced && !yes })
}

// TestALogThatIsCutOffWhileItRemovesMessagesTellsWhatIsPurged cuts a log off when it removes an evicted message. Meanwhile somebody purges a group that
// is counted together with the evicted message. How many messages are missing is not known then, but the log still has them.
func TestALogThatIsCutOffWhileItRemovesMessagesTellsWhatIsPurged(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, v := connect(t, url), &tapped{}
	o := jetstream.Options{URL: url, Stream: newStream(), Dialer: v, Times: quick}
	a := open(t, o)
	kept, purged := neighbours("x", "kept", 2)[0], neighbours("x", "kept", 2)[1]
	add(t, a, text("x", "evicted"), text("x", "kept"), text(kept, "1"), text(purged, "1"), text(purged, "2"))
	_, last := end(a)
	counted(t, admin, o.Stream, last)
	removes := v.lose(func(b []byte) bool { return bytes.Contains(b, []byte("STREAM.PURGE."+o.Stream)) })
	must(t, a.SetPolicy(filters("x")[0], store.Policy{MaxMessages: 1}))
	<-removes
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	whileAway(t, a, &v.valve, func() {
		v.loseNothing()
		must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m."+purged)))
	})
	eventually(t, "the log tells the purge", func() bool { h := read(t, a, purged, 0); return h.gap > 0 && h.n == 0 })
	h := read(t, a, "x", 0)
	if got := read(t, a, "x", h.gap); got.n != 1 || got.gap > 0 {
		t.Errorf("x has lost only the evicted message: %v", got)
	}
	if got := read(t, a, kept, 0); got.n != 1 || got.gap > 0 {
		t.Errorf("%s has lost nothing: %v", kept, got)
	}
}
