//go:build !windows

package logs

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/watchbox-go/watchbox/store"
	"github.com/watchbox-go/watchbox/store/jetstream"
	"github.com/watchbox-go/watchbox/test/cluster/servers"
)

// neighbour returns a group whose messages the hubs count together with those of another one.
func neighbour(of string) string { return neighbours(of, "kept", 1)[0] }

// neighbours returns groups whose names begin with a prefix and whose messages the hubs count together with those of another one.
func neighbours(of, prefix string, n int) (list []string) {
	part := func(name string) uint32 {
		h := fnv.New32a()
		_, _ = h.Write([]byte(strings.ReplaceAll(name, "/", "."))) // never fails
		return h.Sum32() % 256
	}
	for i := 0; len(list) < n; i++ {
		if name := fmt.Sprint(prefix, i); part(name) == part(of) {
			list = append(list, name)
		}
	}
	return list
}

// TestAPurgeWhileNoHubIsConnectedIsAGap purges messages by hand while all logs are cut off from the servers. They agree on what is
// left when they are back, and so does one that is opened later. A group with messages of all kinds that has lost nothing has no gap, though it is
// counted together with the one that was purged.
func TestAPurgeWhileNoHubIsConnectedIsAGap(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	kept := neighbour("purged")
	for name, test := range map[string]struct {
		options []js.StreamPurgeOpt
		filler  int // size of the messages: all of them fit into memory, or only a few
		policy  int // how many messages the group keeps that is purged; 0: all
		left    int
		keeps   int // how many messages its neighbour keeps; 0: all
	}{
		"of a group":                           {nil, 1, 0, 0, 0},
		"of the beginning of a group":          {[]js.StreamPurgeOpt{js.WithPurgeKeep(5)}, 1, 0, 5, 0},
		"of messages that are not in memory":   {nil, 40_000, 0, 0, 0},
		"of some messages, most not in memory": {[]js.StreamPurgeOpt{js.WithPurgeKeep(5)}, 40_000, 0, 5, 0},
		"of evicted messages, too":             {nil, 40_000, 35, 0, 0},
		"of evicted messages, but some":        {[]js.StreamPurgeOpt{js.WithPurgeKeep(5)}, 40_000, 35, 5, 0},
		"beside a group with evicted messages": {nil, 40_000, 0, 0, 20},
	} {
		t.Run(name, func(t *testing.T) {
			v, o := &valve{}, jetstream.Options{URL: url, Stream: newStream(), MaxMemory: 1 << 20, Times: quick}
			o.Times.Grace = time.Hour
			o.Dialer = v
			logs := []*jetstream.Log{open(t, o), open(t, o)}
			filler := strings.Repeat("x", test.filler)
			for i := range 40 {
				m := store.Message{Group: kept, Time: time.Now(), Retain: i%3 == 0, Msg: store.AppendQuote(nil, filler)}
				if i%4 == 0 && test.keeps == 0 { // a policy counts a message that expires only while it is in memory
					m.Expires = time.Now().Add(time.Hour)
				}
				add(t, logs[0], text("purged", filler), m.Entry(nil))
			}
			for name, most := range map[string]int{"purged": test.policy, kept: test.keeps} {
				must(t, logs[0].SetPolicy(filters(name)[0], store.Policy{MaxMessages: int64(most)}))
				for _, l := range logs {
					eventually(t, "messages are evicted", func() bool { return most == 0 || lasting(l, name) == most })
				}
			}
			before := read(t, logs[0], kept, 0)
			last := add(t, logs[0], text("last", "x"))
			counted(t, admin, o.Stream, last)
			eventually(t, "both have all", func() bool { _, n := end(logs[1]); return n >= last })
			stream, err := admin.Stream(t.Context(), o.Stream)
			must(t, err)

			v.set(true)
			for _, l := range logs {
				eventually(t, "the log is away", func() bool { return l.Err() != nil })
			}
			must(t, stream.Purge(t.Context(), append(test.options, js.WithPurgeSubject("wb."+o.Stream+".m.purged"))...))
			v.set(false)
			for _, l := range logs {
				eventually(t, "the log is back", func() bool { return l.Err() == nil })
			}
			late := add(t, logs[0], text("purged", "after"))
			counted(t, admin, o.Stream, late)
			for i, l := range append(logs, open(t, o)) {
				eventually(t, fmt.Sprint("log ", i, " tells the purge"), func() bool {
					h := read(t, l, "purged", 0)
					return h.gap > 0 && h.n == test.left+1
				})
				if h := read(t, l, kept, before.gap); h.n != before.n || h.gap > 0 {
					t.Errorf("log %d: %s has lost nothing, of %v: %v", i, kept, before, h)
				}
			}
		})
	}
}

// TestAPurgeOfRetainedMessagesWhileNoHubIsConnectedIsAGap purges all but one of the retained messages of a group while the log is cut off. The
// stream still has evicted messages of the group, more than it lacks. It has limits or none. A neighbour was counted before or, as it is new, not: all
// its messages are purged, too.
func TestAPurgeOfRetainedMessagesWhileNoHubIsConnectedIsAGap(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	const plain, retains, keeps = 60, 10, 20
	for name, test := range map[string]struct{ limited, neighbour bool }{
		"in a stream with limits":             {limited: true},
		"in a stream without limits":          {},
		"and of messages that nobody counted": {neighbour: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := jetstream.Options{URL: url, Stream: newStream(), Server: store.Policy{MaxMessages: keeps}, Times: quick}
			o.Times.Grace = time.Hour // what is evicted stays in the stream
			a := open(t, o)
			if test.limited {
				limit(t, admin, o.Stream, func(c *js.StreamConfig) { c.MaxMsgs = 1_000_000 })
			}
			for i := range plain {
				add(t, a, text("g", fmt.Sprint(i)))
			}
			var last store.Seq
			for i := range retains {
				last = add(t, a, retain("g", fmt.Sprint("r", i)))
			}
			counted(t, admin, o.Stream, last)
			must(t, a.Close())

			v := &valve{}
			o.Dialer, o.Times.Janitor = v, time.Hour // it does not count what is stored now
			a = open(t, o)
			uncounted := neighbour("g")
			if test.neighbour {
				for range keeps {
					add(t, a, text(uncounted, "x"))
				}
			}
			stream, err := admin.Stream(t.Context(), o.Stream)
			must(t, err)
			whileAway(t, a, v, func() {
				prefix := "wb." + o.Stream + "."
				must(t, stream.Purge(t.Context(), js.WithPurgeSubject(prefix+"r.g"), js.WithPurgeKeep(1)))
				if test.neighbour {
					must(t, stream.Purge(t.Context(), js.WithPurgeSubject(prefix+"m."+uncounted)))
				}
			})
			lost := last - 1
			told := func(l *jetstream.Log) {
				t.Helper()
				var h history
				defer func() {
					if t.Failed() {
						t.Logf("%v, want a gap up to %d", h, lost)
					}
				}()
				eventually(t, "the purge is told", func() bool {
					h = read(t, l, "g", lost-1)
					return h.gap >= lost && h.n == 1
				})
			}
			told(a)
			told(open(t, o))
			if test.neighbour {
				eventually(t, "the purge of the neighbour is told", func() bool {
					h := read(t, a, uncounted, last)
					return h.gap > last && h.n == 0
				})
			}
		})
	}
}

// TestAPurgeOfOneKindWhileNoHubIsConnectedIsAGap purges the retained messages of a group, most of which are not in memory, and a neighbour that nobody
// has counted. The neighbour does not explain that a subject is gone.
func TestAPurgeOfOneKindWhileNoHubIsConnectedIsAGap(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream(), MaxMemory: 1 << 20, Times: quick}
	a := open(t, o)
	filler := strings.Repeat("x", 40_000)
	var last store.Seq
	for range 20 {
		add(t, a, text("g", filler))
	}
	for range 20 {
		last = add(t, a, retain("g", filler))
	}
	for range 40 {
		last = add(t, a, text("other", filler))
	}
	counted(t, admin, o.Stream, last)
	must(t, a.Close())

	v := &valve{}
	o.Dialer, o.Times.Janitor = v, time.Hour // it does not count what is stored now
	a = open(t, o)
	uncounted := neighbour("g")
	add(t, a, text(uncounted, "x"))
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	whileAway(t, a, v, func() {
		for _, subject := range []string{"r.g", "m." + uncounted} {
			must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+"."+subject)))
		}
	})
	var h history
	defer func() {
		if t.Failed() {
			t.Log(h)
		}
	}()
	const kept = 20
	eventually(t, "the purge is told", func() bool { h = read(t, a, "g", kept); return h.gap > kept && h.n < 20 })
}

// TestPurgesOfManyGroupsWhileNoHubIsConnectedAreGaps purges more groups than the hubs tell one by one, in a stream that has limits.
func TestPurgesOfManyGroupsWhileNoHubIsConnectedAreGaps(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, v := connect(t, url), &valve{}
	o := jetstream.Options{URL: url, Stream: newStream(), Dialer: v, Times: quick}
	a := open(t, o)
	limit(t, admin, o.Stream, func(c *js.StreamConfig) { c.MaxMsgs = 1_000_000 })
	_, last := addToMany(t, a, many)
	counted(t, admin, o.Stream, last)
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	whileAway(t, a, v, func() {
		must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.many.>")))
	})
	for _, name := range []string{"many/0", fmt.Sprint("many/", many-1)} {
		eventually(t, "the purge is told", func() bool { return read(t, a, name, 0).gap > 0 })
	}
	if h := read(t, a, "#", last); h.gap > 0 {
		t.Errorf("a gap behind all messages: %v", h)
	}
}

// TestWhatLimitsRemoveWhileNoHubIsConnectedIsNoGapBehind lowers a limit of the stream, so that it removes messages of more groups than
// the hubs tell one by one.
func TestWhatLimitsRemoveWhileNoHubIsConnectedIsNoGapBehind(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, v := connect(t, url), &valve{}
	o := jetstream.Options{URL: url, Stream: newStream(), Dialer: v, Times: quick}
	a := open(t, o)
	limit(t, admin, o.Stream, func(c *js.StreamConfig) { c.MaxMsgs = 1_000_000 })
	addToMany(t, a, many)
	left, _ := addToMany(t, a, many)
	counted(t, admin, o.Stream, add(t, a, text("kept", "1")))
	whileAway(t, a, v, func() {
		limit(t, admin, o.Stream, func(c *js.StreamConfig) { c.MaxMsgs = many })
	})
	eventually(t, "the log is back", func() bool { return a.Err() == nil })
	counted(t, admin, o.Stream, add(t, a, text("kept", "2"))) // the log knows what is missing
	if h := read(t, a, "many/1", 0); h.gap == 0 || h.n > 1 {
		t.Errorf("a message was removed: %v", h)
	}
	for _, name := range []string{"kept", fmt.Sprint("many/", many-1)} {
		if h := read(t, a, name, left+many/2); h.gap > 0 || h.n == 0 {
			t.Errorf("%s has lost nothing behind what the limit has removed: %v", name, h)
		}
	}
}

// TestALogWithoutRoomToTellWhatIsMissingMakesRoom purges a group while a log is cut off, and leaves the stream no room for the mark. Evicted
// messages wait to be removed. The log may be cut off once more when it is about to do so: it does not wait for an answer then.
func TestALogWithoutRoomToTellWhatIsMissingMakesRoom(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	for name, again := range map[string]bool{"cut off once": false, "cut off again while it does": true} {
		t.Run(name, func(t *testing.T) {
			v := &tapped{}
			o := jetstream.Options{URL: url, Stream: newStream(), Dialer: v, Times: quick}
			o.Times.Grace = time.Hour
			a := open(t, o)
			for range 200 {
				add(t, a, text("evicted", strings.Repeat("x", 10_000)), text("purged", "x"))
			}
			must(t, a.SetPolicy(filters("evicted")[0], store.Policy{MaxMessages: 1}))
			stream, err := admin.Stream(t.Context(), o.Stream)
			must(t, err)
			eventually(t, "the eviction is written", func() bool {
				info, err := stream.Info(t.Context(), js.WithSubjectFilter("wb."+o.Stream+".n.>"))
				return err == nil && slices.ContainsFunc(slices.Collect(maps.Keys(info.State.Subjects)), func(s string) bool { return strings.Contains(s, "evict") })
			})
			counted(t, admin, o.Stream, add(t, a, text("last", "x")))
			var announced <-chan struct{}
			whileAway(t, a, &v.valve, func() {
				must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.purged")))
				info, err := stream.Info(t.Context())
				must(t, err)
				const over = 1 << 20 // more than the reserve of the hubs, and less than the evicted messages
				limit(t, admin, o.Stream, func(c *js.StreamConfig) { c.MaxBytes, c.Discard = int64(info.State.Bytes)-over, js.DiscardNew })
				if again {
					announced = v.lose(func(b []byte) bool { return bytes.Contains(b, []byte("PUB $KV.")) })
				}
			})
			if again {
				<-announced
				whileAway(t, a, &v.valve, v.loseNothing)
			}
			eventually(t, "the purge is told", func() bool { h := read(t, a, "purged", 0); return h.gap > 0 && h.n == 0 })
		})
	}
}

// many are more groups than the hubs tell one by one.
const many = 1100

// addToMany adds a message to each of many groups. It returns the seqs of the first and the last one.
func addToMany(t *testing.T, l *jetstream.Log, groups int) (first, last store.Seq) {
	t.Helper()
	const batch = 100
	for i := 0; i < groups; i += batch {
		var list []store.Entry
		for n := range batch {
			list = append(list, text(fmt.Sprint("many/", i+n), "x"))
		}
		seq := add(t, l, list...)
		if i == 0 {
			first = seq
		}
		last = seq + batch - 1
	}
	return first, last
}

// TestALogThatWasCutOffDoesNotSkipWhatWasPurgedMeanwhile purges messages that are not in memory while one of two logs is cut off. Its
// first read when it is back has a gap, or waits for the mark.
func TestALogThatWasCutOffDoesNotSkipWhatWasPurgedMeanwhile(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream(), MaxMemory: 1 << 20, Times: quick}
	o.Times.Janitor = time.Hour // nobody counts
	a := open(t, o)
	v := &valve{}
	o.Dialer = v
	b := open(t, o)
	filler := strings.Repeat("x", 40_000)
	for range 40 {
		add(t, a, text("purged", filler))
	}
	for range 40 {
		add(t, a, text("other", filler))
	}
	_, last := end(a)
	eventually(t, "both have all", func() bool { _, n := end(b); return n >= last })
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	whileAway(t, b, v, func() {
		must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.purged")))
	})
	eventually(t, "the log reads the stream again", func() bool {
		batch := &store.Batch{Buf: make([]byte, 0, 1<<20)}
		err := b.Read(store.Query{Select: filters("purged")}, batch)
		if err == nil && len(batch.Frames) < 20 && len(batch.Gaps) == 0 {
			t.Fatalf("%d messages up to %d and no gap", len(batch.Frames), batch.Next)
		}
		return err == nil
	})
	if h := read(t, b, "purged", 0); h.n > 0 || h.gap == 0 {
		t.Errorf("all messages were purged: %v", h)
	}
}

// TestALogThatIsOpenedKnowsThePurgesThatAnotherHasNotMarkedYet purges a group while the log whose work it is to write the mark is paused. Another
// one has heard of the purge, and takes long to write it in its place.
func TestALogThatIsOpenedKnowsThePurgesThatAnotherHasNotMarkedYet(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	o := jetstream.Options{URL: url, Stream: newStream(), Times: quick}
	o.Times.Janitor, o.Times.Silent = time.Hour, time.Hour
	a := open(t, o)
	must(t, admin.nc.Publish("wb."+o.Stream+".hub", []byte(`{"ID":"0","Name":"paused"}`)))
	eventually(t, "the log takes another one for the first", func() bool { return a.Hubs().List()[0].ID == "0" })
	before := add(t, a, text("x", "before"))
	lost := add(t, a, text("x", "lost"))
	add(t, a, text("y", "behind"))
	stream, err := admin.Stream(t.Context(), o.Stream)
	must(t, err)
	must(t, stream.Purge(t.Context(), js.WithPurgeSubject("wb."+o.Stream+".m.x")))
	b := open(t, o)
	if h := read(t, b, "x", before); h.gap < lost || h.n > 0 {
		t.Errorf("a message was purged: %v", h)
	}
	if h := read(t, b, "y", before); h.gap > 0 || h.n != 1 {
		t.Errorf("y has lost nothing: %v", h)
	}
}

// TestLogsThatAreCutOffMissNothingThatHubsRemove cuts logs off again and again, both or one of them, while messages are evicted, expire and are
// purged by a hub, and are removed from the stream.
func TestLogsThatAreCutOffMissNothingThatHubsRemove(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin, log := connect(t, url), &logText{}
	o := jetstream.Options{URL: url, Stream: newStream(), Server: store.Policy{MaxMessages: 20}, Logger: log.logger(), Times: quick}
	o.Times.Grace = time.Second // a log that is back has read a mark before others remove what it says
	var valves [2]valve
	var logs [2]*jetstream.Log
	for i := range logs {
		o.Dialer = &valves[i]
		logs[i] = open(t, o)
	}
	for round := range 3 {
		for i := range 100 {
			list := []store.Entry{text(fmt.Sprint("g/", i%20), "x"), text("busy", "y")}
			list[0].Retain = i%3 == 0
			if i%4 == 0 {
				list[1].Expires = time.Now().Add(time.Second)
			}
			add(t, logs[i%2], list...)
		}
		must(t, logs[0].Purge(fmt.Sprint("g/", round)))
		for i := range valves {
			if round%3 == i {
				continue
			}
			valves[i].set(true)
			eventually(t, "the log is away", func() bool { return logs[i].Err() != nil })
		}
		for i := range valves {
			valves[i].set(false)
			eventually(t, "the log is back", func() bool { return logs[i].Err() == nil })
		}
		counted(t, admin, o.Stream, add(t, logs[0], text("last", "z"))) // it knows again what is missing
	}
	if log.has("were purged") || log.has("were removed") {
		t.Errorf("the hubs miss what they have removed themselves: %s", log)
	}
}

// whenItTells returns a log that has found out, at its start or when it is back, that a message of the group first was purged. It calls f when the log
// is about to tell that.
func whenItTells(t *testing.T, admin client, o jetstream.Options, starts bool, f func(v *valve)) *jetstream.Log {
	t.Helper()
	v := &tapped{}
	o.Dialer = v
	a := open(t, o)
	add(t, a, text("first", "1"), text("second", "1"))
	counted(t, admin, o.Stream, add(t, a, text("first", "2"), text("second", "2"))+1)
	purges := func() {
		purgeAllButOne(t, admin, o.Stream, "first")
		var once sync.Once
		v.tap(func(b []byte) bool {
			if bytes.Contains(b, []byte(".n.evict.first")) {
				once.Do(func() { f(&v.valve) })
			}
			return true
		})
	}
	if !starts {
		whileAway(t, a, &v.valve, purges)
		return a
	}
	must(t, a.Close())
	purges()
	return open(t, o)
}

func purgeAllButOne(t *testing.T, admin client, stream, group string) {
	t.Helper()
	s, err := admin.Stream(t.Context(), stream)
	must(t, err)
	must(t, s.Purge(t.Context(), js.WithPurgeSubject("wb."+stream+".m."+group), js.WithPurgeKeep(1)))
}

// TestALogThatIsCutOffAgainComparesAgain purges another group while a log that is about to tell a purge has lost its connection.
func TestALogThatIsCutOffAgainComparesAgain(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	for name, starts := range map[string]bool{"when it starts": true, "when it is back": false} {
		t.Run(name, func(t *testing.T) {
			o := jetstream.Options{URL: url, Stream: newStream()}
			a := whenItTells(t, admin, o, starts, func(v *valve) {
				v.set(true)
				purgeAllButOne(t, admin, o.Stream, "second")
				v.set(false)
			})
			for _, group := range []string{"first", "second"} {
				eventually(t, "the purge of the "+group+" group is told", func() bool { return read(t, a, group, 0).gap > 0 })
			}
		})
	}
}

// TestALogWhoseStreamIsReplacedWhileItTellsComparesAgain holds that it knows soon that nothing is missing in the new stream: before that, it counts
// no messages.
func TestALogWhoseStreamIsReplacedWhileItTellsComparesAgain(t *testing.T) {
	url := servers.ForTest(t, 1).URL()
	admin := connect(t, url)
	for name, starts := range map[string]bool{"when it starts": true, "when it is back": false} {
		t.Run(name, func(t *testing.T) {
			o := jetstream.Options{URL: url, Stream: newStream()}
			replaced := make(chan struct{})
			a := whenItTells(t, admin, o, starts, func(*valve) {
				anew(t, admin, o.Stream)
				close(replaced)
			})
			<-replaced
			const more = 20 // than the old stream had
			for range more {
				eventually(t, "messages are taken again", func() bool {
					_, err := a.Append(t.Context(), []store.Entry{text("x", "x")})
					return err == nil
				})
			}
			_, last := end(a)
			counted(t, admin, o.Stream, last)
		})
	}
}
